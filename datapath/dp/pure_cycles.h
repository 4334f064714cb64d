/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_CYCLES_H
#define DP_CYCLES_H

#include <stdint.h>

#include <rte_cycles.h>

/* How far rte_rdtsc() advances in so many microseconds, an hour at most. On arm64 it counts some tens a microsecond, and not always a whole number. */
static inline uint64_t
dp_cycles(uint64_t us)
{
	return rte_get_tsc_hz() * us / US_PER_S;
}

#endif
