/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_ETH_H
#define DP_ETH_H

/*
 * Ethdevs: ports of DPDK-native containers, and the underlay where a device carries it. A worker polls its queue of
 * each; frames between ethdevs are never copied, their mbufs are forwarded.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <rte_mbuf.h>

#include "dp.h"

/* Ethernet, IP, UDP and VXLAN headers: RFC 7348 section 5. */
#define DP_OUTER4_LEN 50
#define DP_OUTER6_LEN 70
_Static_assert(DP_OUTER6_LEN <= RTE_PKTMBUF_HEADROOM, "the outer headers go in front of a received frame");

/* rte_eth_tx_burst takes this many at once. */
#define DP_ETH_TX 64

struct dp_frame;
struct dp_packet;
struct dp_port;
struct dp_vtep;
struct dp_worker;

/* What a device does of the work on VXLAN packets; all else is done here. */
struct dp_eth_offloads {
	bool tx_csum;      /* the inner TCP or UDP checksum, and the outer IPv4 header's */
	bool tx_outer_udp; /* and the outer UDP checksum, which packets over IPv6 have */
	bool tso;          /* cuts up TCP super-frames */
	bool rx_csum;      /* says of the checksums of received packets whether they are right */
	uint16_t max_segs; /* mbufs that a super-frame may be in */
};

struct dp_eth {
	uint32_t id;
	uint16_t dev; /* ethdev's number */
	uint16_t mtu; /* bytes of outer IP packet */
	uint8_t mac[6];
	unsigned users;  /* ports and next hops; the control thread's */
	bool wakes;      /* a sleeping worker */
	bool interrupts; /* that wake it, once a worker has asked for one */
	uint32_t ifindex;
	char driver[32];
	struct dp_eth_offloads offloads;
	atomic_bool up; /* started: else its queues must not be touched */
	/* What becomes of received frames: they come from a port, or are VXLAN, or the device is not polled. */
	_Atomic(struct dp_port *) port;
	atomic_bool underlay;
	_Atomic(struct dp_port *) host; /* takes what is not VXLAN; NULL: nobody does */
	struct {
		struct rte_mbuf *tx[DP_ETH_TX];
		/* Counters apart: side by side the compiler adds them in a vector register, which a load waits for. */
		unsigned n_tx;
		struct dp_port *port; /* that they are for; NULL: they go to VTEPs */
		uint32_t bytes;       /* in them */
	} __rte_cache_aligned worker[DP_MAX_WORKERS];
};

/* The way to a VTEP: headers that every packet begins with. Immutable, swapped whole. */
struct dp_eth_outer {
	uint8_t bytes[DP_OUTER6_LEN] __rte_cache_aligned; /* lengths, checksums, source port, TOS and VNI are 0 */
	bool is4;
	uint32_t sum; /* of the IPv4 header in it, or of IPv6's pseudo header without the length */
	struct dp_eth *eth;
	struct dp_vtep *to;
};

/* port_next_hop.c: the headers of packets to a VTEP, between two Ethernet addresses. */
void dp_outer_template(struct dp_eth_outer *o, struct dp_vtep *vtep, const uint8_t to[6], const uint8_t from[6]);

/* port_eth.c */
/* Reads a burst; 0 where the device is down. */
unsigned dp_eth_read(struct dp_worker *w, struct dp_eth *eth, struct rte_mbuf **mbufs);
/* Frees what nobody has taken of a burst, when nothing points into it any more. */
void dp_eth_free(struct rte_mbuf **mbufs, unsigned n);
/* Sends what is queued on a device. */
void dp_eth_send_queue(struct dp_worker *w, struct dp_eth *eth);
/* Whether there is a device that wakes nobody when it has received something. */
bool dp_eth_poll_only(void);

/* port_eth_wake.c */
/* Has the workers woken by the sockets on which drivers receive; false where there are none. */
bool dp_eth_wakes(void);
/* Whether a driver's interrupts are used. */
bool dp_eth_use_interrupts(const char *driver);
/* Has each worker woken by the interrupt of its queue; false where there is none. */
bool dp_eth_watch_interrupts(const struct dp_eth *eth);
/* A peer that keeps its end must not wake the workers of a device that is gone. */
void dp_eth_unwatch_interrupts(const struct dp_eth *eth);
/* Asks every device for an interrupt. True when there are some: what came before is to be polled once more. */
bool dp_eth_arm(struct dp_worker *w);
void dp_eth_disarm(struct dp_worker *w);

/*
 * port_eth_copy.c: the frame in mbufs of its own, its virtio-net header's wishes fulfilled: segmented, checksums completed, or left
 * to be computed by who takes it (partial).
 * Each is given to sink, which owns it.
 */
typedef void (*dp_eth_sink)(struct dp_worker *w, const struct dp_frame *frame, void *to, struct rte_mbuf *m);
void dp_eth_copy(struct dp_worker *w, struct dp_frame *frame, bool partial, dp_eth_sink sink, void *to);

/* port_eth_offload.c */
struct rte_eth_conf;
struct rte_eth_dev_info;
/* Has the configuration ask for the offloads that the driver says it has. */
struct dp_eth_offloads dp_eth_choose_offloads(const struct rte_eth_dev_info *info, struct rte_eth_conf *conf);
/* Tells the device which packets are VXLAN. */
void dp_eth_offload_vxlan(uint16_t dev);
/* Whether a frame without an mbuf is left to the device behind the outer headers, its checksum yet to be computed. */
bool dp_eth_offload_takes(const struct dp_eth_outer *outer, const struct dp_frame *f);
/* The frame in mbufs, with the wishes of what is left to do on it; NULL: none are free, and it was dropped. */
struct rte_mbuf *dp_eth_offload_copy(struct dp_worker *w, const struct dp_frame *f);
/* Adds what is to be done on the outer headers, in front of it by now. */
void dp_eth_offload_outer(struct rte_mbuf *m, bool is4);

/*
 * port_native.c: a burst from a device that is a port, as the worker's frames; how many there are. Whoever takes an mbuf leaves
 * NULL in its place.
 */
unsigned dp_native_read(struct dp_worker *w, struct dp_port *port, struct rte_mbuf **mbufs, unsigned n);

/* port_host.c: to the kernel. */
void dp_host_give(struct dp_worker *w, struct dp_port *host, uint8_t *frame, uint32_t len);

/* port_underlay.c */
void dp_eth_send(struct dp_worker *w, struct dp_frame **frames, unsigned n, struct dp_eth_outer *outer);
/* Those of encrypted networks. */
void dp_eth_send_sealed(struct dp_worker *w, struct dp_frame **frames, unsigned n, struct dp_eth_outer *outer);
/* The VXLAN packets of a burst from a device; how many there are. */
unsigned dp_underlay_read(struct dp_worker *w, struct dp_eth *eth, struct rte_mbuf **mbufs, unsigned n, struct dp_packet *packets);

#endif
