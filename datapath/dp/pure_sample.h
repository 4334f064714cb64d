/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_SAMPLE_H
#define DP_SAMPLE_H

/*
 * Hash-based selection (RFC 5475 section 5.3.2): every host comes to the same packets, since it looks at nothing that changes on the way: the
 * addresses, and of a TCP stream its ports and which 64 KiB of it, so that it does not matter how super-frames are cut up and merged; of UDP the ports and
 * the first bytes of the payload; of others the first bytes behind the IP header.
 */
#include <string.h>

#include "pure_lanes.h"
#include "pure_parse.h"

static inline uint64_t
dp_sample_load(const uint8_t *at, unsigned n)
{
	uint64_t v = 0;

	memcpy(&v, at, n);
	return v;
}

static inline uint64_t
dp_sample_mix(uint64_t addrs, uint64_t rest)
{
	return (addrs ^ (rest << 23 | rest >> 41)) * 0x9e3779b97f4a7c15;
}

static inline uint64_t
dp_sample_hash_slow(const uint8_t *frame, uint32_t len)
{
	struct dp_hdrs h;
	uint64_t addrs, rest;
	uint32_t at, n;

	if (dp_parse_fast(frame, len, &h) > DP_PARSE_NOT_IP || !h.version)
		return dp_sample_mix(len, dp_sample_load(frame, len < 8 ? len : 8));
	addrs = h.version == 4 ? dp_sample_load(frame + h.l3 + 12, 8) : dp_sample_load(frame + h.l3 + 16, 8) ^ dp_sample_load(frame + h.l3 + 32, 8);
	at = h.transport && h.proto == IPPROTO_UDP ? h.payload : h.l4;
	n = h.transport && h.proto == IPPROTO_TCP ? 6 : h.end - at;
	rest = dp_sample_load(frame + at, n < 8 ? n : 8);
	if (at != h.l4)
		rest += dp_sample_load(frame + h.l4, 4);
	return dp_sample_mix(addrs, rest);
}

/* From Ethernet's type to the checksum of an IPv4 header. */
union dp_sample_shape {
	uint8_t bytes[16];
	dp_lanes lanes;
};

static inline bool
dp_sample_is(const uint8_t *frame, union dp_sample_shape shape)
{
	/* Type, version and length, which piece it is, protocol. */
	static const union dp_sample_shape mask = { { 0xff, 0xff, 0xff, [8] = 0x3f, 0xff, [11] = 0xff } };

	return dp_lanes_zero((dp_lanes_load(frame + 12) & mask.lanes) ^ shape.lanes);
}

/* Its upper 32 bits are evenly spread. What most frames are is read from where it lies: IPv4 without options, in one piece. */
static inline uint64_t
dp_sample_hash(const uint8_t *frame, uint32_t len)
{
	static const union dp_sample_shape tcp = { { 8, 0, RTE_IPV4_VHL_DEF, [11] = IPPROTO_TCP } }, udp = { { 8, 0, RTE_IPV4_VHL_DEF, [11] = IPPROTO_UDP } };
	const uint8_t *ip = frame + ETH_HLEN, *l4 = ip + sizeof(dp_ipv4_hdr);

	if (__builtin_expect(len < ETH_HLEN + sizeof(dp_ipv4_hdr) + 16, 0))
		return dp_sample_hash_slow(frame, len);
	if (dp_sample_is(frame, udp))
		return dp_sample_mix(dp_sample_load(ip + 12, 8), dp_sample_load(l4 + 8, 8) + dp_sample_load(l4, 4));
	if (dp_sample_is(frame, tcp))
		return dp_sample_mix(dp_sample_load(ip + 12, 8), dp_sample_load(l4, 6));
	return dp_sample_hash_slow(frame, len);
}

#endif
