/* SPDX-License-Identifier: Apache-2.0 */
#include <linux/if_ether.h>
#include <netinet/in.h>
#include <string.h>

#include "pure_parse.h"

static enum dp_parse_result
parse_transport(const uint8_t *frame, struct dp_hdrs *h)
{
	const dp_tcp_hdr *tcp = (const void *)(frame + h->l4);
	const dp_udp_hdr *udp = (const void *)(frame + h->l4);
	uint32_t room = h->end - h->l4;
	uint32_t hdr;

	h->payload = h->l4;
	if (h->fragment)
		return DP_PARSE_OK;
	if (h->proto == IPPROTO_TCP) {
		if (room < sizeof(*tcp))
			return DP_PARSE_MALFORMED;
		hdr = dp_tcp_len(tcp);
		if (hdr < sizeof(*tcp) || hdr > room)
			return DP_PARSE_MALFORMED;
	} else if (h->proto == IPPROTO_UDP) {
		hdr = sizeof(*udp);
		if (room < hdr)
			return DP_PARSE_MALFORMED;

		uint16_t len = ntohs(udp->dgram_len);

		if (len < hdr || len > room)
			return DP_PARSE_MALFORMED;
	} else {
		return DP_PARSE_OK;
	}
	h->payload += hdr;
	h->transport = true;
	return DP_PARSE_OK;
}

static enum dp_parse_result
parse_ip4(const uint8_t *frame, uint32_t len, struct dp_hdrs *h)
{
	const dp_ipv4_hdr *ip = (const void *)(frame + h->l3);
	uint32_t room = len - h->l3;

	if (room < sizeof(*ip) || ip->version_ihl >> 4 != 4)
		return DP_PARSE_MALFORMED;

	uint32_t hdr = dp_ipv4_len(ip);
	uint32_t total = ntohs(ip->total_length);

	if (hdr < sizeof(*ip) || total < hdr || total > room)
		return DP_PARSE_MALFORMED;
	h->version = 4;
	h->proto = ip->next_proto_id;
	h->fragment = ip->fragment_offset & htons(DP_IPV4_FRAGMENT);
	h->l4 = h->l3 + hdr;
	h->end = h->l3 + total;
	return parse_transport(frame, h);
}

/* Walks the extension headers from type `next` at h->l4. All begin alike (RFC 6564), and DPDK has a structure of one alone: offsets by hand. */
static enum dp_parse_result
parse_ip6_ext(const uint8_t *frame, struct dp_hdrs *h, uint8_t next)
{
	for (int i = 0; i <= DP_PARSE_IP6_EXT_MAX; i++) {
		const uint8_t *ext = frame + h->l4;
		uint32_t room = h->end - h->l4;
		uint32_t hdr;

		switch (next) {
		case IPPROTO_HOPOPTS:
		case IPPROTO_DSTOPTS:
		case IPPROTO_ROUTING:
			if (room < 8)
				return DP_PARSE_MALFORMED;
			hdr = 8 + ext[1] * 8;
			h->routing |= next == IPPROTO_ROUTING;
			break;
		case IPPROTO_FRAGMENT:
			hdr = 8;
			h->fragment = true;
			break;
		default:
			h->proto = next;
			return parse_transport(frame, h);
		}
		if (room < hdr)
			return DP_PARSE_MALFORMED;
		h->l4 += hdr;
		next = ext[0];
		/* What lies behind a fragment header may be the middle of the packet. */
		if (h->fragment) {
			h->proto = next;
			h->payload = h->l4;
			return DP_PARSE_OK;
		}
	}
	return DP_PARSE_MALFORMED;
}

static enum dp_parse_result
parse_ip6(const uint8_t *frame, uint32_t len, struct dp_hdrs *h)
{
	const dp_ipv6_hdr *ip = (const void *)(frame + h->l3);
	uint32_t room = len - h->l3;

	if (room < sizeof(*ip) || !dp_is_ipv6(ip))
		return DP_PARSE_MALFORMED;

	uint32_t total = sizeof(*ip) + ntohs(ip->payload_len);

	if (total > room)
		return DP_PARSE_MALFORMED;
	h->version = 6;
	h->l4 = h->l3 + sizeof(*ip);
	h->end = h->l3 + total;
	return parse_ip6_ext(frame, h, ip->proto);
}

enum dp_parse_result
dp_parse(const uint8_t *frame, uint32_t len, struct dp_hdrs *h)
{
	if (len < ETH_HLEN)
		return DP_PARSE_RUNT;
	*h = (struct dp_hdrs){
		.end = len,
		.l3 = ETH_HLEN,
		.l4 = ETH_HLEN,
		.payload = ETH_HLEN,
		.ethertype = ntohs(((const dp_ether_hdr *)frame)->ether_type),
	};
	switch (h->ethertype) {
	case ETH_P_8021Q:
	case ETH_P_8021AD:
		return DP_PARSE_VLAN;
	case ETH_P_IP:
		return parse_ip4(frame, len, h);
	case ETH_P_IPV6:
		return parse_ip6(frame, len, h);
	default:
		return DP_PARSE_NOT_IP;
	}
}

uint32_t
dp_flow_hash(const uint8_t *frame, const struct dp_hdrs *h)
{
	const dp_ipv4_hdr *ip4 = (const void *)(frame + h->l3);
	const dp_ipv6_hdr *ip6 = (const void *)(frame + h->l3);
	uint64_t hash = (uint64_t)h->ethertype << 8 | h->proto;

	switch (h->version) {
	case 4:
		hash = dp_mix(hash, dp_ipv4_addrs(ip4));
		break;
	case 6:
		for (int i = 0; i < 16; i += 8)
			hash = dp_mix(hash, dp_load64((const uint8_t *)&ip6->src_addr + i));
		for (int i = 0; i < 16; i += 8)
			hash = dp_mix(hash, dp_load64((const uint8_t *)&ip6->dst_addr + i));
		break;
	default:
		/* Both MACs. */
		hash = dp_mix(hash, dp_load64(frame));
		hash = dp_mix(hash, dp_load32(frame + 8));
	}
	if (h->transport)
		hash = dp_mix(hash, dp_l4_ports(frame + h->l4));
	return (uint32_t)dp_mix(hash, hash >> 29);
}
