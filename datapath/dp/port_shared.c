// SPDX-License-Identifier: Apache-2.0
/* Ports whose rings lie in memory that is shared with a container: their life, and frames on their way there. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "port_shared.h"
#include "pure_csum.h"
#include "pure_gso.h"

static struct dp_worker *
reader_of(const struct dp_port *port)
{
	return dp.workers[port->id % dp.config.n_workers];
}

void
dp_shared_broke(struct dp_worker *w, struct dp_shared *s, const char *fault)
{
	const char *none = NULL;

	if (!atomic_compare_exchange_strong(&s->fault, &none, fault))
		return;
	dp_count(w, s->kind->broken);
	eventfd_write(s->bell, 1);
}

void
dp_shared_memory_gone(struct dp_worker *w, struct dp_shared *s, unsigned losses)
{
	atomic_store(&s->losses, losses);
	for (unsigned i = 0; i < s->n_regions; i++)
		if (dp_shared_lost(s->regions[i]))
			dp_shared_broke(w, s, "memory that was shared is gone");
}

/*
 * Whoever writes alone needs no lock: taking one waits until all that was written before is, to lines that the container's core has.
 * For the same reason it is given back by a store; rte_spinlock_unlock exchanges.
 */
static inline void
lock(struct dp_shared *s)
{
	if (dp.config.n_workers > 1)
		rte_spinlock_lock(&s->lock);
}

static inline void
unlock(struct dp_shared *s)
{
	if (dp.config.n_workers > 1)
		__atomic_store_n(&s->lock.locked, 0, __ATOMIC_RELEASE);
}

static void
note_written(struct dp_worker *w, struct dp_shared *s)
{
	if (s->dirty[w->id])
		return;
	if (w->n_written == RTE_DIM(w->written))
		dp_shared_flush(w);
	s->dirty[w->id] = true;
	w->written[w->n_written++] = s;
}

void
dp_shared_flush(struct dp_worker *w)
{
	for (unsigned i = 0; i < w->n_written; i++) {
		struct dp_shared *s = w->written[i];
		bool wake;

		s->dirty[w->id] = false;
		lock(s);
		wake = s->kind->publish(s);
		unlock(s);
		dp_shared_check_memory(w, s);
		if (wake)
			eventfd_write(s->bell, 1);
	}
	w->n_written = 0;
}

static enum dp_drop
down(const struct dp_port *port)
{
	return port->ops->kind->down;
}

/* Counts a frame of len bytes behind iov[0] that is not taken. */
static void
refused(struct dp_worker *w, enum dp_drop reason, const struct dp_port *port, const struct virtio_net_hdr *vnet, struct iovec *iov, uint32_t len)
{
	int n = 1;

	iov[0] = (struct iovec){ (void *)vnet, DP_VNET_LEN };
	for (uint32_t left = len; left; n++)
		left -= RTE_MIN(left, (uint32_t)iov[n].iov_len);
	dp_port_refused(w, reason, port, iov, n);
}

/* Writes a frame of len bytes behind iov[0], which is the kind's. */
static void
put(struct dp_worker *w, struct dp_port *port, struct dp_shared *s, const struct virtio_net_hdr *vnet, struct iovec *iov, uint32_t len)
{
	struct dp_traffic *traffic = &port->worker[w->id].traffic;
	enum dp_ring_result result;

	if (unlikely(dp_shared_is_broken(s))) {
		refused(w, s->kind->down, port, vnet, iov, len);
		return;
	}
	lock(s);
	result = s->kind->put(s, vnet, iov, len);
	unlock(s);
	switch (result) {
	case DP_RING_OK:
		note_written(w, s);
		traffic->tx_packets++;
		traffic->tx_bytes += len;
		break;
	case DP_RING_EMPTY:
		refused(w, s->kind->full, port, vnet, iov, len);
		break;
	case DP_RING_TOO_LONG:
		refused(w, s->kind->buffer, port, vnet, iov, len);
		break;
	case DP_RING_BROKEN:
		dp_shared_broke(w, s, s->kind->fault(s));
		refused(w, s->kind->down, port, vnet, iov, len);
	}
}

/* Whether the container takes the frame as its virtio-net header has it. */
static inline bool
takes(const struct dp_shared *s, const struct virtio_net_hdr *vnet)
{
	if (likely(!(vnet->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)))
		return true;
	if (vnet->gso_type == VIRTIO_NET_HDR_GSO_NONE)
		return s->sums;
	if (vnet->gso_type & VIRTIO_NET_HDR_GSO_ECN && !s->ecn)
		return false;
	return s->gso & 1u << (vnet->gso_type & ~VIRTIO_NET_HDR_GSO_ECN & 31);
}

/* Segments of a super-frame that the container does not take. */
static void
put_segments(struct dp_worker *w, struct dp_port *port, struct dp_shared *s, const struct dp_frame *f)
{
	static const struct virtio_net_hdr none;
	struct dp_gso gso;
	int n = dp_gso_plan(&gso, f->data, &f->hdrs, &f->vnet);

	if (n < 0) {
		dp_drop(w, DP_DROP_OFFLOAD, f, port);
		return;
	}
	for (int i = 0; i < n; i++) {
		uint8_t hdr[DP_GSO_HDR_MAX];
		const uint8_t *payload;
		uint32_t len;
		struct iovec iov[3];

		dp_gso_segment(&gso, i, hdr, &payload, &len);
		iov[1] = (struct iovec){ hdr, gso.hdr_len };
		iov[2] = (struct iovec){ (void *)payload, len };
		put(w, port, s, &none, iov, gso.hdr_len + len);
	}
}

/* The frame is finished where it lies: others that it goes to as well get it so. */
void
dp_shared_deliver(struct dp_worker *w, struct dp_port *port, struct dp_frame *f)
{
	struct dp_shared *s = dp_shared_of(port);
	struct iovec iov[2] = { { 0 }, { f->data, f->len } };

	if (unlikely(!s)) {
		refused(w, down(port), port, &f->vnet, iov, f->len);
		return;
	}
	if (unlikely(!takes(s, &f->vnet))) {
		if (f->vnet.gso_type != VIRTIO_NET_HDR_GSO_NONE) {
			put_segments(w, port, s, f);
			return;
		}
		if (dp_csum_complete(f->data, f->len, f->vnet.csum_start, f->vnet.csum_offset)) {
			refused(w, DP_DROP_OFFLOAD, port, &f->vnet, iov, f->len);
			return;
		}
		f->vnet = (struct virtio_net_hdr){ 0 };
	}
	put(w, port, s, &f->vnet, iov, f->len);
}

/* What was merged for a container that takes other super-frames: it is put together, to be cut up again. */
static void
write_merged(struct dp_worker *w, struct dp_port *port, const struct iovec *iov, int n)
{
	struct dp_frame f = { .data = w->fragments, .vnet = *(const struct virtio_net_hdr *)iov[0].iov_base };

	for (int i = 1; i < n; i++) {
		memcpy(f.data + f.len, iov[i].iov_base, iov[i].iov_len);
		f.len += iov[i].iov_len;
	}
	if (dp_parse(f.data, f.len, &f.hdrs) == DP_PARSE_OK)
		dp_shared_deliver(w, port, &f);
	else
		dp_port_refused(w, DP_DROP_OFFLOAD, port, iov, n);
}

void
dp_shared_write(struct dp_worker *w, struct dp_port *port, const struct iovec *iov, int n, uint32_t len)
{
	const struct virtio_net_hdr *vnet = iov[0].iov_base;
	struct dp_shared *s = dp_shared_of(port);
	struct iovec copy[1 + DP_GRO_SEGS];

	if (unlikely(!s)) {
		dp_port_refused(w, down(port), port, iov, n);
		return;
	}
	if (unlikely(!takes(s, vnet))) {
		write_merged(w, port, iov, n);
		return;
	}
	memcpy(copy, iov, n * sizeof(*iov));
	put(w, port, s, vnet, copy, len);
}

static void
shared_free(struct dp_port *port, struct dp_shared *s)
{
	dp_worker_unwatch(reader_of(port), s->kick);
	dp_synchronize();
	close(s->wake);
	free(s);
}

/* What the container wrote before it could tell is looked for once: it may have been told to be quiet by a daemon that is gone. */
int
dp_shared_start(uint32_t id, struct dp_shared *s, const struct dp_port_ops *ops)
{
	struct dp_port *port = dp_port_get(id);
	int ret;

	if (!port || dp_shared_of(port)) {
		free(s);
		return port ? -EBUSY : -ENOENT;
	}
	rte_spinlock_init(&s->lock);
	s->wake = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->wake < 0) {
		free(s);
		return -EMFILE;
	}
	/* A frame that is on its way through another set of the kind is dealt with by either. */
	port->ops = ops;
	atomic_store_explicit(&port->shared, s, memory_order_release);
	ret = dp_worker_watch_edge(reader_of(port), s->kick, id);
	if (!ret)
		ret = dp_worker_watch_edge(reader_of(port), s->wake, id);
	if (ret)
		dp_shared_stop(id);
	return ret;
}

void
dp_shared_stop(uint32_t id)
{
	struct dp_port *port = dp_port_get(id);
	struct dp_shared *s = port ? atomic_exchange(&port->shared, NULL) : NULL;

	if (!s)
		return;
	shared_free(port, s);
}

const char *
dp_shared_fault(uint32_t id)
{
	const struct dp_port *port = dp_port_get(id);
	const struct dp_shared *s = port ? dp_shared_of(port) : NULL;

	return s ? atomic_load(&s->fault) : NULL;
}

int
dp_shared_port_start(struct dp_port *port)
{
	(void)port;
	return 0;
}

void
dp_shared_port_stop(struct dp_port *port)
{
	dp_shared_stop(port->id);
}
