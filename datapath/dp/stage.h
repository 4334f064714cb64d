/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_STAGE_H
#define DP_STAGE_H

/* Stages: what becomes of a burst. They call ports and tables; which comes after which the worker alone knows. */
#include "port.h"

/* stage_encap.c: frames that a container sent; each is answered, delivered, queued on the underlay, or dropped. */
void dp_encap(struct dp_worker *w, struct dp_frame *frames, struct dp_port **from, unsigned n);

/* stage_decap.c: VXLAN packets; merged frames are delivered by dp_decap_flush. */
void dp_decap(struct dp_worker *w, const struct dp_packet *packets, unsigned n);
void dp_decap_flush(struct dp_worker *w);

/* stage_esp.c: opens those that are ESP, and drops what does not open; how many are left. */
unsigned dp_esp_open(struct dp_worker *w, struct dp_packet *packets, unsigned n);

/* stage_source.c: from the underlay; DP_DROP_COUNT: what the frame says of who sent it agrees with the tables. Slot is that of `from`. */
enum dp_drop dp_source_told(struct dp_worker *w, const struct dp_frame *f, const struct dp_fdb_key *from, struct dp_flow_slot *slot);

/* Whether frames for the MAC are delivered to the port. */
static inline bool
dp_port_has_mac(const struct dp_port *port, const uint8_t mac[6])
{
	struct dp_fdb_entry entry = dp_fdb_lookup_one(port->vni, mac);

	return entry.kind == DP_KIND_PORT && entry.index == port->id && entry.generation == port->generation;
}

/* stage_too_big.c: the sender is told by ICMP, or the frame goes in fragments, or it is dropped. */
void dp_too_big(struct dp_worker *w, struct dp_port *from, struct dp_frame *frame, struct dp_vtep *to);

/* The longest frame of its network that the path to the VTEP carries, in bytes. */
static inline uint32_t
dp_longest(const struct dp_frame *f, const struct dp_vtep *to)
{
	return atomic_load_explicit(f->encrypted ? &to->longest_esp : &to->longest, memory_order_relaxed);
}

/* Whether the frame, or what it is cut into, is longer than the path to the VTEP carries. */
static inline bool
dp_is_too_big(const struct dp_frame *f, const struct dp_vtep *to)
{
	uint32_t longest = dp_longest(f, to);

	return f->len > longest && (f->vnet.gso_type == VIRTIO_NET_HDR_GSO_NONE || (uint32_t)f->hdrs.payload + f->vnet.gso_size > longest);
}

/* stage_neigh.c: true when the frame was an ARP or ND request that was answered or dropped here. */
bool dp_neigh_respond(struct dp_worker *w, struct dp_port *from, struct dp_frame *frame);
/* A frame went to a MAC that nobody has: tells its sender where the IP address is now. */
void dp_neigh_correct(struct dp_worker *w, struct dp_port *from, const struct dp_frame *frame);

/* stage_neigh_reply.c */
#define DP_ARP_LEN (DP_ETH_LEN + 28)
/* How an ARP packet of Ethernet and IPv4 begins. */
static const uint8_t dp_arp_ethernet_ipv4[6] = { 0, 1, 8, 0, 6, 4 };
/* Flags of a neighbour advertisement: RFC 4861 section 4.4. */
#define DP_NA_OVERRIDE 0x20
#define DP_NA_SOLICITED 0x40

/* Who asks: a container, or one behind it. */
struct dp_asker {
	uint8_t mac[6];
	struct dp_addr addr;
};

/* Tells a port at which MAC the target is, as it asked. */
void dp_arp_reply(struct dp_worker *w, struct dp_port *to, const struct dp_asker *asker, const uint8_t target[4], const uint8_t mac[6]);
void dp_nd_advertise(struct dp_worker *w, struct dp_port *to, const struct dp_asker *asker, const uint8_t target[16], const uint8_t mac[6], uint8_t flags);
/* Unasked, or asked a while ago. */
void dp_neigh_reply(struct dp_worker *w, struct dp_port *to, const struct dp_asker *asker, const struct dp_addr *target, const uint8_t mac[6]);

static inline struct dp_asker
dp_asker(const struct dp_frame *f, struct dp_addr addr)
{
	struct dp_asker asker = { .addr = addr };

	memcpy(asker.mac, &((const dp_ether_hdr *)f->data)->src_addr, 6);
	return asker;
}

/* stage_neigh_pending.c: requests that are answered when the answer is known. */
/* An ARP request or neighbour solicitation that nobody could answer yet. */
struct dp_pending_request {
	uint32_t port, generation;
	struct dp_addr target;
	struct dp_asker asker;
	uint64_t since; /* cycles */
};

#define DP_PENDING_REQUESTS 256
/* Of one port. */
#define DP_PORT_PENDING_REQUESTS 16

/* Of one worker, who alone writes them, but for `wake_up`. */
struct dp_neigh_pending {
	struct dp_pending_request requests[DP_PENDING_REQUESTS];
	atomic_uint n_requests;
	atomic_bool wake_up; /* one of them may have an answer */
};

void dp_neigh_pending_add(struct dp_worker *w, const struct dp_port *from, struct dp_asker asker, struct dp_addr target);
void dp_neigh_pending_reply(struct dp_worker *w);

/* stage_claims.c: what trusted containers say that they have, for the control plane. */
#define DP_CLAIMS 1024
#define DP_PORT_CLAIMS 32 /* that wait of one port: no container has the others not heard */

/* Of one worker, who alone writes to its tail; the control thread takes from the head. */
struct dp_claims {
	struct {
		struct dp_claim claim;
		uint32_t generation; /* of the port */
	} ring[DP_CLAIMS];
	atomic_uint head, tail;
};

/* False: the container claims faster than claims are taken. */
bool dp_claim_add(struct dp_worker *w, struct dp_port *from, const uint8_t mac[6], const struct dp_addr *addr);

#endif
