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

#define IP_DF 0x4000
#define TTL 64

static uint8_t *
template_ip4(struct dp_eth_outer *o, const struct dp_vtep *vtep)
{
	uint8_t *ip = o->bytes + DP_ETH_LEN;

	o->is4 = true;
	dp_store_be16(o->bytes + 12, ETH_P_IP);
	ip[0] = 0x45;
	dp_store_be16(ip + 6, IP_DF);
	ip[8] = TTL;
	ip[9] = IPPROTO_UDP;
	memcpy(ip + 12, dp.config.vtep.b + 12, 4);
	memcpy(ip + 16, vtep->addr.b + 12, 4);
	o->sum = dp_csum_fold(dp_csum_add(ip, DP_IP4_HDR, 0));
	return ip + DP_IP4_HDR;
}

static uint8_t *
template_ip6(struct dp_eth_outer *o, const struct dp_vtep *vtep)
{
	uint8_t *ip = o->bytes + DP_ETH_LEN;

	dp_store_be16(o->bytes + 12, ETH_P_IPV6);
	ip[0] = 0x60;
	ip[6] = IPPROTO_UDP;
	ip[7] = TTL;
	memcpy(ip + 8, dp.config.vtep.b, 16);
	memcpy(ip + 24, vtep->addr.b, 16);
	o->sum = dp_csum_fold(dp_csum_pseudo6(ip, IPPROTO_UDP, 0));
	return ip + DP_IP6_HDR;
}

static struct dp_eth_outer *
outer_new(const struct dp_vtep *vtep, struct dp_eth *eth, const uint8_t mac[6])
{
	struct dp_eth_outer *o = aligned_alloc(RTE_CACHE_LINE_SIZE, sizeof(*o));
	uint8_t *udp;

	if (!o)
		return NULL;
	memset(o, 0, sizeof(*o));
	o->eth = eth;
	memcpy(o->bytes, mac, 6);
	memcpy(o->bytes + 6, eth->mac, 6);
	udp = dp_addr_is4(&vtep->addr) ? template_ip4(o, vtep) : template_ip6(o, vtep);
	dp_store16(udp + 2, ((const struct sockaddr_in *)&vtep->to)->sin_port); /* sin6_port lies there too */
	/* The I flag. */
	udp[DP_UDP_HDR] = 0x08;
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
lead(struct dp_vtep *vtep, struct dp_eth_outer *new)
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
	return lead(vtep, new);
}

int
dp_vtep_by_kernel(uint32_t id)
{
	struct dp_vtep *vtep = id < DP_MAX_VTEPS ? dp_vtep_get(id) : NULL;

	return vtep ? lead(vtep, NULL) : -ENOENT;
}

int
dp_vtep_del(uint32_t id)
{
	struct dp_vtep *vtep = id < DP_MAX_VTEPS ? dp_vtep_get(id) : NULL;
	struct dp_eth_outer *outer;

	if (!vtep)
		return -ENOENT;
	outer = atomic_load(&vtep->outer);
	dp_vtep_remove(vtep);
	outer_free(outer);
	return 0;
}
