/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_PURE_ADDR_H
#define DP_PURE_ADDR_H

/* IP addresses of either family, and the MACs of a frame. */
#include <stdbool.h>
#include <string.h>

#include "dp.h"
#include "pure_bytes.h"
#include "pure_hdr.h"

#define DP_MAC_MASK 0xffffffffffff

/* The addresses of a frame, as they lie in memory. */
static inline uint64_t
dp_destination(const uint8_t *frame)
{
	return dp_load64(&((const dp_ether_hdr *)frame)->dst_addr) & DP_MAC_MASK;
}

static inline uint64_t
dp_source(const uint8_t *frame)
{
	return dp_load64(&((const dp_ether_hdr *)frame)->src_addr) & DP_MAC_MASK;
}

static inline struct dp_addr
dp_addr4(const void *ip)
{
	struct dp_addr addr = { .b = { [10] = 0xff, [11] = 0xff } };

	memcpy(addr.b + 12, ip, 4);
	return addr;
}

static inline struct dp_addr
dp_addr6(const void *ip)
{
	struct dp_addr addr;

	memcpy(addr.b, ip, sizeof(addr.b));
	return addr;
}

/* The IPv4 address in it, in network order. */
static inline uint32_t
dp_addr_ip4(const struct dp_addr *addr)
{
	return dp_load32(addr->b + 12);
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

#endif
