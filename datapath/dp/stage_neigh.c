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
	DROP_CLAIMS = DP_DROP_CLAIMS,
	DROP_ROUTER = DP_DROP_ROUTER,
	DROP_ROUTER_SOLICITED = DP_DROP_ROUTER_SOLICITED,
	ANSWERED = DP_DROP_COUNT, /* stage_neigh_reply.c */
	STAYS,                    /* goes the way of all frames */
};

/*
 * A container says that it has an address which is not its own. STAYS: it may, since the tables have it there, or since it is
 * trusted and no endpoint has it for its own; then the control plane hears of it.
 */
static enum edge
claim(struct dp_worker *w, struct dp_port *from, const struct dp_frame *f, const struct dp_addr *addr)
{
	const uint8_t *mac = (const uint8_t *)&((const dp_ether_hdr *)f->data)->src_addr;
	uint8_t at[6];

	if (from->trust < DP_TRUST_ADDRESS)
		return dp_neigh_lookup(f->vni, addr, at) && !memcmp(at, mac, 6) ? STAYS : DROP_SPOOFED_IP;
	if (dp_neigh_owned(f->vni, addr, mac))
		return DROP_SPOOFED_IP;
	if (!dp_claim_add(w, from, mac, addr))
		return DROP_CLAIMS;
	/* The control plane asks whether the address is still there: the answer is a claim, and no more. */
	return memcmp(f->data, dp_prober, 6) ? STAYS : ANSWERED;
}

static enum edge
respond_arp(struct dp_worker *w, struct dp_port *from, const struct dp_frame *f)
{
	const dp_arp_hdr *arp = (const void *)(f->data + DP_ETH_LEN);
	struct dp_asker asker;
	struct dp_addr target;
	enum edge edge = STAYS;
	uint8_t mac[6];

	if (f->len < DP_ARP_LEN || memcmp(arp, dp_arp_ethernet_ipv4, sizeof(dp_arp_ethernet_ipv4)))
		return DROP_MALFORMED;
	if (memcmp(&arp->arp_data.arp_sha, &((const dp_ether_hdr *)f->data)->src_addr, 6))
		return DROP_SPOOFED_MAC;
	asker = dp_asker(f, dp_addr4(&arp->arp_data.arp_sip));
	target = dp_addr4(&arp->arp_data.arp_tip);
	if (arp->arp_data.arp_sip && !(from->has_ip4 && arp->arp_data.arp_sip == dp_addr_ip4(&from->ip4)))
		edge = claim(w, from, f, &asker.addr);
	if (edge != STAYS)
		return edge;
	if (from->has_ip4 && dp_addr_equal(&target, &from->ip4))
		return DROP_PROBE;
	/* An announcement of what is not its own goes no further: who else is told, and when, the control plane decides. */
	if (arp->arp_data.arp_sip && dp_addr_equal(&target, &asker.addr))
		return DROP_PROBE;
	if (ntohs(arp->arp_opcode) != RTE_ARP_OP_REQUEST)
		return STAYS;
	if (dp_neigh_lookup(f->vni, &target, mac)) {
		if (!memcmp(mac, asker.mac, 6))
			return DROP_PROBE;
		dp_arp_reply(w, from, &asker, target.b + 12, mac);
		return ANSWERED;
	}
	/* Nobody has what it is about to take: RFC 5227 section 2.1. */
	if (!arp->arp_data.arp_sip && from->trust >= DP_TRUST_ADDRESS)
		return dp_claim_add(w, from, asker.mac, &target) ? DROP_PROBE : DROP_CLAIMS;
	dp_neigh_pending_add(w, from, asker, target);
	return DROP_ARP_UNKNOWN;
}

static const uint8_t no_address[16];

static void
advertise_asked(struct dp_worker *w, struct dp_port *to, const struct dp_frame *request, struct dp_asker asker, const uint8_t mac[6])
{
	static const struct dp_addr all_nodes = { .b = { 0xff, 2, [15] = 1 } };
	const uint8_t *target = request->data + request->hdrs.l4 + 8;

	/* Duplicate detection: the asker has no address to answer to. */
	if (memcmp(asker.addr.b, no_address, 16)) {
		dp_nd_advertise(w, to, &asker, target, mac, DP_NA_OVERRIDE | DP_NA_SOLICITED);
		return;
	}
	asker.addr = all_nodes;
	dp_nd_advertise(w, to, &asker, target, mac, DP_NA_OVERRIDE);
}

static bool
own_ip6(const struct dp_port *port, const struct dp_addr *addr)
{
	return (port->has_ip6 && dp_addr_equal(addr, &port->ip6)) || dp_addr_equal(addr, &port->link_local);
}

/* Whether the advertisement names another MAC than that of the frame: RFC 4861 section 4.4. */
static bool
names_another(const struct dp_frame *f)
{
	const uint8_t *na = f->data + f->hdrs.l4, *end = f->data + f->hdrs.end;

	for (const uint8_t *option = na + NS_LEN; option + 8 <= end && option[1]; option += 8 * option[1])
		if (option[0] == ND_OPT_TARGET_LINKADDR && memcmp(option + 2, &((const dp_ether_hdr *)f->data)->src_addr, 6))
			return true;
	return false;
}

static enum edge
respond_advertisement(struct dp_worker *w, struct dp_port *from, const struct dp_frame *f, const struct dp_addr *target)
{
	enum edge edge;

	if (own_ip6(from, target))
		return STAYS;
	if (from->trust >= DP_TRUST_ADDRESS && names_another(f))
		return DROP_SPOOFED_MAC;
	if (dp_addr_is4(target)) /* under this key lies what ARP asks for */
		return DROP_SPOOFED_IP;
	/* Like an announcement by ARP. */
	edge = claim(w, from, f, target);
	return edge == STAYS ? DROP_PROBE : edge;
}

static enum edge
respond_solicitation(struct dp_worker *w, struct dp_port *from, const struct dp_frame *f, const struct dp_addr *target)
{
	const dp_ipv6_hdr *ip = (const void *)(f->data + f->hdrs.l3);
	struct dp_asker asker = dp_asker(f, dp_addr6(&ip->src_addr));
	bool probe = !memcmp(asker.addr.b, no_address, 16);
	enum edge edge = probe || own_ip6(from, &asker.addr) ? STAYS : claim(w, from, f, &asker.addr);
	uint8_t mac[6];

	if (edge != STAYS)
		return edge;
	if (own_ip6(from, target))
		return DROP_PROBE;
	if (dp_addr_is4(target))
		return DROP_ND_UNKNOWN;
	if (dp_neigh_lookup(f->vni, target, mac)) {
		if (!memcmp(mac, asker.mac, 6))
			return DROP_PROBE;
		advertise_asked(w, from, f, asker, mac);
		return ANSWERED;
	}
	if (probe && from->trust >= DP_TRUST_ADDRESS)
		return dp_claim_add(w, from, asker.mac, target) ? DROP_PROBE : DROP_CLAIMS;
	dp_neigh_pending_add(w, from, asker, *target);
	return DROP_ND_UNKNOWN;
}

static enum edge
respond_nd(struct dp_worker *w, struct dp_port *from, const struct dp_frame *f)
{
	const uint8_t *icmp = f->data + f->hdrs.l4;
	struct dp_addr target;

	if (f->hdrs.l4 < f->hdrs.end && (icmp[0] == ND_ROUTER_SOLICIT || icmp[0] == ND_ROUTER_ADVERT || icmp[0] == ND_REDIRECT))
		return icmp[0] == ND_ROUTER_SOLICIT ? DROP_ROUTER_SOLICITED : DROP_ROUTER;
	if (f->hdrs.l4 >= f->hdrs.end || (icmp[0] != ND_NEIGHBOR_SOLICIT && icmp[0] != ND_NEIGHBOR_ADVERT))
		return STAYS;
	if ((uint32_t)f->hdrs.l4 + NS_LEN > f->hdrs.end)
		return DROP_MALFORMED;
	memcpy(target.b, icmp + 8, 16);
	if (icmp[0] == ND_NEIGHBOR_ADVERT)
		return respond_advertisement(w, from, f, &target);
	return respond_solicitation(w, from, f, &target);
}

/* What is neither ARP nor neighbour discovery passes from a MAC that the port has, and no other. */
static enum edge
known_source(const struct dp_port *from, const struct dp_frame *f)
{
	const uint8_t *mac = (const uint8_t *)&((const dp_ether_hdr *)f->data)->src_addr;

	return likely(!memcmp(mac, from->mac, 6)) || dp_port_has_mac(from, mac) ? STAYS : DROP_SPOOFED_MAC;
}

static enum edge
edge_of(struct dp_worker *w, struct dp_port *from, const struct dp_frame *f)
{
	enum edge edge = STAYS;

	if (f->hdrs.version == 6 && f->hdrs.proto == IPPROTO_ICMPV6 && !f->hdrs.fragment)
		edge = respond_nd(w, from, f);
	else if (!f->hdrs.version && f->hdrs.ethertype == ETH_P_ARP)
		edge = respond_arp(w, from, f);
	return edge == STAYS ? known_source(from, f) : edge;
}

bool
dp_neigh_respond(struct dp_worker *w, struct dp_port *from, struct dp_frame *f)
{
	enum edge edge = edge_of(w, from, f);

	if (edge < ANSWERED)
		dp_drop(w, (enum dp_drop)edge, f, from);
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
	struct dp_asker asker;
	struct dp_addr target;
	uint8_t mac[6];

	if (!f->hdrs.version)
		return;
	asker = dp_asker(f, f->hdrs.version == 4 ? dp_addr4(&ip4->src_addr) : dp_addr6(&ip6->src_addr));
	target = f->hdrs.version == 4 ? dp_addr4(&ip4->dst_addr) : dp_addr6(&ip6->dst_addr);
	if (f->hdrs.version == 6 && dp_addr_is4(&target))
		return;
	if (dp_neigh_lookup(f->vni, &target, mac) && memcmp(mac, f->data, 6))
		dp_neigh_reply(w, from, &asker, &target, mac);
}
