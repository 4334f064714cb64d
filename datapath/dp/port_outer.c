// SPDX-License-Identifier: Apache-2.0
/* Outer headers of every kind, as they are read: RFC 7348 section 5 over RFC 894, 2464, 791, 8200 and 768. */
#include "port_outer.h"
#include "pure_partial.h"

const union dp_outer_plain dp_outer_mask = {
	.eth = { .dst_addr.addr_bytes = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff }, .ether_type = UINT16_MAX },
	.ip = { .version_ihl = UINT8_MAX, .fragment_offset = RTE_BE16(DP_IPV4_FRAGMENT), .next_proto_id = UINT8_MAX, .dst_addr = UINT32_MAX },
	.udp = { .dst_port = UINT16_MAX, .dgram_cksum = UINT16_MAX },
};

void
dp_outer_begin(struct dp_outer *o, const struct dp_eth *eth)
{
	*o = (struct dp_outer){
		.plain.eth.ether_type = htons(ETH_P_IP),
		.plain.ip = { .version_ihl = RTE_IPV4_VHL_DEF, .next_proto_id = IPPROTO_UDP, .dst_addr = dp_addr_ip4(&dp.config.vtep) },
		.plain.udp.dst_port = htons(dp.config.port),
		.eth = eth,
	};
	memcpy(&o->plain.eth.dst_addr, eth->mac, sizeof(eth->mac));
	/* The mask leaves 0 there: over IPv6 no packet is plain. */
	o->plain.ip.type_of_service = !dp_addr_is4(&dp.config.vtep);
}

/*
 * Whether the checksum is the one that the packet has once the inner one is computed, which the sender's kernel has left to a card
 * that is none: local checksum offload, Documentation/networking/checksum-offloads.rst of Linux. An inner packet with its checksum
 * in it sums up to the complement of its pseudo header.
 */
static bool
completes(const dp_udp_hdr *udp, uint32_t len, uint64_t pseudo)
{
	const uint8_t *frame = (const uint8_t *)(udp + 1) + DP_VXLAN_LEN;
	struct dp_hdrs h;
	uint16_t inner;

	if (len <= sizeof(*udp) + DP_VXLAN_LEN || dp_parse_fast(frame, len - sizeof(*udp) - DP_VXLAN_LEN, &h) != DP_PARSE_OK || !dp_is_partial(frame, &h))
		return false;
	inner = ~dp_csum_fold(dp_pseudo_sum(frame, &h, h.end - h.l4));
	return dp_csum_fold(dp_csum_add(udp, frame + h.l4 - (const uint8_t *)udp, dp_csum_more(pseudo, inner))) == 0xffff;
}

/* pseudo is the sum of the pseudo header. */
static bool
checksum_ok(const dp_udp_hdr *udp, uint32_t len, uint64_t pseudo)
{
	return !udp->dgram_cksum || udp->dgram_cksum == dp_csum_fold(pseudo) || completes(udp, len, pseudo) || dp_csum_fold(dp_csum_add(udp, len, pseudo)) == 0xffff;
}

/*
 * room is what the IP packet leaves; pseudo the sum of the pseudo header without UDP's length; summed, that the checksum is right
 * already. A card's word that it is wrong does not count: the sum may have been left to it.
 */
static enum dp_drop
parse_udp(struct dp_packet *p, dp_udp_hdr *udp, uint32_t room, uint64_t pseudo, bool summed)
{
	uint32_t len;

	if (room < sizeof(*udp))
		return DP_DROP_UNDERLAY_MALFORMED;
	if (ntohs(udp->dst_port) != dp.config.port)
		return DP_DROP_UNDERLAY_FOREIGN;
	len = ntohs(udp->dgram_len);
	if (len < sizeof(*udp) || len > room)
		return DP_DROP_UNDERLAY_MALFORMED;
	if (!summed && !checksum_ok(udp, len, pseudo + htons(len)))
		return DP_DROP_UNDERLAY_CHECKSUM;
	p->data = (uint8_t *)(udp + 1);
	p->len = len - sizeof(*udp);
	return DP_DROP_COUNT;
}

static enum dp_drop
parse_ip4(struct dp_packet *p, dp_ipv4_hdr *ip, uint32_t len, bool summed)
{
	uint32_t hdr, total;

	if (len < sizeof(*ip))
		return DP_DROP_UNDERLAY_MALFORMED;
	hdr = dp_ipv4_len(ip);
	total = ntohs(ip->total_length);
	if (ip->version_ihl >> 4 != 4 || hdr < sizeof(*ip) || total < hdr || total > len)
		return DP_DROP_UNDERLAY_MALFORMED;
	if (!dp_outer_sum_ok(ip, hdr))
		return DP_DROP_UNDERLAY_CHECKSUM;
	if (ip->next_proto_id != IPPROTO_UDP || !dp_addr_is4(&dp.config.vtep) || ip->dst_addr != dp_addr_ip4(&dp.config.vtep))
		return DP_DROP_UNDERLAY_FOREIGN;
	if (ip->fragment_offset & htons(DP_IPV4_FRAGMENT))
		return DP_DROP_UNDERLAY_FRAGMENT;
	p->tos = ip->type_of_service;
	return parse_udp(p, (void *)((uint8_t *)ip + hdr), total - hdr, dp_csum_pseudo4(ip, IPPROTO_UDP, 0), summed);
}

static enum dp_drop
parse_ip6(struct dp_packet *p, dp_ipv6_hdr *ip, uint32_t len, bool summed)
{
	uint32_t payload;

	if (len < sizeof(*ip))
		return DP_DROP_UNDERLAY_MALFORMED;
	payload = ntohs(ip->payload_len);
	if (!dp_is_ipv6(ip) || payload > len - sizeof(*ip))
		return DP_DROP_UNDERLAY_MALFORMED;
	if (memcmp(&ip->dst_addr, dp.config.vtep.b, 16))
		return DP_DROP_UNDERLAY_FOREIGN;
	if (ip->proto != IPPROTO_UDP)
		return ip->proto == IPPROTO_FRAGMENT ? DP_DROP_UNDERLAY_FRAGMENT : DP_DROP_UNDERLAY_FOREIGN;
	p->tos = ntohl(ip->vtc_flow) >> RTE_IPV6_HDR_TC_SHIFT;
	return parse_udp(p, (void *)(ip + 1), payload, dp_csum_pseudo6(ip, IPPROTO_UDP, 0), summed);
}

static struct dp_vtep *
sender6(const dp_ipv6_hdr *ip)
{
	struct dp_addr addr = dp_addr6(&ip->src_addr);

	return dp_vtep_lookup(&addr);
}

enum dp_drop
dp_outer_parse(struct dp_outer *o, struct rte_mbuf **m, struct dp_packet *p)
{
	const dp_ether_hdr *eth = rte_pktmbuf_mtod(*m, const void *);
	void *ip = rte_pktmbuf_mtod_offset(*m, void *, DP_ETH_LEN);
	uint32_t len = (*m)->data_len;
	enum dp_drop drop = DP_DROP_UNDERLAY_FOREIGN;
	bool is4, summed = o->eth->offloads.rx_csum && ((*m)->ol_flags & RTE_MBUF_F_RX_OUTER_L4_CKSUM_MASK) == RTE_MBUF_F_RX_OUTER_L4_CKSUM_GOOD;

	if ((*m)->nb_segs > 1)
		return DP_DROP_OVERSIZE;
	if (len < DP_ETH_LEN)
		return DP_DROP_UNDERLAY_MALFORMED;
	if (memcmp(&eth->dst_addr, o->eth->mac, 6))
		return DP_DROP_UNDERLAY_FOREIGN;
	is4 = eth->ether_type == htons(ETH_P_IP);
	if (is4)
		drop = parse_ip4(p, ip, len - DP_ETH_LEN, summed);
	else if (eth->ether_type == htons(ETH_P_IPV6))
		drop = parse_ip6(p, ip, len - DP_ETH_LEN, summed);
	if (drop != DP_DROP_COUNT)
		return drop;
	p->from = is4 ? dp_outer_sender4(o, ip) : sender6(ip);
	p->gso_size = 0;
	p->esp = false;
	p->checked = dp_outer_checked(o, *m);
	p->mbuf = m;
	return p->from ? DP_DROP_COUNT : DP_DROP_VTEP_UNKNOWN;
}
