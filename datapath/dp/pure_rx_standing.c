// SPDX-License-Identifier: Apache-2.0
#include <rte_common.h>
#include <rte_cycles.h>

#include "pure_cycles.h"
#include "pure_rx_standing.h"

/* What a worker delivers in about a millisecond. */
#define LONG (1. / 16)
/* About what it reads at once. */
#define SHORT (1. / 64)
/* By then a burst is gone, and so is what came while the worker waited for a CPU. */
#define PATIENCE_US 5000
/* One that comes back soon is no other queue. */
#define AGAIN_US 100000
#define PATIENCE_AGAIN_US 500
#define HALVE_US 10000
/* Who sends less than this part of the work is not why the queue stands. */
#define PART 32

static void
halve(struct dp_rx_standing *q, uint64_t now)
{
	if (now - q->halved < dp_cycles(HALVE_US))
		return;
	q->halved = now;
	q->work /= 2;
	for (unsigned i = 0; i < DP_RX_STANDING_SOURCES; i++)
		q->datagrams[i] /= 2;
}

void
dp_rx_standing_settle(struct dp_rx_standing *q, double fill)
{
	uint64_t now;
	bool again;

	if (fill < (q->dropping ? SHORT : LONG)) {
		if (q->dropping)
			q->stopped = rte_rdtsc();
		q->dropping = false;
		q->since = 0;
		return;
	}
	now = rte_rdtsc();
	again = q->stopped && now - q->stopped < dp_cycles(AGAIN_US);
	if (!q->since)
		q->since = now;
	q->dropping |= now - q->since > dp_cycles(again ? PATIENCE_AGAIN_US : PATIENCE_US);
	halve(q, now);
}

bool
dp_rx_standing_over(struct dp_rx_standing *q, uint64_t mac, bool tcp, uint64_t work)
{
	uint64_t *datagrams = &q->datagrams[mac * 0x9e3779b97f4a7c15 >> 56];

	q->work += work;
	if (tcp)
		return false;
	*datagrams += work;
	return q->dropping && *datagrams > q->work / PART;
}
