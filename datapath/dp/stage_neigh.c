// SPDX-License-Identifier: Apache-2.0
/*
 * ARP (RFC 826) and neighbour discovery (RFC 4861) answered on the spot: the control plane knows every address, so no
 * request leaves the host.
 */
#include <netinet/icmp6.h>

#include "stage.h"

/* DPDK has no structures for neighbour discovery, and the C library's want aligned memory: offsets by hand. */
#define NS_LEN 24 /* type, code, checksum, flags, target: RFC 4861 section 4.3 */

/* The ways out. */
enum edge {
	DROP_MALFORMED = DP_DROP_MALFORMED,
	DROP_SPOOFED_MAC = DP_DROP_SPOOFED_MAC,
	DROP_SPOOFED_IP = DP_DROP_SPOOFED_IP,
	DROP_PROBE = DP_DROP_PROBE,
	DROP_ARP_UNKNOWN = DP_DROP_ARP_UNKNOWN, /* and answered when the answer comes: stage_neigh_pending.c */
	DROP_ND_UNKNOWN = DP_DROP_ND_UNKNOWN,   /* likewise */
	DROP_ROUTER = DP_DROP_ROUTER,
	DROP_ROUTER_SOLICITED = DP_DROP_ROUTER_SOLICITED,
	ANSWERED = DP_DROP_COUNT, /* stage_neigh_reply.c */
	STAYS,                    /* goes the way of all frames */
};

static enum edge
respond_arp(struct dp_worker *w, struct dp_port *from, const struct dp_frame *f)
{
	const dp_arp_hdr *arp = (const void *)(f->data + DP_ETH_LEN);
	struct dp_addr asker, target;
	uint8_t mac[6];

	if (f->len < DP_ARP_LEN || memcmp(arp, dp_arp_ethernet_ipv4, sizeof(dp_arp_ethernet_ipv4)))
		return DROP_MALFORMED;
	if (memcmp(&arp->arp_data.arp_sha, from->mac, 6))
		return DROP_SPOOFED_MAC;
	if (arp->arp_data.arp_sip && !(from->has_ip4 && arp->arp_data.arp_sip == dp_addr_ip4(&from->ip4)))
		return DROP_SPOOFED_IP;
	asker = dp_addr4(&arp->arp_data.arp_sip);
	target = dp_addr4(&arp->arp_data.arp_tip);
	if (from->has_ip4 && dp_addr_equal(&target, &from->ip4))
		return DROP_PROBE;
	if (ntohs(arp->arp_opcode) != RTE_ARP_OP_REQUEST)
		return STAYS;
	if (dp_neigh_lookup(f->vni, &target, mac)) {
		dp_arp_reply(w, from, asker.b + 12, target.b + 12, mac);
		return ANSWERED;
	}
	dp_neigh_pending_add(w, from, asker, target);
	return DROP_ARP_UNKNOWN;
}

static void
advertise_asked(struct dp_worker *w, struct dp_port *to, const struct dp_frame *request, const uint8_t mac[6])
{
	static const uint8_t all_nodes[16] = { 0xff, 2, [15] = 1 };
	static const uint8_t none[16];
	const dp_ipv6_hdr *ip = (const void *)(request->data + request->hdrs.l3);
	const uint8_t *asker = (const uint8_t *)&ip->src_addr;
	const uint8_t *target = request->data + request->hdrs.l4 + 8;

	/* Duplicate detection: the asker has no address to answer to. */
	if (!memcmp(asker, none, 16))
		dp_nd_advertise(w, to, all_nodes, target, mac, DP_NA_OVERRIDE);
	else
		dp_nd_advertise(w, to, asker, target, mac, DP_NA_OVERRIDE | DP_NA_SOLICITED);
}

static bool
own_ip6(const struct dp_port *port, const struct dp_addr *addr)
{
	return (port->has_ip6 && dp_addr_equal(addr, &port->ip6)) || dp_addr_equal(addr, &port->link_local);
}

static enum edge
respond_nd(struct dp_worker *w, struct dp_port *from, const struct dp_frame *f)
{
	const dp_ipv6_hdr *ip = (const void *)(f->data + f->hdrs.l3);
	const uint8_t *icmp = f->data + f->hdrs.l4;
	struct dp_addr target;
	uint8_t mac[6];

	if (f->hdrs.l4 < f->hdrs.end && (icmp[0] == ND_ROUTER_SOLICIT || icmp[0] == ND_ROUTER_ADVERT || icmp[0] == ND_REDIRECT))
		return icmp[0] == ND_ROUTER_SOLICIT ? DROP_ROUTER_SOLICITED : DROP_ROUTER;
	if (f->hdrs.l4 >= f->hdrs.end || (icmp[0] != ND_NEIGHBOR_SOLICIT && icmp[0] != ND_NEIGHBOR_ADVERT))
		return STAYS;
	if ((uint32_t)f->hdrs.l4 + NS_LEN > f->hdrs.end)
		return DROP_MALFORMED;
	memcpy(target.b, icmp + 8, 16);
	if (icmp[0] == ND_NEIGHBOR_ADVERT)
		return own_ip6(from, &target) ? STAYS : DROP_SPOOFED_IP;
	if (own_ip6(from, &target))
		return DROP_PROBE;
	if (dp_addr_is4(&target)) /* under this key lies what ARP asks for */
		return DROP_ND_UNKNOWN;
	if (dp_neigh_lookup(f->vni, &target, mac)) {
		advertise_asked(w, from, f, mac);
		return ANSWERED;
	}
	dp_neigh_pending_add(w, from, dp_addr6(&ip->src_addr), target);
	return DROP_ND_UNKNOWN;
}

static enum edge
edge_of(struct dp_worker *w, struct dp_port *from, const struct dp_frame *f)
{
	if (f->hdrs.version == 6 && f->hdrs.proto == IPPROTO_ICMPV6 && !f->hdrs.fragment)
		return respond_nd(w, from, f);
	if (!f->hdrs.version && f->hdrs.ethertype == ETH_P_ARP)
		return respond_arp(w, from, f);
	return STAYS;
}

bool
dp_neigh_respond(struct dp_worker *w, struct dp_port *from, struct dp_frame *f)
{
	enum edge edge = edge_of(w, from, f);

	if (edge < ANSWERED)
		dp_count(w, (enum dp_drop)edge);
	return edge != STAYS;
}

/*
 * A container that was started anew has another MAC at the same address; who spoke to it before would go on with the old one
 * until a timer of its kernel's runs out. What it sends there tells that it has to be told.
 */
void
dp_neigh_correct(struct dp_worker *w, struct dp_port *from, const struct dp_frame *f)
{
	const dp_ipv4_hdr *ip4 = (const void *)(f->data + f->hdrs.l3);
	const dp_ipv6_hdr *ip6 = (const void *)(f->data + f->hdrs.l3);
	struct dp_addr asker, target;
	uint8_t mac[6];

	if (!f->hdrs.version)
		return;
	asker = f->hdrs.version == 4 ? dp_addr4(&ip4->src_addr) : dp_addr6(&ip6->src_addr);
	target = f->hdrs.version == 4 ? dp_addr4(&ip4->dst_addr) : dp_addr6(&ip6->dst_addr);
	if (f->hdrs.version == 6 && dp_addr_is4(&target))
		return;
	if (dp_neigh_lookup(f->vni, &target, mac) && memcmp(mac, f->data, 6))
		dp_neigh_reply(w, from, &asker, &target, mac);
}
