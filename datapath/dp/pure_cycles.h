/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_CYCLES_H
#define DP_CYCLES_H

#include <stdint.h>

#include <rte_cycles.h>

/* How far rte_rdtsc() advances in so many microseconds. */
static inline uint64_t
dp_cycles(uint64_t us)
{
	return rte_get_tsc_hz() / US_PER_S * us;
}

#endif
