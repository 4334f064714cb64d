// SPDX-License-Identifier: Apache-2.0
#include <rte_common.h>

#include "pure_cycles.h"
#include "pure_throttle.h"

/* So many times as long as their turns took, flooding ports wait: beside others they have a sixteenth of the worker's time. */
#define PAUSE 15
/* A turn that took longer was interrupted by another process. */
#define TURN_MAX_US 250
/* Long enough to see a stream whose processes wait for a CPU. */
#define WINDOW_US 20000
/* A window in which other ports took less than this part of the time has nobody whom a pause would help. */
#define PART 32

void
dp_throttle_normal(struct dp_throttle *t, uint64_t start, uint64_t end)
{
	if (end - t->since > dp_cycles(WINDOW_US)) {
		t->contended = t->normal > (end - t->since) / PART;
		t->since = end;
		t->normal = 0;
	}
	t->normal += end - start;
}

void
dp_throttle_flooding(struct dp_throttle *t, unsigned n, uint64_t start, uint64_t end)
{
	t->until = end + PAUSE * RTE_MIN(end - start, n * dp_cycles(TURN_MAX_US));
}

unsigned
dp_throttle_left(const struct dp_throttle *t, uint64_t now)
{
	int64_t left = t->until - now;

	return t->contended && left > 0 ? (left - 1) * US_PER_S / rte_get_tsc_hz() + 1 : 0;
}

bool
dp_throttle_recent(const struct dp_throttle *t, uint64_t now)
{
	return t->contended && (int64_t)(now - t->until) < (int64_t)dp_cycles(WINDOW_US);
}
