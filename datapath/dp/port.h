/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_PORT_H
#define DP_PORT_H

/*
 * Ports and underlays: what they read into bursts, and write from them. A worker owns its struct and its queue of every port,
 * and writes nothing else. The struct lies here since ports are the lowest to know workers.
 */
#include <stdatomic.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>

#include <rte_common.h>
#include <rte_cycles.h>
#include <rte_mbuf.h>

#include "dp.h"
#include "port_capture.h"
#include "port_eth.h"
#include "port_udp.h"
#include "pure_compat.h"
#include "pure_gro.h"
#include "pure_parse.h"
#include "pure_partial.h"
#include "pure_throttle.h"
#include "pure_rx_fairness.h"
#include "pure_rx_standing.h"
#include "table.h"

#define DP_VNET_LEN sizeof(struct virtio_net_hdr)
#define DP_VXLAN_LEN 8
#define DP_ETH_LEN 14
/* Room in front of a frame for its virtio header, and for the VXLAN header that takes its place. */
#define DP_HEADROOM 64
#define DP_BUF_LEN 65535
/* All fragments of the longest frame on a path that carries 576 bytes, and most on narrower ones. */
#define DP_FRAGMENTS_LEN (128 << 10)
_Static_assert(DP_HEADROOM + DP_FRAME_MAX + 1 <= DP_BUF_LEN, "a frame, and a byte to tell a longer one, fit a buffer");

struct dp_claims;
struct dp_frame;
struct dp_neigh_pending;
struct dp_port;
struct dp_shared;
struct dp_shared_kind;
struct dp_worker;

/* What the kinds of port do their own way. */
struct dp_port_ops {
	bool merges;                       /* takes what dp_gro has merged */
	const struct dp_shared_kind *kind; /* of one whose rings are shared with its container */
	/* Queues are polled or watched from then on, and no longer. 0, or a negative errno and nothing changed. */
	int (*start)(struct dp_port *port);
	void (*stop)(struct dp_port *port);
	/* Of one with queues to watch: reads a turn's worth; true when there may be more. */
	bool (*read)(struct dp_worker *w, struct dp_port *port);
	/* Writes n pieces, a virtio-net header first; len is that of the frame behind it. */
	void (*write)(struct dp_worker *w, struct dp_port *port, const struct iovec *iov, int n, uint32_t len);
	/* Writes the frame, or gives its mbuf away. */
	void (*deliver)(struct dp_worker *w, struct dp_port *port, struct dp_frame *frame);
};

extern const struct dp_port_ops dp_tap_ops, dp_native_ops, dp_host_ops, dp_vhost_ops, dp_memif_ops;

struct dp_port {
	const struct dp_port_ops *ops;
	struct dp_eth *eth; /* that the port is, or whose traffic with the host it carries */
	uint32_t id;
	uint32_t generation;
	uint32_t vni;
	uint16_t mtu;   /* bytes of IP packet */
	bool encrypted; /* its network */
	enum dp_trust trust;
	atomic_uint claims; /* that wait to be taken */
	uint8_t mac[6];
	bool has_ip4, has_ip6;
	struct dp_addr ip4, ip6;
	struct dp_addr link_local;          /* the MAC's: RFC 4291 appendix A */
	int fds[DP_MAX_WORKERS];            /* -1 where there are none */
	_Atomic(struct dp_shared *) shared; /* rings, of a port that shares them; NULL: its container is not there */
	uint64_t (*drops)[DP_DROP_COUNT];   /* of each worker: what its container sent, or was to get */
	struct {
		struct dp_traffic traffic;
		uint64_t work;       /* done for the port and not yet held against one of its turns */
		unsigned backlogged; /* turns that left something to read, and were not TCP for the most part; halved when there is nothing left */
		bool masked;         /* see dp_worker_mask */
		uint32_t datagrams;  /* that it has sent since the worker last had nothing to do, or rested: anything but TCP, by segments */
		uint64_t may_tell;   /* cycles from which on it may be told of a frame that is too big: see stage_too_big.c */
	} __rte_cache_aligned worker[DP_MAX_WORKERS];
};

/* A frame on its way: `data` is its Ethernet header, with DP_HEADROOM writable bytes before it when it came from a port. */
struct dp_frame {
	uint8_t *data;
	uint32_t len;
	struct dp_hdrs hdrs;
	struct rte_mbuf **mbuf; /* where the owner of its mbuf keeps it, until someone takes it; NULL: the bytes can only be copied */
	struct virtio_net_hdr vnet;
	uint32_t vni;
	bool encrypted;       /* its network: it leaves as ESP, or not at all */
	dp_captures captures; /* that want it, where w->capturing */
};

/* One VXLAN packet of the underlay, as UDP payload. */
struct dp_packet {
	uint8_t *data;
	uint32_t len;
	uint8_t tos;       /* outer */
	uint16_t gso_size; /* of the UDP super-frame in it, which came whole; 0: not known to be one */
	bool esp;          /* it came encrypted */
	bool checked;      /* the inner TCP or UDP checksum is right, a card has said */
	struct dp_vtep *from;
	struct rte_mbuf **mbuf; /* as in struct dp_frame */
};

/* What a worker has moved since it last had nothing to do, or rested: worker_moderation.c. */
struct dp_moderation {
	uint32_t ports[DP_BURST]; /* that sent datagrams */
	unsigned n_ports;
	uint32_t underlay; /* datagrams that came by the underlay's sockets */
	bool resting;
	uint64_t began; /* cycle count at which the rest did */
};

struct dp_worker {
	unsigned id;
	atomic_bool running;
	clockid_t clock; /* of the CPU time of its thread, which runs */
	int epoll;
	int wake; /* eventfd: something changed, look at `dp_stopping` and at who waits for neighbours */
	struct rte_mbuf *mbufs[DP_BURST];
	struct dp_frame frames[DP_BURST];
	struct dp_port *from[DP_BURST]; /* port of each frame */
	unsigned n_frames;
	/* Ports with something to read, each once. */
	uint32_t ready[DP_MAX_PORTS];
	bool is_ready[DP_MAX_PORTS];
	unsigned n_ready;
	unsigned n_flooding; /* of them, at the beginning of the turn */
	bool throttled;      /* these, in the turn */
	struct dp_throttle throttle;
	struct dp_moderation moderation;
	uint64_t rests;
	bool underlay_ready;
	bool armed;  /* devices are to interrupt the sleep */
	bool waited; /* for room to send, as long as a turn may */
	struct dp_gro *gro;
	struct dp_flow_slot *flow_cache;
	struct dp_source source;
	struct dp_udp udp;
	struct dp_rx_fairness fairness;
	struct dp_rx_standing standing;
	struct dp_shared *written[DP_BURST]; /* to which something was that their containers have not been told of */
	unsigned n_written;
	struct dp_neigh_pending *pending;
	struct dp_claims *claims;
	uint8_t *fragments; /* DP_FRAGMENTS_LEN bytes for those of one frame */
	struct dp_traffic underlay;
	struct dp_bursts bursts[DP_ORIGIN_COUNT];
	uint64_t whole; /* super-frames that left as such */
	uint64_t drops[DP_DROP_COUNT];
	bool capturing; /* somebody captures packets, since the turn began */
	bool chosen;    /* and wants a frame of the burst */
	bool measuring; /* likewise */
	uint64_t mark;  /* cycles before it were given to a stage */
	struct dp_stage_sum stages[DP_STAGE_COUNT];
} __rte_cache_aligned;

struct dp {
	struct dp_config config;
	struct rte_mempool *pool;
	struct rte_mempool *eth_pool; /* NULL: no ethdevs */
	struct dp_worker *workers[DP_MAX_WORKERS];
	_Atomic(struct dp_port *) ports[DP_MAX_PORTS];
	_Atomic(struct dp_eth *) eths[DP_MAX_DEVICES];
	atomic_uint n_eths;      /* numbers in use lie below */
	atomic_uint n_poll_only; /* of them that wake no worker */
	atomic_bool uso;         /* taps take UDP super-frames: TUN_F_USO4 and TUN_F_USO6 */
};

extern struct dp dp;

static inline void
dp_count(struct dp_worker *w, enum dp_drop reason)
{
	w->drops[reason]++;
}

/* Counts what a port's container sent, or was to get. */
static inline void
dp_port_count(struct dp_worker *w, enum dp_drop reason, const struct dp_port *port)
{
	dp_count(w, reason);
	port->drops[w->id][reason]++;
}

/* Counts a frame that ends here; `port` is whose container sent it, or was to get it, NULL where that is nobody, or not known. */
static inline void
dp_drop(struct dp_worker *w, enum dp_drop reason, const struct dp_frame *f, const struct dp_port *port)
{
	dp_count(w, reason);
	if (port)
		port->drops[w->id][reason]++;
	if (unlikely(w->capturing))
		dp_capture_dropped(w, reason, f, NULL);
}

/* Hands a container n pieces, a virtio-net header first; len is that of the frame behind it. */
static inline void
dp_port_write(struct dp_worker *w, struct dp_port *port, const struct iovec *iov, int n, uint32_t len)
{
	if (unlikely(w->capturing))
		dp_capture_delivered(w, port, iov, n);
	port->ops->write(w, port, iov, n, len);
}

/* Hands a container the frame, or gives its mbuf away. */
static inline void
dp_port_deliver(struct dp_worker *w, struct dp_port *port, struct dp_frame *f)
{
	if (unlikely(w->capturing))
		dp_capture_delivered(w, port, (struct iovec[]){ { &f->vnet, DP_VNET_LEN }, { f->data, f->len } }, 2);
	port->ops->deliver(w, port, f);
}

/* Counts what a container does not take. */
static inline void
dp_port_refused(struct dp_worker *w, enum dp_drop reason, const struct dp_port *port, const struct iovec *iov, int n)
{
	dp_port_count(w, reason, port);
	if (unlikely(w->capturing))
		dp_capture_undelivered(w, reason, port, iov, n);
}

/* Counts UDP payload from a VTEP that is dropped as such. */
static inline void
dp_drop_payload(struct dp_worker *w, enum dp_drop reason, const struct dp_vtep *from, const uint8_t *data, uint32_t len)
{
	dp_count(w, reason);
	if (unlikely(w->capturing))
		dp_capture_payload(w, reason, &from->addr, data, len);
}

/* Counts a burst of n packets, at least one. */
static inline void
dp_burst(struct dp_worker *w, enum dp_origin from, unsigned n)
{
	w->bursts[from].packets += n;
	w->bursts[from].sizes[n > 1 ? rte_fls_u32(n - 1) : 0]++;
}

/* Ends a stage of n packets: the cycles since the last one ended are its own. */
static inline void
dp_stage(struct dp_worker *w, enum dp_stage stage, unsigned n)
{
	uint64_t now;

	if (likely(!w->measuring))
		return;
	now = rte_rdtsc();
	w->stages[stage].cycles += now - w->mark;
	w->stages[stage].packets += n;
	w->mark = now;
}

static inline struct dp_port *
dp_port_get(uint32_t id)
{
	return id < DP_MAX_PORTS ? atomic_load_explicit(&dp.ports[id], memory_order_acquire) : NULL;
}

static inline struct dp_eth *
dp_eth_get(uint32_t id)
{
	return id < DP_MAX_DEVICES ? atomic_load_explicit(&dp.eths[id], memory_order_acquire) : NULL;
}

/* What n packets of so many bytes together cost a worker, counted in bytes: a packet costs as much as a thousand of them. */
static inline uint64_t
dp_work(uint64_t packets, uint64_t bytes)
{
	return packets * 1024 + bytes;
}

/* In how many packets of the size something so long goes, about; 0: it goes as it is. */
static inline uint32_t
dp_segments(uint32_t len, uint16_t gso_size)
{
	return gso_size ? len / gso_size + 1 : 1;
}

/* The container's word on its segments counts: it is what the worker goes by, or drops the frame for. */
static inline uint32_t
dp_frame_segments(const struct dp_frame *f)
{
	return dp_segments(f->len, f->vnet.gso_type == VIRTIO_NET_HDR_GSO_NONE ? 0 : f->vnet.gso_size);
}

/*
 * A port that has had something to read for about so many turns on end, other than TCP, has overrun the worker: it waits for
 * nobody's answer. Beside ports that do, its turns are a part of theirs, and it pauses in between, until it has been empty
 * some times.
 */
#define DP_FLOOD_TURNS 16
#define DP_FLOOD_DIVISOR 8

static inline bool
dp_flooding(const struct dp_worker *w, const struct dp_port *port)
{
	return port->worker[w->id].backlogged >= DP_FLOOD_TURNS;
}

/* The port gets a whole turn divided by this. */
static inline unsigned
dp_turn_divisor(const struct dp_worker *w, const struct dp_port *port)
{
	return dp_flooding(w, port) && w->n_ready > w->n_flooding ? DP_FLOOD_DIVISOR : 1;
}

/*
 * Datagrams were moved that came by a port, or by the underlay's sockets: NULL. Rings have no descriptor here, and of more ports than
 * there is room for the last ones are heard always.
 */
static inline void
dp_note_datagrams(struct dp_worker *w, struct dp_port *port, uint32_t n)
{
	struct dp_moderation *m = &w->moderation;

	if (!port) {
		m->underlay += n;
		return;
	}
	if (unlikely(!port->worker[w->id].datagrams)) {
		if (port->fds[w->id] < 0 || m->n_ports == DP_BURST)
			return;
		m->ports[m->n_ports++] = port->id;
	}
	port->worker[w->id].datagrams += n;
}

/* port_tap.c */
enum dp_read {
	DP_READ_FRAME,
	DP_READ_DROPPED,
	DP_READ_EMPTY,
};

/* A dp_read_frame of port_turn.h. */
enum dp_read dp_tap_read(struct dp_worker *w, struct dp_port *port, struct rte_mbuf *buffer, struct dp_frame *f);
int dp_tap_start(struct dp_port *port);
void dp_tap_stop(struct dp_port *port);

/* port_shared.c: tells the containers of what was written to their rings. */
void dp_shared_flush(struct dp_worker *w);

/* port_epoll.c */
int dp_worker_watch(struct dp_worker *w, int fd, uint64_t tag);
/* Of one that nobody reads: it tells of what is new alone. */
int dp_worker_watch_edge(struct dp_worker *w, int fd, uint64_t tag);
void dp_worker_unwatch(struct dp_worker *w, int fd);
/* Whether what is there to read ends no sleep, of a descriptor that is watched. */
void dp_worker_mask(struct dp_worker *w, int fd, uint64_t tag, bool masked);
void dp_port_mask(struct dp_worker *w, struct dp_port *port, bool masked);
/* Ends its sleep. */
void dp_worker_wake(struct dp_worker *w);

/* What an epoll event is about: a port by its number, or one of these. */
#define DP_TAG_WAKE (1ull << 32)
#define DP_TAG_UNDERLAY (2ull << 32)
#define DP_TAG_DEVICE (3ull << 32)

/* Whether the checksum that a container has left out is that of TCP or UDP: where it stands is the container's word. */
static inline bool
dp_checksum_fits(const struct dp_frame *f)
{
	return f->vnet.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM && f->hdrs.transport && f->vnet.csum_start == f->hdrs.l4 && f->vnet.csum_offset == dp_csum_offset(&f->hdrs);
}

/* Whether it may stay out for who takes that; it is told by the pseudo header's sum in its place. */
static inline bool
dp_leave_partial(const struct dp_frame *f)
{
	return dp_checksum_fits(f) && dp_is_partial(f->data, &f->hdrs);
}

/* The inner packet's congestion mark, which the outer one carries as well (RFC 6040 section 4.1). */
static inline uint8_t
dp_ecn(const struct dp_frame *f)
{
	const dp_ipv4_hdr *ip4 = (const void *)(f->data + f->hdrs.l3);
	const dp_ipv6_hdr *ip6 = (const void *)(f->data + f->hdrs.l3);

	if (f->hdrs.version == 4)
		return ip4->type_of_service & RTE_IPV4_HDR_ECN_MASK;
	return f->hdrs.version == 6 ? (ntohl(ip6->vtc_flow) & RTE_IPV6_HDR_ECN_MASK) >> RTE_IPV6_HDR_TC_SHIFT : 0;
}

/* The frames are all of encrypted networks, or none is. */
static inline void
dp_underlay_send(struct dp_worker *w, struct dp_frame **frames, unsigned n, struct dp_vtep *to)
{
	struct dp_eth_outer *outer = atomic_load_explicit(&to->outer, memory_order_acquire);

	if (unlikely(w->chosen))
		dp_capture_sent(w, frames, n, to);
	if (outer && frames[0]->encrypted)
		dp_eth_send_sealed(w, frames, n, outer);
	else if (outer)
		dp_eth_send(w, frames, n, outer);
	else
		for (unsigned i = 0; i < n; i++)
			dp_udp_send(w, frames[i], to);
}

/* Owns the mbuf from then on; port is NULL on the underlay. The turn in which the port was found sends it. */
static inline void
dp_eth_queue(struct dp_worker *w, struct dp_eth *eth, struct dp_port *port, struct rte_mbuf *m)
{
	typeof(eth->worker[0]) *queue = &eth->worker[w->id];

	queue->tx[queue->n_tx++] = m;
	queue->port = port;
	queue->bytes += m->pkt_len;
	if (unlikely(queue->n_tx == DP_ETH_TX))
		dp_eth_send_queue(w, eth);
}

/* Gives the mbuf in which a frame lies to a port that is an ethdev. */
static inline void
dp_eth_forward(struct dp_worker *w, struct dp_port *port, struct rte_mbuf **mbuf, const uint8_t *data, uint32_t len)
{
	struct rte_mbuf *m = *mbuf;

	*mbuf = NULL;
	m->data_off = data - (uint8_t *)m->buf_addr;
	m->data_len = len;
	m->pkt_len = len;
	dp_eth_queue(w, port->eth, port, m);
}

/* Sends what the burst has queued on devices. */
static inline void
dp_eth_flush(struct dp_worker *w)
{
	unsigned n = atomic_load_explicit(&dp.n_eths, memory_order_acquire);

	for (unsigned i = 0; i < n; i++) {
		struct dp_eth *eth = dp_eth_get(i);

		if (eth && eth->worker[w->id].n_tx)
			dp_eth_send_queue(w, eth);
	}
}

#endif
