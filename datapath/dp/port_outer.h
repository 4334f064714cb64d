/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_OUTER_H
#define DP_OUTER_H

/* The outer headers of a packet that a device has received: what is checked before its payload is taken for VXLAN. */
#include "pure_csum.h"
#include "pure_lanes.h"
#include "port.h"

/* The headers of a plain packet, in whole vectors. */
union dp_outer_plain {
	struct {
		struct rte_ether_hdr eth;
		struct rte_ipv4_hdr ip;
		struct rte_udp_hdr udp;
	};
	dp_lanes vectors[3];
};

/* What the packets of a burst are held against. */
struct dp_outer {
	union dp_outer_plain plain; /* what dp_outer_mask leaves of a plain packet */
	const struct dp_eth *eth;
	/* Packets that follow each other come from the same VTEP more often than not. */
	struct dp_vtep *sender;
	uint32_t sender_ip;
};

extern const union dp_outer_plain dp_outer_mask;

/* Whether the card has found the packet to be a tunnel's, and the TCP or UDP checksum in it right. */
static inline bool
dp_outer_checked(const struct dp_outer *o, const struct rte_mbuf *m)
{
	return o->eth->offloads.rx_csum && m->packet_type & RTE_PTYPE_TUNNEL_MASK && (m->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_GOOD;
}

void dp_outer_begin(struct dp_outer *o, const struct dp_eth *eth);

/* Fills p. DP_DROP_COUNT: nothing is wrong with the headers. */
enum dp_drop dp_outer_parse(struct dp_outer *o, struct rte_mbuf **m, struct dp_packet *p);

static inline struct dp_vtep *
dp_outer_sender4(struct dp_outer *o, const dp_ipv4_hdr *ip)
{
	if (unlikely(!o->sender || ip->src_addr != o->sender_ip)) {
		struct dp_addr full = dp_addr4(&ip->src_addr);

		o->sender = dp_vtep_lookup(&full);
		o->sender_ip = ip->src_addr;
	}
	return o->sender;
}

/*
 * Whether an IPv4 header, nearly always one without options, sums up to all ones. A sum that is not 0, which the version
 * sees to, does so when 0xffff divides it: one multiplication in place of the folds.
 */
static inline bool
dp_outer_sum_ok(const dp_ipv4_hdr *ip, uint32_t len)
{
	uint64_t sum = 0;

	if (unlikely(len != sizeof(*ip)))
		return dp_csum_fold(dp_csum_add(ip, len, 0)) == 0xffff;
	for (unsigned i = 0; i < sizeof(*ip); i += 4)
		sum += dp_load32((const uint8_t *)ip + i);
	return sum % 0xffff == 0;
}

static inline dp_lanes
dp_outer_differs(const struct dp_outer *o, const uint8_t *data, unsigned i)
{
	return (dp_lanes_load(data + i * sizeof(dp_lanes)) & dp_outer_mask.vectors[i]) ^ o->plain.vectors[i];
}

/*
 * What most packets are: IPv4 without options, in one piece, without UDP checksum, from a VTEP to us, and nothing behind.
 * Fills p, or else false, and dp_outer_parse is to look.
 */
static inline bool
dp_outer_plain(struct dp_outer *o, struct rte_mbuf **m, struct dp_packet *p)
{
	uint8_t *d = rte_pktmbuf_mtod(*m, uint8_t *);
	const dp_ipv4_hdr *ip = (const void *)(d + DP_ETH_LEN);
	const dp_udp_hdr *udp = (const void *)(d + DP_ETH_LEN + sizeof(*ip));
	uint32_t len = (*m)->data_len;
	dp_lanes differs;

	if ((*m)->nb_segs > 1 || len < DP_OUTER4_LEN)
		return false;
	differs = dp_outer_differs(o, d, 0) | dp_outer_differs(o, d, 1) | dp_outer_differs(o, d, 2);
	if (!dp_lanes_zero(differs) || ntohs(ip->total_length) != len - DP_ETH_LEN || ntohs(udp->dgram_len) != len - DP_ETH_LEN - sizeof(*ip) ||
	    !dp_outer_sum_ok(ip, sizeof(*ip)))
		return false;
	p->data = d + DP_OUTER4_LEN - DP_VXLAN_LEN;
	p->len = len - (DP_OUTER4_LEN - DP_VXLAN_LEN);
	p->tos = ip->type_of_service;
	p->gso_size = 0;
	p->esp = false;
	p->checked = dp_outer_checked(o, *m);
	p->from = dp_outer_sender4(o, ip);
	p->mbuf = m;
	return p->from;
}

#endif
