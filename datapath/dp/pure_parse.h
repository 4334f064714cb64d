/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_PARSE_H
#define DP_PARSE_H

/* Where the headers of an inner Ethernet frame lie. Every length is checked before it is used. */
#include <linux/if_ether.h>
#include <stdbool.h>
#include <stdint.h>

#include "pure_hdr.h"

/* Extension headers that are walked (RFC 8200 section 4.1 needs six); a longer chain is malformed. */
#define DP_PARSE_IP6_EXT_MAX 8

enum dp_parse_result {
	DP_PARSE_OK,        /* IPv4 or IPv6 */
	DP_PARSE_NOT_IP,    /* anything else: version 0 */
	DP_PARSE_RUNT,      /* shorter than an Ethernet header */
	DP_PARSE_VLAN,      /* tagged: IEEE 802.1Q or 802.1ad */
	DP_PARSE_MALFORMED, /* IP, TCP or UDP header cut short, or with a length that lies */
};

/* Offsets from the start of the frame. What is the same in most frames lies together, so that it is written together. */
struct dp_hdrs {
	uint32_t end;       /* of the IP packet: Ethernet padding lies behind it; of the frame when not IP */
	uint16_t l3;        /* behind the Ethernet header */
	uint16_t l4;        /* behind the IP header and its options or extension headers; l3 when not IP */
	uint16_t ethertype; /* host order */
	uint16_t payload;   /* behind the TCP or UDP header; l4 when neither was recognised */
	uint8_t version;    /* 4, 6, or 0: not IP */
	bool fragment;      /* of an IP packet: ports are not looked at */
	bool routing;       /* IPv6 routing header: the checksum's destination is not the one in the IP header */
	bool transport;     /* a whole TCP or UDP header lies at l4 */
	uint8_t proto;      /* IP protocol, behind the extension headers */
};

/* Fills h when the result is DP_PARSE_OK or DP_PARSE_NOT_IP. A UDP length of less than the packet is allowed (RFC 9868). */
enum dp_parse_result dp_parse(const uint8_t *frame, uint32_t len, struct dp_hdrs *h);

/* What most frames are: TCP or UDP over IPv4 without options, in one piece. Else false, and dp_parse is to look. */
static inline bool
dp_parse_plain(const uint8_t *frame, uint32_t len, struct dp_hdrs *h)
{
	const dp_ether_hdr *eth = (const void *)frame;
	const dp_ipv4_hdr *ip = (const void *)(frame + sizeof(*eth));
	const dp_udp_hdr *udp = (const void *)(frame + sizeof(*eth) + sizeof(*ip));
	const dp_tcp_hdr *tcp = (const void *)udp;
	uint32_t total, hdr;

	if (len < sizeof(*eth) + sizeof(*ip) + sizeof(*udp) || eth->ether_type != htons(ETH_P_IP) || ip->version_ihl != RTE_IPV4_VHL_DEF || ip->fragment_offset & htons(DP_IPV4_FRAGMENT))
		return false;
	total = ntohs(ip->total_length);
	if (total > len - sizeof(*eth) || total < sizeof(*ip) + sizeof(*udp))
		return false;
	hdr = sizeof(*udp);
	if (ip->next_proto_id == IPPROTO_UDP) {
		uint32_t udp_len = ntohs(udp->dgram_len);

		if (udp_len < sizeof(*udp) || udp_len > total - sizeof(*ip))
			return false;
	} else if (ip->next_proto_id == IPPROTO_TCP && total >= sizeof(*ip) + sizeof(*tcp)) {
		hdr = dp_tcp_len(tcp);
		if (hdr < sizeof(*tcp) || hdr > total - sizeof(*ip))
			return false;
	} else {
		return false;
	}
	*h = (struct dp_hdrs){
		.end = ETH_HLEN + total,
		.l3 = ETH_HLEN,
		.l4 = ETH_HLEN + sizeof(*ip),
		.payload = ETH_HLEN + sizeof(*ip) + hdr,
		.ethertype = ETH_P_IP,
		.version = 4,
		.proto = ip->next_proto_id,
		.transport = true,
	};
	return true;
}

static inline enum dp_parse_result
dp_parse_fast(const uint8_t *frame, uint32_t len, struct dp_hdrs *h)
{
	return __builtin_expect(dp_parse_plain(frame, len, h), 1) ? DP_PARSE_OK : dp_parse(frame, len, h);
}

/* One round of multiply and shift: every bit of v reaches the upper half, and the shift brings it back to the lower. */
static inline uint64_t
dp_mix(uint64_t hash, uint64_t v)
{
	hash = (hash ^ v) * 0x9e3779b97f4a7c15;
	return hash ^ hash >> 32;
}

/*
 * Hash of the flow that the frame belongs to, all 32 bits well mixed: addresses and protocol, and ports unless it is a
 * fragment; when not IP, MACs and type. For the outer source port of RFC 7348 section 5.
 */
uint32_t dp_flow_hash(const uint8_t *frame, const struct dp_hdrs *h);

/* The same, in line for what most frames are. */
static inline uint32_t
dp_flow_hash_fast(const uint8_t *frame, const struct dp_hdrs *h)
{
	uint64_t hash;

	if (__builtin_expect(h->version != 4 || !h->transport, 0))
		return dp_flow_hash(frame, h);
	hash = dp_mix((uint64_t)ETH_P_IP << 8 | h->proto, dp_ipv4_addrs((const void *)(frame + h->l3)));
	hash = dp_mix(hash, dp_l4_ports(frame + h->l4));
	return (uint32_t)dp_mix(hash, hash >> 29);
}

#endif
