// SPDX-License-Identifier: Apache-2.0
/*
 * The way to a VTEP through a device: the outer headers that all packets begin with (RFC 7348 section 5 over RFC 894, 2464,
 * 791, 8200 and 768). Over IPv4 DF is set, the IP id 0 (RFC 6864 section 4.1) and the UDP checksum 0 as RFC 7348 wants it.
 * Over IPv6 the checksum is there: few receivers take a packet without (RFC 6935 section 5).
 */
#include <errno.h>
#include <stdlib.h>

#include "port.h"
#include "port_outer.h"
#include "pure_csum.h"

#define TTL 64

static dp_udp_hdr *
template_ip4(struct dp_eth_outer *o, const struct dp_vtep *vtep)
{
	dp_ipv4_hdr *ip = (void *)(o->bytes + DP_ETH_LEN);

	o->is4 = true;
	*ip = (dp_ipv4_hdr){
		.version_ihl = RTE_IPV4_VHL_DEF,
		.fragment_offset = htons(RTE_IPV4_HDR_DF_FLAG),
		.time_to_live = TTL,
		.next_proto_id = IPPROTO_UDP,
		.src_addr = dp_addr_ip4(&dp.config.vtep),
		.dst_addr = dp_addr_ip4(&vtep->addr),
	};
	o->sum = dp_csum_fold(dp_csum_add(ip, sizeof(*ip), 0));
	return (void *)(ip + 1);
}

static dp_udp_hdr *
template_ip6(struct dp_eth_outer *o, const struct dp_vtep *vtep)
{
	dp_ipv6_hdr *ip = (void *)(o->bytes + DP_ETH_LEN);

	*ip = (dp_ipv6_hdr){ .vtc_flow = htonl(DP_IPV6_VERSION), .proto = IPPROTO_UDP, .hop_limits = TTL };
	memcpy(&ip->src_addr, dp.config.vtep.b, 16);
	memcpy(&ip->dst_addr, vtep->addr.b, 16);
	o->sum = dp_csum_fold(dp_csum_pseudo6(ip, IPPROTO_UDP, 0));
	return (void *)(ip + 1);
}

void
dp_outer_template(struct dp_eth_outer *o, struct dp_vtep *vtep, const uint8_t to[6], const uint8_t from[6])
{
	bool is4 = dp_addr_is4(&vtep->addr);
	dp_ether_hdr *outer = (void *)o->bytes;
	dp_vxlan_hdr *vxlan;
	dp_udp_hdr *udp;

	memset(o, 0, sizeof(*o));
	o->to = vtep;
	memcpy(&outer->dst_addr, to, 6);
	memcpy(&outer->src_addr, from, 6);
	outer->ether_type = htons(is4 ? ETH_P_IP : ETH_P_IPV6);
	udp = is4 ? template_ip4(o, vtep) : template_ip6(o, vtep);
	udp->dst_port = ((const struct sockaddr_in *)&vtep->to)->sin_port; /* sin6_port lies there too */
	vxlan = (void *)(udp + 1);
	vxlan->vx_flags = htonl(DP_VXLAN_FLAG_I);
}

static struct dp_eth_outer *
outer_new(struct dp_vtep *vtep, struct dp_eth *eth, const uint8_t mac[6])
{
	struct dp_eth_outer *o = aligned_alloc(RTE_CACHE_LINE_SIZE, sizeof(*o));

	if (!o)
		return NULL;
	dp_outer_template(o, vtep, mac, eth->mac);
	o->eth = eth;
	return o;
}

static void
outer_free(struct dp_eth_outer *o)
{
	if (!o)
		return;
	o->eth->users--;
	free(o);
}

/* NULL: by the kernel. */
static int
set_outer(struct dp_vtep *vtep, struct dp_eth_outer *new)
{
	struct dp_eth_outer *old = atomic_exchange_explicit(&vtep->outer, new, memory_order_acq_rel);

	dp_synchronize();
	outer_free(old);
	return 0;
}

int
dp_vtep_next_hop(uint32_t id, uint32_t device, const uint8_t mac[6])
{
	struct dp_vtep *vtep = id < DP_MAX_VTEPS ? dp_vtep_get(id) : NULL;
	struct dp_eth *eth = dp_eth_get(device);
	struct dp_eth_outer *new;

	if (!vtep || !eth)
		return -ENOENT;
	if (atomic_load(&eth->port))
		return -EBUSY;
	if (dp_addr_is4(&vtep->addr) != dp_addr_is4(&dp.config.vtep))
		return -EAFNOSUPPORT;
	new = outer_new(vtep, eth, mac);
	if (!new)
		return -ENOMEM;
	eth->users++;
	return set_outer(vtep, new);
}

int
dp_vtep_by_kernel(uint32_t id)
{
	struct dp_vtep *vtep = id < DP_MAX_VTEPS ? dp_vtep_get(id) : NULL;

	return vtep ? set_outer(vtep, NULL) : -ENOENT;
}

int
dp_vtep_del(uint32_t id)
{
	struct dp_vtep *vtep = id < DP_MAX_VTEPS ? dp_vtep_get(id) : NULL;
	struct dp_eth_outer *outer;
	struct dp_whole *whole;

	if (!vtep)
		return -ENOENT;
	outer = atomic_load(&vtep->outer);
	whole = atomic_load(&vtep->whole);
	dp_vtep_remove(vtep);
	outer_free(outer);
	free(whole);
	return 0;
}
