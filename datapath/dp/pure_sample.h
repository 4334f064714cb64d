/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_SAMPLE_H
#define DP_SAMPLE_H

/*
 * Hash-based selection (RFC 5475 section 5.3.2): every host comes to the same packets, since it looks at nothing that changes on the way. Of a
 * TCP stream it takes stretches of 64 KiB, so that it does not matter how super-frames are cut up and merged.
 */
#include <string.h>

#include "pure_parse.h"

static inline uint64_t
dp_sample_load(const uint8_t *at, unsigned n)
{
	uint64_t v = 0;

	memcpy(&v, at, n);
	return v;
}

/* Its upper 32 bits are evenly spread. */
static inline uint64_t
dp_sample_hash(const uint8_t *frame, uint32_t len)
{
	struct dp_hdrs h;
	uint64_t hash, v;

	if (dp_parse_fast(frame, len, &h) > DP_PARSE_NOT_IP || !h.version)
		return dp_mix(len, dp_sample_load(frame, len < 8 ? len : 8)) * 0x9e3779b97f4a7c15;
	hash = h.version == 4 ? dp_sample_load(frame + h.l3 + 12, 8) : dp_sample_load(frame + h.l3 + 16, 8) ^ dp_sample_load(frame + h.l3 + 32, 8);
	if (h.transport && h.proto == IPPROTO_TCP) {
		v = dp_sample_load(frame + h.l4, 6); /* ports, and the upper half of the sequence number */
	} else {
		const uint32_t at = h.transport ? h.payload : h.l4, n = h.end - at;

		v = dp_sample_load(frame + at, n < 8 ? n : 8);
		if (h.transport)
			v ^= dp_sample_load(frame + h.l4, 4) << 16;
	}
	return dp_mix(hash, v) * 0x9e3779b97f4a7c15;
}

#endif
