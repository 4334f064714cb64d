/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_REST_H
#define DP_REST_H

/*
 * A port that sends more than its share takes time from the others' containers as well as from their ports: its sender, the
 * worker and the receiving host compute on CPUs that they need. So beside ports that have work for the worker a greedy one
 * rests after each of its turns, and the worker sleeps meanwhile when nobody else has anything.
 */
#include <stdbool.h>
#include <stdint.h>

struct dp_rest {
	uint64_t since;  /* cycle count at which the window began */
	uint64_t modest; /* cycles in it that went to other ports, beside greedy ones */
	bool contested;  /* that was a part which counts, in the window before */
	uint64_t until;  /* cycle count at which the rest ends */
};

/* Beside greedy ports the turns of the others lasted from one cycle count to another. */
void dp_rest_modest(struct dp_rest *rest, uint64_t start, uint64_t end);
/* And the turns of n greedy ones, which rest from then on. */
void dp_rest_greedy(struct dp_rest *rest, unsigned n, uint64_t start, uint64_t end);
/* Microseconds that are left of the rest; 0: it is over. */
unsigned dp_rest_left(const struct dp_rest *rest, uint64_t now);

/* Has a greedy port had a turn beside others lately? CPU time is short then: who waits for more is to sleep. */
bool dp_rest_short(const struct dp_rest *rest, uint64_t now);

#endif
