// SPDX-License-Identifier: Apache-2.0
/* ARP replies (RFC 826) and neighbour advertisements (RFC 4861) to ports. */
#include <netinet/icmp6.h>

#include "pure_csum.h"
#include "stage.h"

#define IPV6_LEN 40
#define NA_LEN 32 /* type, code, checksum, flags, target and its link-layer address: RFC 4861 section 4.4 */

static void
answer(struct dp_worker *w, struct dp_port *to, uint8_t *frame, uint32_t len)
{
	struct virtio_net_hdr none = { 0 };
	struct iovec iov[2] = { { &none, sizeof(none) }, { frame, len } };

	to->ops->write(w, to, iov, 2, len);
}

void
dp_arp_reply(struct dp_worker *w, struct dp_port *to, const uint8_t asker[4], const uint8_t target[4], const uint8_t mac[6])
{
	uint8_t reply[DP_ARP_LEN];
	uint8_t *arp = reply + DP_ETH_LEN;

	memcpy(reply, to->mac, 6);
	memcpy(reply + 6, mac, 6);
	dp_store_be16(reply + 12, ETH_P_ARP);
	memcpy(arp, dp_arp_ethernet_ipv4, 6);
	dp_store_be16(arp + 6, 2);
	memcpy(arp + 8, mac, 6);
	memcpy(arp + 14, target, 4);
	memcpy(arp + 18, to->mac, 6);
	memcpy(arp + 24, asker, 4);
	answer(w, to, reply, sizeof(reply));
}

void
dp_nd_advertise(struct dp_worker *w, struct dp_port *to, const uint8_t asker[16], const uint8_t target[16], const uint8_t mac[6], uint8_t flags)
{
	uint8_t reply[DP_ETH_LEN + IPV6_LEN + NA_LEN] = { 0 };
	uint8_t *ip = reply + DP_ETH_LEN, *na = ip + IPV6_LEN;
	uint64_t sum;

	memcpy(reply, to->mac, 6);
	memcpy(reply + 6, mac, 6);
	dp_store_be16(reply + 12, ETH_P_IPV6);
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

void
dp_neigh_reply(struct dp_worker *w, struct dp_port *to, const struct dp_addr *asker, const struct dp_addr *target, const uint8_t mac[6])
{
	if (dp_addr_is4(target))
		dp_arp_reply(w, to, asker->b + 12, target->b + 12, mac);
	else
		dp_nd_advertise(w, to, asker->b, target->b, mac, DP_NA_OVERRIDE);
}
