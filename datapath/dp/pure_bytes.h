/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_BYTES_H
#define DP_BYTES_H

/*
 * Unaligned loads and stores. Headers behind a 14-byte Ethernet header are never aligned; memcpy is the one way to
 * them that C allows, and it compiles to one instruction. "be" is the order of the wire; the others keep the bytes
 * as they lie in memory.
 */
#include <arpa/inet.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t
dp_load16(const void *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline uint32_t
dp_load32(const void *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline uint64_t
dp_load64(const void *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline void
dp_store16(void *p, uint16_t v)
{
	memcpy(p, &v, sizeof(v));
}

static inline uint16_t
dp_load_be16(const void *p)
{
	return ntohs(dp_load16(p));
}

static inline uint32_t
dp_load_be32(const void *p)
{
	return ntohl(dp_load32(p));
}

static inline void
dp_store_be16(void *p, uint16_t v)
{
	dp_store16(p, htons(v));
}

static inline void
dp_store_be32(void *p, uint32_t v)
{
	v = htonl(v);
	memcpy(p, &v, sizeof(v));
}

#endif
