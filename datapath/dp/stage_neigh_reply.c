// SPDX-License-Identifier: Apache-2.0
/* ARP replies (RFC 826) and neighbour advertisements (RFC 4861) to ports. */
#include <netinet/icmp6.h>

#include "pure_csum.h"
#include "stage.h"

#define NA_LEN 32 /* type, code, checksum, flags, target and its link-layer address: RFC 4861 section 4.4 */

static void
answer(struct dp_worker *w, struct dp_port *to, uint8_t *frame, uint32_t len)
{
	struct virtio_net_hdr none = { 0 };
	struct iovec iov[2] = { { &none, sizeof(none) }, { frame, len } };

	dp_port_write(w, to, iov, 2, len);
}

static void
put_ether(uint8_t *frame, const struct dp_asker *to, const uint8_t from[6], uint16_t type)
{
	dp_ether_hdr *eth = (void *)frame;

	memcpy(&eth->dst_addr, to->mac, 6);
	memcpy(&eth->src_addr, from, 6);
	eth->ether_type = htons(type);
}

void
dp_arp_reply(struct dp_worker *w, struct dp_port *to, const struct dp_asker *asker, const uint8_t target[4], const uint8_t mac[6])
{
	uint8_t reply[DP_ARP_LEN];
	dp_arp_hdr *arp = (void *)(reply + DP_ETH_LEN);

	put_ether(reply, asker, mac, ETH_P_ARP);
	memcpy(arp, dp_arp_ethernet_ipv4, sizeof(dp_arp_ethernet_ipv4));
	arp->arp_opcode = htons(RTE_ARP_OP_REPLY);
	memcpy(&arp->arp_data.arp_sha, mac, 6);
	memcpy(&arp->arp_data.arp_sip, target, 4);
	memcpy(&arp->arp_data.arp_tha, asker->mac, 6);
	memcpy(&arp->arp_data.arp_tip, asker->addr.b + 12, 4);
	answer(w, to, reply, sizeof(reply));
}

void
dp_nd_advertise(struct dp_worker *w, struct dp_port *to, const struct dp_asker *asker, const uint8_t target[16], const uint8_t mac[6], uint8_t flags)
{
	uint8_t reply[DP_ETH_LEN + sizeof(dp_ipv6_hdr) + NA_LEN] = { 0 };
	dp_ipv6_hdr *ip = (void *)(reply + DP_ETH_LEN);
	uint8_t *na = (uint8_t *)(ip + 1);
	uint64_t sum;

	put_ether(reply, asker, mac, ETH_P_IPV6);
	*ip = (dp_ipv6_hdr){ .vtc_flow = htonl(DP_IPV6_VERSION), .payload_len = htons(NA_LEN), .proto = IPPROTO_ICMPV6, .hop_limits = 255 };
	memcpy(&ip->src_addr, target, 16);
	memcpy(&ip->dst_addr, asker->addr.b, 16);
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

void
dp_neigh_reply(struct dp_worker *w, struct dp_port *to, const struct dp_asker *asker, const struct dp_addr *target, const uint8_t mac[6])
{
	if (dp_addr_is4(target))
		dp_arp_reply(w, to, asker, target->b + 12, mac);
	else
		dp_nd_advertise(w, to, asker, target->b, mac, DP_NA_OVERRIDE);
}
