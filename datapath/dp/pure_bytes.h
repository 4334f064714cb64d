/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_BYTES_H
#define DP_BYTES_H

/* Bytes of any address as words, and back, as they lie in memory: memcpy compiles to one instruction. */
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

#endif
