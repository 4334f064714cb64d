/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_LANES_H
#define DP_LANES_H

/* Sixteen bytes at once. Compilers know the arithmetic of such vectors on every machine, and only the test for 0 less well than we. */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#ifdef __x86_64__
#include <smmintrin.h>
#endif

typedef uint64_t dp_lanes __attribute__((vector_size(16)));

static inline dp_lanes
dp_lanes_load(const void *p)
{
	dp_lanes v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline bool
dp_lanes_zero(dp_lanes v)
{
#ifdef __x86_64__
	return _mm_testz_si128((__m128i)v, (__m128i)v);
#else
	return !(v[0] | v[1]);
#endif
}

#endif
