// SPDX-License-Identifier: Apache-2.0
/*
 * What a frame from the underlay says of who sent it, held to the rules of one from a container (stage_encap.c, stage_neigh.c): the
 * source MAC was looked at, and here is the rest. An address that the tables have elsewhere is spoofed. One that they do not have
 * passes: a trusted container may send from it, and its own host has seen to that.
 */
#include <netinet/icmp6.h>

#include "stage.h"

#define ND_LEN 24 /* of a solicitation or advertisement, up to its options: RFC 4861 section 4.3 */

/* The ways out. */
enum edge {
	DROP_MALFORMED = DP_DROP_MALFORMED,
	DROP_SPOOFED_MAC = DP_DROP_SPOOFED_MAC,
	DROP_SPOOFED_IP = DP_DROP_SPOOFED_IP,
	DROP_ROUTER = DP_DROP_ROUTER,
	DROP_ROUTER_SOLICITED = DP_DROP_ROUTER_SOLICITED,
	AGREES = DP_DROP_COUNT,
};

static enum edge
arp(struct dp_worker *w, const struct dp_frame *f, const struct dp_fdb_key *from, struct dp_flow_slot *slot)
{
	const dp_arp_hdr *arp = (const void *)(f->data + DP_ETH_LEN);

	if (f->len < DP_ARP_LEN || memcmp(arp, dp_arp_ethernet_ipv4, sizeof(dp_arp_ethernet_ipv4)))
		return DROP_MALFORMED;
	if (memcmp(&arp->arp_data.arp_sha, &((const dp_ether_hdr *)f->data)->src_addr, 6))
		return DROP_SPOOFED_MAC;
	return dp_source_ok4(&w->source, slot, from, arp->arp_data.arp_sip) ? AGREES : DROP_SPOOFED_IP;
}

/* An option that tells of a link-layer address tells of the frame's own: of its source in a solicitation, of its target in an advertisement. */
static bool
options_ok(const struct dp_frame *f, uint8_t kind)
{
	const uint8_t *option = f->data + f->hdrs.l4 + ND_LEN, *end = f->data + f->hdrs.end;

	for (; option + 8 <= end && option[1]; option += 8 * option[1])
		if (option[0] == kind && memcmp(option + 2, &((const dp_ether_hdr *)f->data)->src_addr, 6))
			return false;
	return true;
}

static enum edge
nd(struct dp_worker *w, const struct dp_frame *f, const struct dp_fdb_key *from, struct dp_flow_slot *slot)
{
	const uint8_t *icmp = f->data + f->hdrs.l4;

	if (f->hdrs.l4 >= f->hdrs.end)
		return AGREES;
	switch (icmp[0]) {
	case ND_ROUTER_SOLICIT:
		return DROP_ROUTER_SOLICITED;
	case ND_ROUTER_ADVERT:
	case ND_REDIRECT:
		return DROP_ROUTER;
	case ND_NEIGHBOR_SOLICIT:
		if ((uint32_t)f->hdrs.l4 + ND_LEN > f->hdrs.end)
			return DROP_MALFORMED;
		return options_ok(f, ND_OPT_SOURCE_LINKADDR) ? AGREES : DROP_SPOOFED_MAC;
	case ND_NEIGHBOR_ADVERT:
		if ((uint32_t)f->hdrs.l4 + ND_LEN > f->hdrs.end)
			return DROP_MALFORMED;
		if (!options_ok(f, ND_OPT_TARGET_LINKADDR))
			return DROP_SPOOFED_MAC;
		return dp_source_ok6(&w->source, slot, from, icmp + 8) ? AGREES : DROP_SPOOFED_IP;
	default:
		return AGREES;
	}
}

enum dp_drop
dp_source_told(struct dp_worker *w, const struct dp_frame *f, const struct dp_fdb_key *from, struct dp_flow_slot *slot)
{
	const dp_ipv4_hdr *ip4 = (const void *)(f->data + f->hdrs.l3);
	const dp_ipv6_hdr *ip6 = (const void *)(f->data + f->hdrs.l3);

	if (likely(f->hdrs.version == 4))
		return dp_source_ok4(&w->source, slot, from, ip4->src_addr) ? DP_DROP_COUNT : DP_DROP_SPOOFED_IP;
	if (!f->hdrs.version)
		return f->hdrs.ethertype == ETH_P_ARP ? (enum dp_drop)arp(w, f, from, slot) : DP_DROP_COUNT;
	if (!dp_source_ok6(&w->source, slot, from, (const uint8_t *)&ip6->src_addr))
		return DP_DROP_SPOOFED_IP;
	if (f->hdrs.proto == IPPROTO_ICMPV6 && !f->hdrs.fragment)
		return (enum dp_drop)nd(w, f, from, slot);
	return DP_DROP_COUNT;
}
