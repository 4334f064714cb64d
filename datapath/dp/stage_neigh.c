// SPDX-License-Identifier: Apache-2.0
/*
 * ARP (RFC 826) and neighbour discovery (RFC 4861) answered on the spot: the control plane knows every address, so no
 * question leaves the host.
 */
#include <netinet/icmp6.h>

#include "pure_bytes.h"
#include "pure_csum.h"
#include "pipeline.h"

#define ETHERTYPE_ARP 0x0806
#define ETHERTYPE_IPV6 0x86dd
#define ARP_LEN (DP_ETH_LEN + 28)
#define IPV6_LEN 40
#define NS_LEN 24 /* type, code, checksum, flags, target: RFC 4861 section 4.3 */
#define NA_LEN 32 /* the same and the target's link-layer address: section 4.4 */

static void
answer(struct dp_worker *w, struct dp_port *to, uint8_t *frame, uint32_t len)
{
	struct virtio_net_hdr none = { 0 };
	struct iovec iov[2] = { { &none, sizeof(none) }, { frame, len } };

	to->ops->write(w, to, iov, 2, len);
}

static const uint8_t ethernet_ipv4[6] = { 0, 1, 8, 0, 6, 4 };

static void
arp_reply(struct dp_worker *w, struct dp_port *to, const uint8_t asker[4], const uint8_t target[4], const uint8_t mac[6])
{
	uint8_t reply[ARP_LEN];
	uint8_t *arp = reply + DP_ETH_LEN;

	memcpy(reply, to->mac, 6);
	memcpy(reply + 6, mac, 6);
	dp_store_be16(reply + 12, ETHERTYPE_ARP);
	memcpy(arp, ethernet_ipv4, 6);
	dp_store_be16(arp + 6, 2);
	memcpy(arp + 8, mac, 6);
	memcpy(arp + 14, target, 4);
	memcpy(arp + 18, to->mac, 6);
	memcpy(arp + 24, asker, 4);
	answer(w, to, reply, sizeof(reply));
}

static void
unknown(struct dp_worker *w, struct dp_port *from, struct dp_addr asker, struct dp_addr target, enum dp_drop why)
{
	dp_count(w, why);
	dp_ask_later(w, from, asker, target);
}

static bool
respond_arp(struct dp_worker *w, struct dp_port *from, const struct dp_frame *f)
{
	static const uint8_t none[4];
	const uint8_t *arp = f->data + DP_ETH_LEN;
	struct dp_addr target;
	uint8_t mac[6];

	if (f->len < ARP_LEN || memcmp(arp, ethernet_ipv4, 6)) {
		dp_count(w, DP_DROP_MALFORMED);
		return true;
	}
	if (memcmp(arp + 8, from->mac, 6)) {
		dp_count(w, DP_DROP_SPOOFED_MAC);
		return true;
	}
	if (memcmp(arp + 14, none, 4) && !(from->has_ip4 && !memcmp(arp + 14, from->ip4.b + 12, 4))) {
		dp_count(w, DP_DROP_SPOOFED_IP);
		return true;
	}
	target = dp_addr4(arp + 24);
	if (from->has_ip4 && dp_addr_equal(&target, &from->ip4)) {
		dp_count(w, DP_DROP_PROBE);
		return true;
	}
	if (dp_load_be16(arp + 6) != 1)
		return false;
	if (dp_neigh_lookup(f->vni, &target, mac))
		arp_reply(w, from, arp + 14, arp + 24, mac);
	else
		unknown(w, from, dp_addr4(arp + 14), target, DP_DROP_ARP_UNKNOWN);
	return true;
}

#define NA_OVERRIDE 0x20
#define NA_SOLICITED 0x40

static void
advertise(struct dp_worker *w, struct dp_port *to, const uint8_t asker[16], const uint8_t target[16], const uint8_t mac[6], uint8_t flags)
{
	uint8_t reply[DP_ETH_LEN + IPV6_LEN + NA_LEN] = { 0 };
	uint8_t *ip = reply + DP_ETH_LEN, *na = ip + IPV6_LEN;
	uint64_t sum;

	memcpy(reply, to->mac, 6);
	memcpy(reply + 6, mac, 6);
	dp_store_be16(reply + 12, ETHERTYPE_IPV6);
	ip[0] = 0x60;
	dp_store_be16(ip + 4, NA_LEN);
	ip[6] = IPPROTO_ICMPV6;
	ip[7] = 255;
	memcpy(ip + 8, target, 16);
	memcpy(ip + 24, asker, 16);
	na[0] = ND_NEIGHBOR_ADVERT;
	na[4] = flags;
	memcpy(na + 8, target, 16);
	na[24] = ND_OPT_TARGET_LINKADDR;
	na[25] = 1;
	memcpy(na + 26, mac, 6);
	sum = dp_csum_pseudo6(ip, IPPROTO_ICMPV6, NA_LEN);
	dp_store16(na + 2, ~dp_csum_fold(dp_csum_add(na, NA_LEN, sum)));
	answer(w, to, reply, sizeof(reply));
}

static void
advertise_asked(struct dp_worker *w, struct dp_port *to, const struct dp_frame *question, const uint8_t mac[6])
{
	static const uint8_t all_nodes[16] = { 0xff, 2, [15] = 1 };
	static const uint8_t none[16];
	const uint8_t *asker = question->data + question->hdrs.l3 + 8;
	const uint8_t *target = question->data + question->hdrs.l4 + 8;

	/* Duplicate detection: the asker has no address to answer to. */
	if (!memcmp(asker, none, 16))
		advertise(w, to, all_nodes, target, mac, NA_OVERRIDE);
	else
		advertise(w, to, asker, target, mac, NA_OVERRIDE | NA_SOLICITED);
}

static bool
own_ip6(const struct dp_port *port, const struct dp_addr *addr)
{
	return (port->has_ip6 && dp_addr_equal(addr, &port->ip6)) || dp_addr_equal(addr, &port->link_local);
}

static bool
respond_nd(struct dp_worker *w, struct dp_port *from, const struct dp_frame *f)
{
	const uint8_t *icmp = f->data + f->hdrs.l4;
	struct dp_addr target;
	uint8_t mac[6];

	if (f->hdrs.l4 < f->hdrs.end && (icmp[0] == ND_ROUTER_SOLICIT || icmp[0] == ND_ROUTER_ADVERT || icmp[0] == ND_REDIRECT)) {
		dp_count(w, icmp[0] == ND_ROUTER_SOLICIT ? DP_DROP_ROUTER_SOLICITED : DP_DROP_ROUTER);
		return true;
	}
	if ((uint32_t)f->hdrs.l4 + NS_LEN > f->hdrs.end) {
		if (f->hdrs.l4 >= f->hdrs.end || (icmp[0] != ND_NEIGHBOR_SOLICIT && icmp[0] != ND_NEIGHBOR_ADVERT))
			return false;
		dp_count(w, DP_DROP_MALFORMED);
		return true;
	}
	if (icmp[0] != ND_NEIGHBOR_SOLICIT && icmp[0] != ND_NEIGHBOR_ADVERT)
		return false;
	memcpy(target.b, icmp + 8, 16);
	if (icmp[0] == ND_NEIGHBOR_ADVERT) {
		if (own_ip6(from, &target))
			return false;
		dp_count(w, DP_DROP_SPOOFED_IP);
		return true;
	}
	if (own_ip6(from, &target))
		dp_count(w, DP_DROP_PROBE);
	else if (dp_addr_is4(&target)) /* under this key lies what ARP asks for */
		dp_count(w, DP_DROP_ND_UNKNOWN);
	else if (dp_neigh_lookup(f->vni, &target, mac))
		advertise_asked(w, from, f, mac);
	else
		unknown(w, from, dp_addr_of(f->data + f->hdrs.l3 + 8, 6), target, DP_DROP_ND_UNKNOWN);
	return true;
}

bool
dp_respond(struct dp_worker *w, struct dp_port *from, struct dp_frame *f)
{
	if (f->hdrs.version == 6)
		return f->hdrs.proto == IPPROTO_ICMPV6 && !f->hdrs.fragment && respond_nd(w, from, f);
	return !f->hdrs.version && dp_load_be16(f->data + 12) == ETHERTYPE_ARP && respond_arp(w, from, f);
}

/*
 * A container that was started anew has another MAC at the same address; who spoke to it before would go on with the old one
 * until a timer of its kernel's runs out. What it sends there tells that it has to be told.
 */
void
dp_correct(struct dp_worker *w, struct dp_port *from, const struct dp_frame *f)
{
	const uint8_t *ip = f->data + f->hdrs.l3;
	struct dp_addr asker, target;
	uint8_t mac[6];

	if (!f->hdrs.version)
		return;
	asker = dp_addr_of(ip + (f->hdrs.version == 4 ? 12 : 8), f->hdrs.version);
	target = dp_addr_of(ip + (f->hdrs.version == 4 ? 16 : 24), f->hdrs.version);
	if (f->hdrs.version == 6 && dp_addr_is4(&target))
		return;
	if (dp_neigh_lookup(f->vni, &target, mac) && memcmp(mac, f->data, 6))
		dp_tell(w, from, &asker, &target, mac);
}

void
dp_tell(struct dp_worker *w, struct dp_port *to, const struct dp_addr *asker, const struct dp_addr *target, const uint8_t mac[6])
{
	if (dp_addr_is4(target))
		arp_reply(w, to, asker->b + 12, target->b + 12, mac);
	else
		advertise(w, to, asker->b, target->b, mac, NA_OVERRIDE);
}
