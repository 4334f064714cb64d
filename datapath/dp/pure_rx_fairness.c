// SPDX-License-Identifier: Apache-2.0
#include <rte_common.h>

#include "pure_cycles.h"
#include "pure_rx_fairness.h"

/* So long a queue is no burst any more. */
#define PRESSED_US 500
/* A source this far ahead of the others does not give way by itself, as one with congestion control would. */
#define AHEAD_US 10000
/* When the queue is about to overflow there is no time to wait for that. */
#define AHEAD_FULL_US 500
/* What takes longer was interrupted by another process. */
#define CHARGE_MAX_US 250
/* Who is far ahead already pays so many times the time: he waits for nobody's answer, the others do. */
#define FINE 3
/* This part of the time that passes is forgiven: the others may be gone. */
#define FADE 256

/* All that took time are forgiven an equal part of it: who took more is left with a debt, for a while. */
static void
forgive(struct dp_share *share, uint64_t passed)
{
	unsigned active = 0;
	uint64_t part;

	for (unsigned i = 0; i < DP_SHARES; i++)
		active += share->debt[i] > 0;
	if (!active)
		return;
	part = share->charged / active + passed / FADE;
	for (unsigned i = 0; i < DP_SHARES; i++)
		share->debt[i] -= RTE_MIN(share->debt[i], part);
	share->charged = 0;
}

void
dp_share_settle(struct dp_share *share, bool more, bool full)
{
	uint64_t now;

	if (!more) {
		share->waiting = 0;
		share->pressed = false;
		return;
	}
	now = rte_rdtsc();
	if (!share->waiting)
		share->waiting = now;
	if (now - share->waiting <= dp_cycles(PRESSED_US))
		return;
	forgive(share, now - share->settled);
	share->pressed = true;
	share->ahead = dp_cycles(full ? AHEAD_FULL_US : AHEAD_US);
	share->settled = now;
}

static uint64_t *
debt_of(struct dp_share *share, uint64_t mac)
{
	return &share->debt[mac * 0x9e3779b97f4a7c15 >> 56];
}

void
dp_share_charge(struct dp_share *share, uint64_t mac, uint64_t cycles)
{
	cycles = RTE_MIN(cycles, dp_cycles(CHARGE_MAX_US));
	if (*debt_of(share, mac) > dp_cycles(AHEAD_US) / 2)
		cycles *= FINE;
	*debt_of(share, mac) += cycles;
	share->charged += cycles;
}

bool
dp_share_over(struct dp_share *share, uint64_t mac)
{
	return *debt_of(share, mac) > share->ahead;
}
