/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_THROTTLE_H
#define DP_THROTTLE_H

/*
 * A port that sends more than its share takes time from the others' containers as well as from their ports: its sender, the
 * worker and the receiving host compute on CPUs that they need. So beside ports that have work for the worker a flooding
 * one is throttled: it pauses after each of its turns, and the worker sleeps meanwhile when nobody else has anything.
 */
#include <stdbool.h>
#include <stdint.h>

struct dp_throttle {
	uint64_t since;  /* cycle count at which the window began */
	uint64_t normal; /* cycles in it that went to other ports, beside flooding ones */
	bool contended;  /* that was a part which counts, in the window before */
	uint64_t until;  /* cycle count at which the pause ends */
};

/* Beside flooding ports the turns of the others lasted from one cycle count to another. */
void dp_throttle_normal(struct dp_throttle *t, uint64_t start, uint64_t end);
/* And the turns of n flooding ones, which pause from then on. */
void dp_throttle_flooding(struct dp_throttle *t, unsigned n, uint64_t start, uint64_t end);
/* Microseconds that are left of the pause; 0: it is over. */
unsigned dp_throttle_left(const struct dp_throttle *t, uint64_t now);

/* Has a flooding port had a turn beside others lately? CPU time is short then: who waits for more is to sleep. */
bool dp_throttle_recent(const struct dp_throttle *t, uint64_t now);

#endif
