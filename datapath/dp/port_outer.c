// SPDX-License-Identifier: Apache-2.0
/* Outer headers of every kind, as they are read: RFC 7348 section 5 over RFC 894, 2464, 791, 8200 and 768. */
#include "port_outer.h"

#define IP_FRAGMENT 0x3fff /* more fragments, or an offset */

/* clang-format off */
const uint8_t dp_outer_mask[DP_OUTER4_PLAIN] __rte_aligned(16) = {
	[0] = 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, /* destination */
	[12] = 0xff, 0xff, /* type */
	[14] = 0xff, /* IP's version and header length */
	[20] = 0x3f, 0xff, /* fragment */
	[23] = 0xff, /* protocol */
	[30] = 0xff, 0xff, 0xff, 0xff, /* destination */
	[36] = 0xff, 0xff, /* port */
	[40] = 0xff, 0xff, /* checksum */
};
/* clang-format on */

void
dp_outer_begin(struct dp_outer *o, const struct dp_eth *eth)
{
	*o = (struct dp_outer){ .eth = eth };
	memcpy(o->plain, eth->mac, 6);
	dp_store_be16(o->plain + 12, ETH_P_IP);
	o->plain[14] = 0x45;
	o->plain[23] = IPPROTO_UDP;
	memcpy(o->plain + 30, dp.config.vtep.b + 12, 4);
	dp_store_be16(o->plain + 36, dp.config.port);
	/* The mask leaves 0 there: over IPv6 no packet is plain. */
	o->plain[15] = !dp_addr_is4(&dp.config.vtep);
}

/* room is what the IP packet leaves; pseudo the sum of the pseudo header without UDP's length. */
static enum dp_drop
open_udp(struct dp_packet *p, uint8_t *udp, uint32_t room, uint64_t pseudo)
{
	uint32_t len;

	if (room < DP_UDP_HDR)
		return DP_DROP_UNDERLAY_MALFORMED;
	if (dp_load_be16(udp + 2) != dp.config.port)
		return DP_DROP_UNDERLAY_FOREIGN;
	len = dp_load_be16(udp + 4);
	if (len < DP_UDP_HDR || len > room)
		return DP_DROP_UNDERLAY_MALFORMED;
	if (dp_load16(udp + 6) && dp_csum_fold(dp_csum_add(udp, len, pseudo + htons(len))) != 0xffff)
		return DP_DROP_UNDERLAY_CHECKSUM;
	p->data = udp + DP_UDP_HDR;
	p->len = len - DP_UDP_HDR;
	return DP_DROP_COUNT;
}

static enum dp_drop
open_ip4(struct dp_packet *p, uint8_t *ip, uint32_t len)
{
	uint32_t hdr, total;

	if (len < DP_IP4_HDR)
		return DP_DROP_UNDERLAY_MALFORMED;
	hdr = (ip[0] & 15) * 4;
	total = dp_load_be16(ip + 2);
	if (ip[0] >> 4 != 4 || hdr < DP_IP4_HDR || total < hdr || total > len)
		return DP_DROP_UNDERLAY_MALFORMED;
	if (!dp_outer_sum_ok(ip, hdr))
		return DP_DROP_UNDERLAY_CHECKSUM;
	if (ip[9] != IPPROTO_UDP || !dp_addr_is4(&dp.config.vtep) || dp_load32(ip + 16) != dp_load32(dp.config.vtep.b + 12))
		return DP_DROP_UNDERLAY_FOREIGN;
	if (dp_load16(ip + 6) & htons(IP_FRAGMENT))
		return DP_DROP_UNDERLAY_FRAGMENT;
	p->tos = ip[1];
	return open_udp(p, ip + hdr, total - hdr, dp_csum_pseudo4(ip, IPPROTO_UDP, 0));
}

static enum dp_drop
open_ip6(struct dp_packet *p, uint8_t *ip, uint32_t len)
{
	uint32_t payload;

	if (len < DP_IP6_HDR)
		return DP_DROP_UNDERLAY_MALFORMED;
	payload = dp_load_be16(ip + 4);
	if (ip[0] >> 4 != 6 || payload > len - DP_IP6_HDR)
		return DP_DROP_UNDERLAY_MALFORMED;
	if (memcmp(ip + 24, dp.config.vtep.b, 16))
		return DP_DROP_UNDERLAY_FOREIGN;
	if (ip[6] != IPPROTO_UDP)
		return ip[6] == IPPROTO_FRAGMENT ? DP_DROP_UNDERLAY_FRAGMENT : DP_DROP_UNDERLAY_FOREIGN;
	p->tos = ip[0] << 4 | ip[1] >> 4;
	return open_udp(p, ip + DP_IP6_HDR, payload, dp_csum_pseudo6(ip, IPPROTO_UDP, 0));
}

static const struct dp_vtep *
sender6(const uint8_t *ip6)
{
	struct dp_addr addr;

	memcpy(addr.b, ip6, 16);
	return dp_vtep_lookup(&addr);
}

enum dp_drop
dp_outer_open(struct dp_outer *o, struct rte_mbuf **m, struct dp_packet *p)
{
	uint8_t *d = rte_pktmbuf_mtod(*m, uint8_t *), *ip = d + DP_ETH_LEN;
	uint32_t len = (*m)->data_len;
	enum dp_drop drop = DP_DROP_UNDERLAY_FOREIGN;
	bool is4;

	if ((*m)->nb_segs > 1)
		return DP_DROP_OVERSIZE;
	if (len < DP_ETH_LEN)
		return DP_DROP_UNDERLAY_MALFORMED;
	if (memcmp(d, o->eth->mac, 6))
		return DP_DROP_UNDERLAY_FOREIGN;
	is4 = dp_load16(d + 12) == htons(ETH_P_IP);
	if (is4)
		drop = open_ip4(p, ip, len - DP_ETH_LEN);
	else if (dp_load16(d + 12) == htons(ETH_P_IPV6))
		drop = open_ip6(p, ip, len - DP_ETH_LEN);
	if (drop != DP_DROP_COUNT)
		return drop;
	p->from = is4 ? dp_outer_sender4(o, ip + 12) : sender6(ip + 8);
	p->mbuf = m;
	return p->from ? DP_DROP_COUNT : DP_DROP_VTEP_UNKNOWN;
}
