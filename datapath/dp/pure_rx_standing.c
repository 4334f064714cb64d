// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include <rte_common.h>

#include "pure_cycles.h"
#include "pure_rx_standing.h"

/* A queue is long from what a worker delivers in about a millisecond, until there is no more than it reads at once. */
#define LONG (1. / 16)
#define SHORT (1. / 64)
/* By then bursts are gone. */
#define PATIENCE_US 100000
/* For each so many microseconds without a long queue, one of those with one is forgotten. */
#define FORGET 4
/* What takes longer between two reads was interrupted by another process. */
#define STOOD_MAX_US 250
/* Shares are those of about so long. */
#define SHARES_US 10000

static void
settle_shares(struct dp_rx_standing *q, uint64_t now)
{
	bool by_udp = q->udp > q->work / 2;
	uint64_t most = 0;

	if (now - q->halved < dp_cycles(SHARES_US))
		return;
	for (unsigned i = 0; i < DP_RX_STANDING_SOURCES; i++)
		most = RTE_MAX(most, q->of[i]);
	for (unsigned i = 0; i < DP_RX_STANDING_SOURCES; i++) {
		q->most[i] = by_udp && q->of[i] > most / 4 * 3;
		q->of[i] /= 2;
	}
	q->work /= 2;
	q->udp /= 2;
	q->halved = now;
}

/* Who sent much in a queue before this one has not made it. */
static void
forget_shares(struct dp_rx_standing *q, uint64_t now)
{
	memset(q->of, 0, sizeof(q->of));
	memset(q->most, 0, sizeof(q->most));
	q->work = q->udp = 0;
	q->halved = now;
}

void
dp_rx_standing_settle(struct dp_rx_standing *q, double fill, uint64_t now)
{
	bool is_long = fill > (q->dropping ? SHORT : LONG);
	uint64_t passed = now - q->settled;

	q->settled = now;
	if (q->is_long)
		q->stood = RTE_MIN(q->stood + RTE_MIN(passed, dp_cycles(STOOD_MAX_US)), 2 * dp_cycles(PATIENCE_US));
	else
		q->stood -= RTE_MIN(q->stood, passed / FORGET);
	if (is_long && !q->stood)
		forget_shares(q, now);
	if (is_long)
		settle_shares(q, now);
	q->is_long = is_long;
	q->dropping = is_long && q->stood > dp_cycles(PATIENCE_US);
}

bool
dp_rx_standing_over(struct dp_rx_standing *q, uint64_t mac, bool udp, uint64_t work)
{
	unsigned source = mac * 0x9e3779b97f4a7c15 >> 54;

	q->work += work;
	if (!udp)
		return false;
	q->udp += work;
	q->of[source] += work;
	return q->dropping && q->most[source];
}
