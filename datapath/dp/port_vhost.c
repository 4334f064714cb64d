// SPDX-License-Identifier: Apache-2.0
/*
 * vhost-user: a container's rings of virtio-net, in memory that it shares. Frames are copied with their virtio-net headers, as from a
 * tap, so that super-frames and unfinished checksums cross as they are. One worker reads a port; each may write, one at a time.
 */
#include <errno.h>
#include <linux/virtio_config.h>
#include <stdlib.h>

#include "port_shared.h"
#include "pure_gso.h"
#include "pure_vring.h"

_Static_assert(DP_SHARED_REGIONS == DP_VRING_REGIONS, "the wall's regions are the rings'");

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

struct dp_vhost {
	struct dp_shared shared;
	struct dp_vring_memory memory;
	uint64_t features;
	uint16_t hdr_len; /* of the virtio-net header */
	uint32_t sends;   /* types of super-frames, by their bits, that the container may leave to us */
	struct dp_vring from __rte_cache_aligned;
	struct dp_vring to __rte_cache_aligned;
};

static struct dp_vhost *
vhost_of(const struct dp_port *port)
{
	return (struct dp_vhost *)dp_shared_of(port);
}

static const char *
fault(const struct dp_shared *s)
{
	(void)s;
	return "a ring holds what no driver writes";
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
	case DP_RING_OK:
		break;
	case DP_RING_TOO_LONG:
		dp_port_count(w, DP_DROP_OVERSIZE, port);
		return DP_READ_DROPPED;
	case DP_RING_BROKEN:
		dp_shared_broke(w, &v->shared, fault(&v->shared));
		/* fallthrough */
	default:
		return DP_READ_EMPTY;
	}
	if (got < v->hdr_len) {
		dp_port_count(w, DP_DROP_RUNT, port);
		return DP_READ_DROPPED;
	}
	memcpy(&f->vnet, data - v->hdr_len, DP_VNET_LEN);
	f->data = data;
	f->len = got - v->hdr_len;
	/* The other flags are a device's word, not a driver's: virtio 1.2 section 5.1.6.2. */
	f->vnet.flags &= VIRTIO_NET_HDR_F_NEEDS_CSUM;
	if (unlikely(f->vnet.gso_type != VIRTIO_NET_HDR_GSO_NONE) && !super_frame_ok(v, f)) {
		dp_port_count(w, DP_DROP_OFFLOAD, port);
		return DP_READ_DROPPED;
	}
	dp_shared_got(w, port, f, data, f->len);
	return DP_READ_FRAME;
}

/* True as long as the ring is polled: for a while after the last frame, then the container is to tell of the next. */
static bool
vhost_read(struct dp_worker *w, struct dp_port *port)
{
	struct dp_vhost *v = vhost_of(port);
	unsigned before = w->n_frames;
	bool more;

	if (!v || dp_shared_is_broken(&v->shared))
		return false;
	dp_vring_quiet(&v->from);
	more = dp_port_turn(w, port, read_frame);
	dp_shared_check_memory(w, &v->shared);
	if (dp_vring_publish(&v->from))
		eventfd_write(v->shared.bell, 1);
	return more || dp_shared_spin(&v->shared, w->n_frames > before) || dp_vring_listen(&v->from);
}

static enum dp_ring_result
put(struct dp_shared *s, const struct virtio_net_hdr *vnet, struct iovec *iov, uint32_t len)
{
	struct dp_vhost *v = (struct dp_vhost *)s;
	struct virtio_net_hdr_mrg_rxbuf hdr = { .hdr = *vnet };
	enum dp_ring_result result;

	if (!s->sums)
		hdr.hdr.flags = 0;
	iov[0] = (struct iovec){ &hdr, v->hdr_len };
	result = dp_vring_put(&v->to, &v->memory, iov, v->hdr_len + len, v->features & BIT(VIRTIO_NET_F_MRG_RXBUF), &hdr.num_buffers);
	iov[0] = (struct iovec){ 0 }; /* the header is gone with this call */
	return result;
}

static bool
publish(struct dp_shared *s)
{
	return dp_vring_publish(&((struct dp_vhost *)s)->to);
}

static const struct dp_shared_kind kind = {
	.down = DP_DROP_VHOST_DOWN,
	.full = DP_DROP_VHOST_FULL,
	.buffer = DP_DROP_VHOST_BUFFER,
	.broken = DP_DROP_VHOST_RING,
	.put = put,
	.publish = publish,
	.fault = fault,
};

const struct dp_port_ops dp_vhost_ops = {
	.kind = &kind,
	.start = dp_shared_port_start,
	.stop = dp_shared_port_stop,
	.read = vhost_read,
	.write = dp_shared_write,
	.deliver = dp_shared_deliver,
};

/* Of a container that takes super-frames. */
static const struct dp_port_ops merging_ops = {
	.merges = true,
	.kind = &kind,
	.start = dp_shared_port_start,
	.stop = dp_shared_port_stop,
	.read = vhost_read,
	.write = dp_shared_write,
	.deliver = dp_shared_deliver,
};

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
	*v = (struct dp_vhost){ .features = c->features, .hdr_len = DP_VNET_LEN };
	if (c->features & (BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_NET_F_MRG_RXBUF)))
		v->hdr_len = sizeof(struct virtio_net_hdr_mrg_rxbuf);
	v->sends = gso_types(c->features, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6);
	v->shared.kind = &kind;
	v->shared.kick = c->kick;
	v->shared.bell = c->bell;
	v->shared.sums = c->features & BIT(VIRTIO_NET_F_GUEST_CSUM);
	v->shared.ecn = c->features & BIT(VIRTIO_NET_F_GUEST_ECN);
	v->shared.gso = gso_types(c->features, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6);
	v->shared.n_regions = v->memory.n = c->n_regions;
	for (unsigned i = 0; i < c->n_regions; i++) {
		v->memory.regions[i] = (struct dp_vring_region){ c->regions[i].guest, c->regions[i].len, (void *)(uintptr_t)c->regions[i].host };
		v->shared.regions[i] = v->memory.regions[i].host;
	}
	ring_open(&v->from, &c->from);
	ring_open(&v->to, &c->to);
	dp_vring_start(&v->from);
	dp_vring_start(&v->to);
}

int
dp_vhost_start(uint32_t port, const struct dp_vhost_config *config)
{
	const uint64_t tso = BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6);
	struct dp_vhost *v = aligned_alloc(RTE_CACHE_LINE_SIZE, RTE_ALIGN_CEIL(sizeof(*v), RTE_CACHE_LINE_SIZE));

	if (!v)
		return -ENOMEM;
	vhost_init(v, config);
	return dp_shared_start(port, &v->shared, (config->features & tso) == tso ? &merging_ops : &dp_vhost_ops);
}

uint16_t
dp_vhost_index(const struct dp_vhost_ring *ring)
{
	struct dp_vring r;

	ring_open(&r, ring);
	return dp_vring_at(&r);
}
