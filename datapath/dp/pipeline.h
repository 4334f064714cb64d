/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_PIPELINE_H
#define DP_PIPELINE_H

/*
 * What the rooms of the pipeline share. A worker owns its struct, of which others write `news` alone, and its queue of every
 * port, and writes nothing else; tables are written by the control thread alone and reclaimed after a grace period (rte_rcu_qsbr).
 */
#include <stdatomic.h>
#include <string.h>
#include <sys/uio.h>

#include <rte_common.h>
#include <rte_cycles.h>
#include <rte_mbuf.h>
#include <rte_rcu_qsbr.h>

#include "pure_bytes.h"
#include "pure_compat.h"
#include "dp.h"
#include "port_eth.h"
#include "pure_gro.h"
#include "pure_parse.h"
#include "pure_rest.h"
#include "pure_rx_fairness.h"
#include "port_udp.h"

#define DP_BURST 64
#define DP_VNET_LEN sizeof(struct virtio_net_hdr)
#define DP_VXLAN_LEN 8
#define DP_ETH_LEN 14
/* Room in front of a frame for its virtio header, and for the VXLAN header that takes its place. */
#define DP_HEADROOM 64
#define DP_BUF_LEN 65535
_Static_assert(DP_HEADROOM + DP_FRAME_MAX + 1 <= DP_BUF_LEN, "a frame, and a byte to tell a longer one, fit a buffer");

struct dp_frame;
struct dp_port;
struct dp_worker;

/* What the kinds of port do their own way. */
struct dp_port_ops {
	bool merges; /* takes what dp_gro has merged */
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

extern const struct dp_port_ops dp_tap_ops, dp_port_eth_ops, dp_host_ops;

struct dp_port {
	const struct dp_port_ops *ops;
	struct dp_eth *eth; /* that the port is, or whose traffic with the host it carries */
	uint32_t id;
	uint32_t generation;
	uint32_t vni;
	uint8_t mac[6];
	bool has_ip4, has_ip6;
	struct dp_addr ip4, ip6;
	struct dp_addr link_local; /* the MAC's: RFC 4291 appendix A */
	int fds[DP_MAX_WORKERS];
	struct {
		struct dp_traffic traffic;
		uint64_t work;   /* done for the port and not yet held against one of its turns */
		unsigned unread; /* turns that left something to read, and were not TCP for the most part; halved when there is nothing left */
		bool hushed;     /* see dp_worker_hush */
	} __rte_cache_aligned worker[DP_MAX_WORKERS];
};

struct dp_vtep {
	uint32_t id;
	struct dp_addr addr;
	struct sockaddr_storage to;
	socklen_t to_len;
	_Atomic(struct dp_eth_outer *) outer; /* the way there goes through an ethdev; NULL: through the kernel */
	atomic_bool one_by_one;               /* the kernel has refused to segment on the way there */
};

/* Immutable; swapped whole. */
struct dp_flood {
	unsigned n_ports, n_vteps;
	uint32_t *ports, *vteps;
	uint32_t ids[];
};

struct dp_net {
	_Atomic(struct dp_flood *) flood;
};

/* A frame on its way: `data` is its Ethernet header, with DP_HEADROOM writable bytes before it when it came from a port. */
struct dp_frame {
	uint8_t *data;
	uint32_t len;
	struct dp_hdrs hdrs;
	struct rte_mbuf **mbuf; /* where the owner of its mbuf keeps it, until someone takes it; NULL: the bytes can only be copied */
	struct virtio_net_hdr vnet;
	uint32_t vni;
};

/* Where the forwarding table sends a MAC. */
enum dp_kind {
	DP_KIND_NONE,
	DP_KIND_PORT,
	DP_KIND_VTEP,
	DP_KIND_FLOOD,
};

/* As it lies in the table: 64 bits. */
struct dp_hop {
	uint32_t index;
	uint32_t generation : 24; /* of the port */
	uint32_t kind : 8;
};
_Static_assert(sizeof(struct dp_hop) == sizeof(void *), "a hop is the table's data word");

/* rte_hash compares 16-byte keys with vector code. Whole words: the look-up reads them back as such. */
struct dp_fdb_key {
	uint64_t mac; /* its bytes as they lie in memory, and two of 0 */
	uint64_t vni;
} __rte_aligned(16);

#define DP_MAC_MASK 0xffffffffffff

/* What a worker has looked up of late. An entry holds as long as the table is as it was: see dp_fdb_lookup. */
struct dp_fdb_memo {
	struct dp_fdb_key key;
	uint64_t version;
	struct dp_hop hop;
} __rte_aligned(32);

#define DP_FDB_MEMOS (1 << 16)

/* An ARP request or neighbour solicitation that nobody could answer yet. */
struct dp_question {
	uint32_t port, generation;
	struct dp_addr target;
	struct dp_addr asker;
	uint64_t asked; /* cycles */
};

#define DP_QUESTIONS 256
/* Of one port. */
#define DP_PORT_QUESTIONS 16

struct dp_worker {
	unsigned id;
	int epoll;
	int wake; /* eventfd: something changed, look at `stopping` and `news` */
	struct rte_mbuf *mbufs[DP_BURST];
	struct dp_frame frames[DP_BURST];
	struct dp_port *from[DP_BURST]; /* port of each frame */
	unsigned n_frames;
	/* Ports with something to read, each once. */
	uint32_t ready[DP_MAX_PORTS];
	bool is_ready[DP_MAX_PORTS];
	unsigned n_ready;
	unsigned n_greedy; /* of them, at the beginning of the turn */
	bool resting;      /* these, in the turn */
	struct dp_rest rest;
	bool underlay_ready;
	bool armed;  /* devices are to interrupt the sleep */
	bool waited; /* for room to send, as long as a turn may */
	struct dp_gro *gro;
	struct dp_fdb_memo *memos;
	struct dp_udp udp;
	struct dp_share share;
	struct dp_question questions[DP_QUESTIONS];
	atomic_uint n_questions;
	atomic_bool news; /* one of them may have an answer */
	struct dp_traffic underlay;
	uint64_t drops[DP_DROP_COUNT];
	bool measuring; /* since the turn began */
	uint64_t mark;  /* cycles before it were given to a stage */
	struct dp_stage_sum stages[DP_STAGE_COUNT];
} __rte_cache_aligned;

struct dp {
	struct dp_config config;
	struct rte_mempool *pool;
	struct rte_mempool *eth_pool; /* NULL: no ethdevs */
	struct rte_rcu_qsbr *qsbr;
	struct dp_worker *workers[DP_MAX_WORKERS];
	_Atomic(struct dp_port *) ports[DP_MAX_PORTS];
	_Atomic(struct dp_eth *) eths[DP_MAX_DEVICES];
	atomic_uint n_eths;   /* numbers in use lie below */
	atomic_uint n_silent; /* of them that wake no worker */
	_Atomic(struct dp_vtep *) vteps[DP_MAX_VTEPS];
	_Atomic(struct dp_net *) nets[DP_MAX_NETS];
	atomic_bool uso; /* taps take UDP super-frames: TUN_F_USO4 and TUN_F_USO6 */
	atomic_bool stopping;
	atomic_bool measuring; /* cycles by stage: somebody has asked */
};

extern struct dp dp;

static inline void
dp_count(struct dp_worker *w, enum dp_drop reason)
{
	w->drops[reason]++;
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

static inline struct dp_vtep *
dp_vtep_get(uint32_t id)
{
	return atomic_load_explicit(&dp.vteps[id], memory_order_acquire);
}

/* table_fdb.c, table_net.c, table_vtep.c */
struct rte_hash *dp_table_new(const char *name, uint32_t entries, uint32_t key_len, char *err);
int dp_tables_init(char *err);
int dp_vteps_init(char *err);
int dp_fdb_set(uint32_t vni, const uint8_t mac[6], struct dp_hop hop);
void dp_fdb_lookup(struct dp_worker *w, const struct dp_fdb_key *keys, unsigned n, struct dp_hop *hops);
struct dp_hop dp_fdb_lookup_one(uint32_t vni, const uint8_t mac[6]);
struct dp_flood *dp_flood_get(uint32_t vni);
bool dp_neigh_lookup(uint32_t vni, const struct dp_addr *addr, uint8_t mac[6]);
struct dp_vtep *dp_vtep_lookup(const struct dp_addr *addr);

/* The addresses of a frame, as they lie in memory. */
static inline uint64_t
dp_destination(const uint8_t *frame)
{
	return dp_load64(frame) & DP_MAC_MASK;
}

static inline uint64_t
dp_source(const uint8_t *frame)
{
	return dp_load64(frame + 6) & DP_MAC_MASK;
}

/* The key under which a destination is found: every group address of a network shares its flood list. */
static inline struct dp_fdb_key
dp_fdb_key(uint32_t vni, uint64_t mac)
{
	return (struct dp_fdb_key){ .mac = mac & 1 ? DP_MAC_MASK : mac, .vni = vni };
}

static inline bool
dp_fdb_key_equal(const struct dp_fdb_key *a, const struct dp_fdb_key *b)
{
	return a->mac == b->mac && a->vni == b->vni;
}

static inline struct dp_addr
dp_addr4(const uint8_t ip[4])
{
	struct dp_addr addr = { .b = { [10] = 0xff, [11] = 0xff } };

	memcpy(addr.b + 12, ip, 4);
	return addr;
}

static inline bool
dp_addr_is4(const struct dp_addr *addr)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	return !memcmp(addr->b, mapped, sizeof(mapped));
}

static inline bool
dp_addr_equal(const struct dp_addr *a, const struct dp_addr *b)
{
	return !memcmp(a, b, sizeof(*a));
}

/* An IPv6 address, or an IPv4 one mapped into it. */
static inline struct dp_addr
dp_addr_of(const uint8_t *ip, uint8_t version)
{
	struct dp_addr addr;

	if (version == 4)
		return dp_addr4(ip);
	memcpy(addr.b, ip, sizeof(addr.b));
	return addr;
}

/* stage_encap.c: frames that a container sent; each is answered, delivered, queued on the underlay, or dropped. */
void dp_encap(struct dp_worker *w, struct dp_frame *frames, struct dp_port **from, unsigned n);

/* stage_neigh.c: true when the frame was an ARP or ND question that was answered or dropped here. */
bool dp_respond(struct dp_worker *w, struct dp_port *from, struct dp_frame *frame);
/* A frame went to a MAC that nobody has: tells its sender where the IP address is now. */
void dp_correct(struct dp_worker *w, struct dp_port *from, const struct dp_frame *frame);
/* Tells a port, unasked, at which MAC the target is. */
void dp_tell(struct dp_worker *w, struct dp_port *to, const struct dp_addr *asker, const struct dp_addr *target, const uint8_t mac[6]);

/* stage_neigh_pending.c: questions that are answered when the answer is known. */
void dp_ask_later(struct dp_worker *w, const struct dp_port *from, struct dp_addr asker, struct dp_addr target);
void dp_answer_late(struct dp_worker *w);
/* By the control thread, of what the neighbour table has got. */
void dp_late_news(void);

/* stage_decap.c: one VXLAN packet each, as UDP payload; merged frames are delivered by dp_decap_flush. */
struct dp_packet {
	uint8_t *data;
	uint32_t len;
	uint8_t tos; /* outer */
	const struct dp_vtep *from;
	struct rte_mbuf **mbuf; /* as in struct dp_frame */
};
void dp_decap(struct dp_worker *w, const struct dp_packet *packets, unsigned n);
void dp_decap_flush(struct dp_worker *w);

/* What n packets of so many bytes together cost a worker, counted in bytes: a packet costs as much as a thousand of them. */
static inline uint64_t
dp_work(uint64_t packets, uint64_t bytes)
{
	return packets * 1024 + bytes;
}

/*
 * A port that has had something to read for about so many turns on end, other than TCP, has overrun the worker: it waits for
 * nobody's answer. Beside ports that do, its turns are a part of theirs, and it rests in between, until it has been empty
 * some times.
 */
#define DP_GREEDY_TURNS 16
#define DP_GREEDY_PART 8

static inline bool
dp_greedy(const struct dp_worker *w, const struct dp_port *port)
{
	return port->worker[w->id].unread >= DP_GREEDY_TURNS;
}

/* Of a whole turn the port gets this part. */
static inline unsigned
dp_turn_part(const struct dp_worker *w, const struct dp_port *port)
{
	return dp_greedy(w, port) && w->n_ready > w->n_greedy ? DP_GREEDY_PART : 1;
}

/* port_tap.c */
enum dp_read {
	DP_READ_FRAME,
	DP_READ_DROPPED,
	DP_READ_EMPTY,
};
/* Reads one frame into the buffer, which is a worker's. */
enum dp_read dp_tap_read(struct dp_worker *w, struct dp_port *port, struct rte_mbuf *buffer, struct dp_frame *f);
int dp_tap_start(struct dp_port *port);
void dp_tap_stop(struct dp_port *port);

/* worker.c */
struct dp_worker *dp_worker_new(unsigned id, char *err);
void dp_worker_free(struct dp_worker *w);
int dp_worker_main(void *arg);
int dp_worker_watch(struct dp_worker *w, int fd, uint64_t tag);
void dp_worker_unwatch(struct dp_worker *w, int fd);
/* Whether what is there to read ends no sleep, of a descriptor that is watched. */
void dp_worker_hush(struct dp_worker *w, int fd, uint64_t tag, bool hushed);

/* worker_sched.c */
/* One turn for every port that has something; true when there may be more to read. */
bool dp_serve_ports(struct dp_worker *w);

/* The inner packet's congestion mark, which the outer one carries as well (RFC 6040 section 4.1). */
static inline uint8_t
dp_ecn(const struct dp_frame *f)
{
	const uint8_t *ip = f->data + f->hdrs.l3;

	return f->hdrs.version == 4 ? ip[1] & 3 : (f->hdrs.version == 6 ? ip[1] >> 4 & 3 : 0);
}

static inline void
dp_underlay_send(struct dp_worker *w, struct dp_frame **frames, unsigned n, struct dp_vtep *to)
{
	struct dp_eth_outer *outer = atomic_load_explicit(&to->outer, memory_order_acquire);

	if (outer)
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
dp_eth_give(struct dp_worker *w, struct dp_port *port, struct rte_mbuf **mbuf, const uint8_t *data, uint32_t len)
{
	struct rte_mbuf *m = *mbuf;

	*mbuf = NULL;
	m->data_off = data - (uint8_t *)m->buf_addr;
	m->data_len = len;
	m->pkt_len = len;
	dp_eth_queue(w, port->eth, port, m);
}

/* What an epoll event is about: a port by its number, or one of these. */
#define DP_TAG_WAKE (1ull << 32)
#define DP_TAG_UNDERLAY (2ull << 32)
#define DP_TAG_DEVICE (3ull << 32)

#endif
