// SPDX-License-Identifier: Apache-2.0
/*
 * memif: rings in memory of ours, which the container maps. They carry Ethernet frames and nothing else, so that super-frames are cut
 * and checksums finished on the way there.
 */
#include <errno.h>
#include <stdlib.h>

#include "port_shared.h"
#include "pure_memif.h"

_Static_assert(DP_MEMIF_BUFFER << DP_MEMIF_LOG2_MIN >= DP_FRAME_MAX && DP_MEMIF_FRAME_MAX >= DP_FRAME_MAX, "the longest frame fits the smallest ring");

/*
 * For so long a ring is polled on after the container was asked to tell of frames. net_memif publishes a frame and then looks whether it
 * is to tell, and a processor may do that the other way round: what it has not told of is to be seen by then. A store leaves a processor
 * within a microsecond or so.
 */
#define SETTLE_US 10

struct dp_memif {
	struct dp_shared shared;
	uint64_t asked; /* when the container was asked, in cycles */
	struct dp_memif_ring from __rte_cache_aligned;
	struct dp_memif_ring to __rte_cache_aligned;
};

static struct dp_memif *
memif_of(const struct dp_port *port)
{
	return (struct dp_memif *)dp_shared_of(port);
}

static enum dp_read
read_frame(struct dp_worker *w, struct dp_port *port, struct rte_mbuf *buffer, struct dp_frame *f)
{
	struct dp_memif *m = memif_of(port);
	uint8_t *data = (uint8_t *)buffer->buf_addr + DP_HEADROOM;
	uint32_t len;

	if (unlikely(!m)) /* since the turn began */
		return DP_READ_EMPTY;
	switch (dp_memif_take(&m->from, data, DP_FRAME_MAX, &len)) {
	case DP_RING_OK:
		break;
	case DP_RING_TOO_LONG:
		dp_port_count(w, DP_DROP_OVERSIZE, port);
		return DP_READ_DROPPED;
	case DP_RING_BROKEN:
		dp_shared_broke(w, &m->shared, m->from.fault);
		/* fallthrough */
	default:
		return DP_READ_EMPTY;
	}
	f->vnet = (struct virtio_net_hdr){ 0 };
	dp_shared_got(w, port, f, data, len);
	return DP_READ_FRAME;
}

/* Whether nothing more comes of which the container does not tell. */
static bool
settled(struct dp_memif *m)
{
	if (m->from.quiet) {
		dp_memif_listen(&m->from);
		m->asked = rte_rdtsc();
		return false;
	}
	return rte_rdtsc() - m->asked > dp_cycles(SETTLE_US) && !dp_memif_waiting(&m->from);
}

/* True as long as the ring is polled: for a while after the last frame, then the container is to tell of the next. */
static bool
memif_read(struct dp_worker *w, struct dp_port *port)
{
	struct dp_memif *m = memif_of(port);
	unsigned before = w->n_frames;
	bool more;

	if (!m || dp_shared_is_broken(&m->shared))
		return false;
	more = dp_port_turn(w, port, read_frame);
	dp_shared_check_memory(w, &m->shared);
	dp_memif_return(&m->from);
	if (w->n_frames > before)
		dp_memif_quiet(&m->from);
	return more || dp_shared_spin(&m->shared, w->n_frames > before) || !settled(m);
}

/* There is no virtio-net header: what it would say was done. */
static enum dp_ring_result
put(struct dp_shared *s, const struct virtio_net_hdr *vnet, struct iovec *iov, uint32_t len)
{
	(void)vnet;
	return dp_memif_put(&((struct dp_memif *)s)->to, iov + 1, len);
}

static bool
publish(struct dp_shared *s)
{
	return dp_memif_publish(&((struct dp_memif *)s)->to);
}

static const char *
fault(const struct dp_shared *s)
{
	return ((const struct dp_memif *)s)->to.fault;
}

static const struct dp_shared_kind kind = {
	.down = DP_DROP_MEMIF_DOWN,
	.full = DP_DROP_MEMIF_FULL,
	.buffer = DP_DROP_OVERSIZE,
	.broken = DP_DROP_MEMIF_RING,
	.put = put,
	.publish = publish,
	.fault = fault,
};

const struct dp_port_ops dp_memif_ops = {
	.kind = &kind,
	.start = dp_shared_port_start,
	.stop = dp_shared_port_stop,
	.read = memif_read,
	.write = dp_shared_write,
	.deliver = dp_shared_deliver,
};

uint64_t
dp_memif_len(unsigned log2)
{
	return dp_memif_memory_len(1u << log2);
}

uint32_t
dp_memif_ring(unsigned log2, bool from)
{
	return dp_memif_ring_offset(1u << log2, from);
}

void
dp_memif_format(uint64_t host, unsigned log2)
{
	dp_memif_layout((uint8_t *)(uintptr_t)host, 1u << log2);
}

int
dp_memif_start(uint32_t port, const struct dp_memif_config *config)
{
	struct dp_memif *m = aligned_alloc(RTE_CACHE_LINE_SIZE, RTE_ALIGN_CEIL(sizeof(*m), RTE_CACHE_LINE_SIZE));
	uint8_t *memory = (uint8_t *)(uintptr_t)config->host;

	if (!m)
		return -ENOMEM;
	*m = (struct dp_memif){ .shared = { .kind = &kind, .kick = config->kick, .bell = config->bell, .n_regions = 1, .regions = { memory } } };
	dp_memif_open(&m->from, memory, 1u << config->log2, true);
	dp_memif_open(&m->to, memory, 1u << config->log2, false);
	dp_memif_return(&m->from);
	return dp_shared_start(port, &m->shared, &dp_memif_ops);
}
