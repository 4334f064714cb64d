/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_SHARE_H
#define DP_SHARE_H

/*
 * Who gets a worker's time when more comes from the underlay than it can deliver. Left to itself the kernel's queue
 * would overflow, and cost whoever keeps to his share as much as whoever does not. So once the queue has not been
 * empty for a while, the time that deliveries take is held against their inner sources, and a source that is far ahead
 * of the others is dropped before it costs anything, until the queue is empty again.
 */
#include <stdbool.h>
#include <stdint.h>

/* Sources are told apart by a hash of their MAC. */
#define DP_SHARES 256

struct dp_share {
	bool pressed;
	uint64_t waiting;         /* cycle count since when there was always more to read; 0: there was not */
	uint64_t settled;         /* cycle count of the last settlement */
	uint64_t charged;         /* cycles since then */
	uint64_t ahead;           /* cycles of debt that are borne */
	uint64_t debt[DP_SHARES]; /* cycles that a source took beyond its share */
};

/* After each read of the underlay: settles what was delivered, and notes whether there is more, and whether the queue may overflow. */
void dp_share_settle(struct dp_share *share, bool more, bool full);
/* Holds a delivery that took so many cycles against its source. */
void dp_share_charge(struct dp_share *share, uint64_t mac, uint64_t cycles);
/* Must the source wait for the others? */
bool dp_share_over(struct dp_share *share, uint64_t mac);

#endif
