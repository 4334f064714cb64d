/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_PURE_ADDR_H
#define DP_PURE_ADDR_H

/* IP addresses of either family, and the MACs of a frame. */
#include <stdbool.h>
#include <string.h>

#include "dp.h"
#include "pure_bytes.h"

#define DP_MAC_MASK 0xffffffffffff

/* The addresses of a frame, as they lie in memory. */
static inline uint64_t
dp_destination(const uint8_t *frame)
{
	return dp_load64(frame) & DP_MAC_MASK;
}

static inline uint64_t
dp_source(const uint8_t *frame)
{
	return dp_load64(frame + 6) & DP_MAC_MASK;
}

static inline struct dp_addr
dp_addr4(const uint8_t ip[4])
{
	struct dp_addr addr = { .b = { [10] = 0xff, [11] = 0xff } };

	memcpy(addr.b + 12, ip, 4);
	return addr;
}

static inline bool
dp_addr_is4(const struct dp_addr *addr)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	return !memcmp(addr->b, mapped, sizeof(mapped));
}

static inline bool
dp_addr_equal(const struct dp_addr *a, const struct dp_addr *b)
{
	return !memcmp(a, b, sizeof(*a));
}

/* An IPv6 address, or an IPv4 one mapped into it. */
static inline struct dp_addr
dp_addr_of(const uint8_t *ip, uint8_t version)
{
	struct dp_addr addr;

	if (version == 4)
		return dp_addr4(ip);
	memcpy(addr.b, ip, sizeof(addr.b));
	return addr;
}

#endif
