// SPDX-License-Identifier: Apache-2.0
#include <rte_common.h>

#include "pure_cycles.h"
#include "pure_rest.h"

/* So many times as long as their turns greedy ports rest: beside others they have a sixteenth of the worker's time. */
#define REST 15
/* A turn that took longer was interrupted by another process. */
#define TURN_MAX_US 250
/* Long enough to see a stream whose processes wait for a CPU. */
#define WINDOW_US 20000
/* A window in which other ports took less than this part of the time has nobody whom a rest would help. */
#define PART 32

void
dp_rest_modest(struct dp_rest *rest, uint64_t start, uint64_t end)
{
	if (end - rest->since > dp_cycles(WINDOW_US)) {
		rest->contested = rest->modest > (end - rest->since) / PART;
		rest->since = end;
		rest->modest = 0;
	}
	rest->modest += end - start;
}

void
dp_rest_greedy(struct dp_rest *rest, unsigned n, uint64_t start, uint64_t end)
{
	rest->until = end + REST * RTE_MIN(end - start, n * dp_cycles(TURN_MAX_US));
}

unsigned
dp_rest_left(const struct dp_rest *rest, uint64_t now)
{
	int64_t left = rest->until - now;

	return rest->contested && left > 0 ? (left - 1) / dp_cycles(1) + 1 : 0;
}

bool
dp_rest_short(const struct dp_rest *rest, uint64_t now)
{
	return rest->contested && (int64_t)(now - rest->until) < (int64_t)dp_cycles(WINDOW_US);
}
