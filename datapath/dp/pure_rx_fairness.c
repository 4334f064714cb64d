// SPDX-License-Identifier: Apache-2.0
#include <rte_common.h>

#include "pure_cycles.h"
#include "pure_rx_fairness.h"

/* So long a queue is no burst any more. */
#define CONGESTED_US 500
/* A source this far ahead of the others does not give way by itself, as one with congestion control would. */
#define AHEAD_US 10000
/* When the queue is about to overflow there is no time to wait for that. */
#define AHEAD_FULL_US 500
/* What takes longer was interrupted by another process. */
#define CHARGE_MAX_US 250
/* The time of who is far ahead already counts so many times: he waits for nobody's answer, the others do. */
#define PENALTY 3
/* Deficits shrink by this part of the time that passes: the others may be gone. */
#define DECAY 256

/* What was charged is taken off all deficits in equal parts: who took more is left with one, for a while. */
static void
decay(struct dp_rx_fairness *f, uint64_t shrink)
{
	unsigned active = 0;
	uint64_t part;

	for (unsigned i = 0; i < DP_RX_SOURCES; i++)
		active += f->deficit[i] > 0;
	if (!active)
		return;
	part = f->charged / active + shrink;
	for (unsigned i = 0; i < DP_RX_SOURCES; i++)
		f->deficit[i] -= RTE_MIN(f->deficit[i], part);
	f->charged = 0;
}

void
dp_rx_fairness_settle(struct dp_rx_fairness *f, bool full)
{
	uint64_t now = rte_rdtsc(), passed = now - f->settled;

	if (!f->waiting)
		f->waiting = now;
	if (now - f->waiting <= dp_cycles(CONGESTED_US))
		return;
	decay(f, passed / DECAY);
	f->congested = true;
	f->ahead = dp_cycles(full ? AHEAD_FULL_US : AHEAD_US);
	/* The rest counts the next time: where time is counted slowly, as on arm64, there may be no more than that between two bursts. */
	f->settled = now - passed % DECAY;
}

static uint64_t *
deficit_of(struct dp_rx_fairness *f, uint64_t mac)
{
	return &f->deficit[mac * 0x9e3779b97f4a7c15 >> 56];
}

void
dp_rx_fairness_charge(struct dp_rx_fairness *f, uint64_t mac, uint64_t cycles)
{
	cycles = RTE_MIN(cycles, dp_cycles(CHARGE_MAX_US));
	if (*deficit_of(f, mac) > dp_cycles(AHEAD_US) / 2)
		cycles *= PENALTY;
	*deficit_of(f, mac) += cycles;
	f->charged += cycles;
}

bool
dp_rx_fairness_over(struct dp_rx_fairness *f, uint64_t mac)
{
	return *deficit_of(f, mac) > f->ahead;
}
