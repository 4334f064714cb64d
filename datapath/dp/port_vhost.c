// SPDX-License-Identifier: Apache-2.0
/*
 * vhost-user: a container's rings of virtio-net, in memory that it shares. Frames are copied with their virtio-net headers, as from a
 * tap, so that super-frames and unfinished checksums cross as they are. One worker reads a port; each may write, one at a time.
 */
#include <errno.h>
#include <linux/virtio_config.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <rte_spinlock.h>

#include "port_turn.h"
#include "port_vhost.h"
#include "pure_csum.h"
#include "pure_cycles.h"
#include "pure_gso.h"
#include "pure_vring.h"

_Static_assert(DP_VHOST_REGIONS == DP_VRING_REGIONS, "the wall's regions are the rings'");

#ifndef VIRTIO_F_IN_ORDER
#define VIRTIO_F_IN_ORDER 35
#endif

#define BIT(n) (1ull << (n))
/* What the container may leave to us, and what we may leave to it. */
#define FROM_CONTAINER (BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6) | BIT(VIRTIO_NET_F_HOST_ECN))
#define TO_CONTAINER (BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6) | BIT(VIRTIO_NET_F_GUEST_ECN))
/* What its rings may look like, and that chains are given back in order. */
#define LAYOUT (BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_IN_ORDER) | BIT(VIRTIO_F_ANY_LAYOUT) | BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_NET_F_MRG_RXBUF))

const uint64_t dp_vhost_features = FROM_CONTAINER | TO_CONTAINER | LAYOUT;

/* An empty ring is looked at again for so long, before the container must tell: a system call of its, each time. */
#define SPIN_US 50

struct dp_vhost {
	struct dp_vring_memory memory;
	uint64_t features;
	uint16_t hdr_len; /* of the virtio-net header */
	uint32_t gso;     /* types, by their bits, that the container takes */
	uint32_t sends;   /* that it may leave to us */
	int kick, bell, wake;
	atomic_bool broken;
	atomic_uint losses;                /* dp_vhost_losses when the memory was looked at */
	bool dirty[DP_MAX_WORKERS];        /* in the list of those that the worker tells */
	uint64_t last __rte_cache_aligned; /* time of the last frame read, in cycles */
	struct dp_vring from;
	rte_spinlock_t lock __rte_cache_aligned; /* over `to` */
	struct dp_vring to;
};

static const struct dp_port_ops merging_ops;

static struct dp_vhost *
vhost_of(const struct dp_port *port)
{
	return atomic_load_explicit(&port->vhost, memory_order_acquire);
}

static struct dp_worker *
reader_of(const struct dp_port *port)
{
	return dp.workers[port->id % dp.config.n_workers];
}

static void
broke(struct dp_vhost *v)
{
	if (!atomic_exchange(&v->broken, true))
		eventfd_write(v->bell, 1);
}

/* A container that has taken memory away is cut off, whatever the zeros in its place look like. */
static inline void
check_memory(struct dp_vhost *v)
{
	unsigned losses = atomic_load_explicit(&dp_vhost_losses, memory_order_relaxed);

	if (likely(losses == atomic_load_explicit(&v->losses, memory_order_relaxed)))
		return;
	atomic_store(&v->losses, losses);
	for (unsigned i = 0; i < v->memory.n; i++)
		if (dp_vhost_lost(v->memory.regions[i].host))
			broke(v);
}

/* A super-frame goes to other containers as it is: nothing that their kernels might take in another way than we do. */
static bool
super_frame_ok(const struct dp_vhost *v, const struct dp_frame *f)
{
	struct dp_hdrs hdrs;

	if (!(v->sends & 1u << (f->vnet.gso_type & ~VIRTIO_NET_HDR_GSO_ECN & 31)))
		return false;
	return dp_parse(f->data, f->len, &hdrs) == DP_PARSE_OK && dp_gso_segments(f->data, &hdrs, &f->vnet) > 0;
}

static enum dp_read
read_frame(struct dp_worker *w, struct dp_port *port, struct rte_mbuf *buffer, struct dp_frame *f)
{
	struct dp_vhost *v = vhost_of(port);
	uint8_t *data = (uint8_t *)buffer->buf_addr + DP_HEADROOM;
	uint32_t got;

	if (unlikely(!v)) /* since the turn began */
		return DP_READ_EMPTY;
	switch (dp_vring_take(&v->from, &v->memory, data - v->hdr_len, v->hdr_len + DP_FRAME_MAX, &got)) {
	case DP_VRING_OK:
		break;
	case DP_VRING_TOO_LONG:
		dp_count(w, DP_DROP_OVERSIZE);
		return DP_READ_DROPPED;
	case DP_VRING_BROKEN:
		broke(v);
		/* fallthrough */
	default:
		return DP_READ_EMPTY;
	}
	if (got < v->hdr_len) {
		dp_count(w, DP_DROP_RUNT);
		return DP_READ_DROPPED;
	}
	f->data = data;
	f->mbuf = NULL; /* the worker's own, and used again */
	f->len = got - v->hdr_len;
	memcpy(&f->vnet, data - v->hdr_len, DP_VNET_LEN);
	/* The other flags are a device's word, not a driver's: virtio 1.2 section 5.1.6.2. */
	f->vnet.flags &= VIRTIO_NET_HDR_F_NEEDS_CSUM;
	if (unlikely(f->vnet.gso_type != VIRTIO_NET_HDR_GSO_NONE) && !super_frame_ok(v, f)) {
		dp_count(w, DP_DROP_OFFLOAD);
		return DP_READ_DROPPED;
	}
	port->worker[w->id].traffic.rx_packets++;
	port->worker[w->id].traffic.rx_bytes += f->len;
	return DP_READ_FRAME;
}

/* True as long as the ring is polled: for a while after the last frame, then the container is to tell of the next. */
static bool
vhost_read(struct dp_worker *w, struct dp_port *port)
{
	struct dp_vhost *v = vhost_of(port);
	unsigned before = w->n_frames;
	bool more;

	if (!v || atomic_load_explicit(&v->broken, memory_order_relaxed))
		return false;
	dp_vring_quiet(&v->from);
	more = dp_port_turn(w, port, read_frame);
	check_memory(v);
	if (dp_vring_publish(&v->from))
		eventfd_write(v->bell, 1);
	if (more)
		return true;
	if (w->n_frames > before)
		v->last = rte_rdtsc();
	return rte_rdtsc() - v->last <= dp_cycles(SPIN_US) || dp_vring_listen(&v->from);
}

static void
note_written(struct dp_worker *w, struct dp_vhost *v)
{
	if (v->dirty[w->id])
		return;
	if (w->n_vhosts == RTE_DIM(w->vhosts))
		dp_vhost_flush(w);
	v->dirty[w->id] = true;
	w->vhosts[w->n_vhosts++] = v;
}

void
dp_vhost_flush(struct dp_worker *w)
{
	for (unsigned i = 0; i < w->n_vhosts; i++) {
		struct dp_vhost *v = w->vhosts[i];
		bool wake;

		v->dirty[w->id] = false;
		rte_spinlock_lock(&v->lock);
		wake = dp_vring_publish(&v->to);
		rte_spinlock_unlock(&v->lock);
		check_memory(v);
		if (wake)
			eventfd_write(v->bell, 1);
	}
	w->n_vhosts = 0;
}

/* Writes a frame of len bytes behind iov[0], which is put here. */
static void
put(struct dp_worker *w, struct dp_port *port, struct dp_vhost *v, const struct virtio_net_hdr *vnet, struct iovec *iov, uint32_t len)
{
	struct dp_traffic *traffic = &port->worker[w->id].traffic;
	struct virtio_net_hdr_mrg_rxbuf hdr = { .hdr = *vnet };
	enum dp_vring_result result;

	if (!(v->features & BIT(VIRTIO_NET_F_GUEST_CSUM)))
		hdr.hdr.flags = 0;
	iov[0] = (struct iovec){ &hdr, v->hdr_len };
	rte_spinlock_lock(&v->lock);
	result = atomic_load_explicit(&v->broken, memory_order_relaxed) ? DP_VRING_BROKEN : dp_vring_put(&v->to, &v->memory, iov, v->hdr_len + len, v->features & BIT(VIRTIO_NET_F_MRG_RXBUF), &hdr.num_buffers);
	rte_spinlock_unlock(&v->lock);
	iov[0] = (struct iovec){ 0 }; /* the header is gone with this call */
	switch (result) {
	case DP_VRING_OK:
		note_written(w, v);
		traffic->tx_packets++;
		traffic->tx_bytes += len;
		break;
	case DP_VRING_EMPTY:
		dp_count(w, DP_DROP_VHOST_FULL);
		break;
	case DP_VRING_TOO_LONG:
		dp_count(w, DP_DROP_VHOST_BUFFER);
		break;
	case DP_VRING_BROKEN:
		broke(v);
		dp_count(w, DP_DROP_VHOST_DOWN);
	}
}

/* Whether the container takes the frame as its virtio-net header has it. */
static inline bool
takes(const struct dp_vhost *v, const struct virtio_net_hdr *vnet)
{
	if (likely(!(vnet->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)))
		return true;
	if (vnet->gso_type == VIRTIO_NET_HDR_GSO_NONE)
		return v->features & BIT(VIRTIO_NET_F_GUEST_CSUM);
	if (vnet->gso_type & VIRTIO_NET_HDR_GSO_ECN && !(v->features & BIT(VIRTIO_NET_F_GUEST_ECN)))
		return false;
	return v->gso & 1u << (vnet->gso_type & ~VIRTIO_NET_HDR_GSO_ECN & 31);
}

/* Segments of a super-frame that the container does not take. */
static void
put_segments(struct dp_worker *w, struct dp_port *port, struct dp_vhost *v, const struct dp_frame *f)
{
	static const struct virtio_net_hdr none;
	struct dp_gso gso;
	int n = dp_gso_plan(&gso, f->data, &f->hdrs, &f->vnet);

	if (n < 0) {
		dp_count(w, DP_DROP_OFFLOAD);
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
		put(w, port, v, &none, iov, gso.hdr_len + len);
	}
}

/* The frame is finished where it lies: others that it goes to as well get it so. */
static void
vhost_deliver(struct dp_worker *w, struct dp_port *port, struct dp_frame *f)
{
	struct dp_vhost *v = vhost_of(port);
	struct iovec iov[2] = { { 0 }, { f->data, f->len } };

	if (unlikely(!v)) {
		dp_count(w, DP_DROP_VHOST_DOWN);
		return;
	}
	if (unlikely(!takes(v, &f->vnet))) {
		if (f->vnet.gso_type != VIRTIO_NET_HDR_GSO_NONE) {
			put_segments(w, port, v, f);
			return;
		}
		if (dp_csum_complete(f->data, f->len, f->vnet.csum_start, f->vnet.csum_offset)) {
			dp_count(w, DP_DROP_OFFLOAD);
			return;
		}
		f->vnet = (struct virtio_net_hdr){ 0 };
	}
	put(w, port, v, &f->vnet, iov, f->len);
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
		vhost_deliver(w, port, &f);
	else
		dp_count(w, DP_DROP_OFFLOAD);
}

static void
vhost_write(struct dp_worker *w, struct dp_port *port, const struct iovec *iov, int n, uint32_t len)
{
	const struct virtio_net_hdr *vnet = iov[0].iov_base;
	struct dp_vhost *v = vhost_of(port);
	struct iovec copy[1 + DP_GRO_SEGS];

	if (unlikely(!v)) {
		dp_count(w, DP_DROP_VHOST_DOWN);
		return;
	}
	if (unlikely(!takes(v, vnet))) {
		write_merged(w, port, iov, n);
		return;
	}
	memcpy(copy, iov, n * sizeof(*iov));
	put(w, port, v, vnet, copy, len);
}

static void
ring_open(struct dp_vring *r, const struct dp_vhost_ring *from)
{
	*r = (struct dp_vring){ .desc = (const void *)(uintptr_t)from->desc, .avail = (const void *)(uintptr_t)from->avail, .used = (void *)(uintptr_t)from->used, .size = from->size };
}

static uint32_t
gso_types(uint64_t features, unsigned tso4, unsigned tso6)
{
	return (features >> tso4 & 1) << VIRTIO_NET_HDR_GSO_TCPV4 | (features >> tso6 & 1) << VIRTIO_NET_HDR_GSO_TCPV6;
}

static void
vhost_init(struct dp_vhost *v, const struct dp_vhost_config *c)
{
	*v = (struct dp_vhost){ .features = c->features, .kick = c->kick, .bell = c->bell, .hdr_len = DP_VNET_LEN };
	if (c->features & (BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_NET_F_MRG_RXBUF)))
		v->hdr_len = sizeof(struct virtio_net_hdr_mrg_rxbuf);
	v->gso = gso_types(c->features, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6);
	v->sends = gso_types(c->features, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6);
	v->memory.n = c->n_regions;
	for (unsigned i = 0; i < c->n_regions; i++)
		v->memory.regions[i] = (struct dp_vring_region){ c->regions[i].guest, c->regions[i].len, (void *)(uintptr_t)c->regions[i].host };
	rte_spinlock_init(&v->lock);
	ring_open(&v->from, &c->from);
	ring_open(&v->to, &c->to);
	dp_vring_start(&v->from);
	dp_vring_start(&v->to);
}

static void
vhost_free(struct dp_port *port, struct dp_vhost *v)
{
	dp_worker_unwatch(reader_of(port), v->kick);
	dp_synchronize();
	close(v->wake);
	free(v);
}

/* What the container wrote before it could tell is looked for once: it may have been told to be quiet by a daemon that is gone. */
int
dp_vhost_start(uint32_t id, const struct dp_vhost_config *config)
{
	const uint64_t tso = BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6);
	struct dp_port *port = dp_port_get(id);
	struct dp_vhost *v;
	int ret;

	if (!port || vhost_of(port))
		return port ? -EBUSY : -ENOENT;
	v = aligned_alloc(RTE_CACHE_LINE_SIZE, RTE_ALIGN_CEIL(sizeof(*v), RTE_CACHE_LINE_SIZE));
	if (!v)
		return -ENOMEM;
	vhost_init(v, config);
	v->wake = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
	if (v->wake < 0) {
		free(v);
		return -EMFILE;
	}
	/* A frame that is on its way through the other set is dealt with by either. */
	port->ops = (config->features & tso) == tso ? &merging_ops : &dp_vhost_ops;
	atomic_store_explicit(&port->vhost, v, memory_order_release);
	ret = dp_worker_watch_edge(reader_of(port), v->kick, id);
	if (!ret)
		ret = dp_worker_watch_edge(reader_of(port), v->wake, id);
	if (ret)
		dp_vhost_stop(id);
	return ret;
}

void
dp_vhost_stop(uint32_t id)
{
	struct dp_port *port = dp_port_get(id);
	struct dp_vhost *v = port ? atomic_exchange(&port->vhost, NULL) : NULL;

	if (v)
		vhost_free(port, v);
}

uint16_t
dp_vhost_index(const struct dp_vhost_ring *ring)
{
	struct dp_vring r;

	ring_open(&r, ring);
	return dp_vring_at(&r);
}

bool
dp_vhost_broken(uint32_t id)
{
	const struct dp_port *port = dp_port_get(id);
	const struct dp_vhost *v = port ? vhost_of(port) : NULL;

	return v && atomic_load(&v->broken);
}

static int
vhost_start(struct dp_port *port)
{
	(void)port;
	return 0;
}

static void
vhost_stop(struct dp_port *port)
{
	dp_vhost_stop(port->id);
}

const struct dp_port_ops dp_vhost_ops = {
	.start = vhost_start,
	.stop = vhost_stop,
	.read = vhost_read,
	.write = vhost_write,
	.deliver = vhost_deliver,
};

/* Of a container that takes super-frames. */
static const struct dp_port_ops merging_ops = {
	.merges = true,
	.start = vhost_start,
	.stop = vhost_stop,
	.read = vhost_read,
	.write = vhost_write,
	.deliver = vhost_deliver,
};
