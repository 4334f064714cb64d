/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_RX_FAIRNESS_H
#define DP_RX_FAIRNESS_H

/*
 * Who gets a worker's time when more comes from the underlay than it can deliver. Left to itself the kernel's queue
 * would overflow, and cost whoever keeps to his share as much as whoever does not. So once the queue has not been
 * empty for a while, the time that deliveries take is held against their inner sources, and a source that is far ahead
 * of the others is dropped before it costs anything, until the queue is empty again.
 */
#include <stdbool.h>
#include <stdint.h>

/* Sources are told apart by a hash of their MAC. */
#define DP_RX_SOURCES 256

struct dp_rx_fairness {
	bool congested;
	uint64_t waiting;                /* cycle count since when there was always more to read; 0: there was not */
	uint64_t settled;                /* cycle count of the last settlement */
	uint64_t charged;                /* cycles since then */
	uint64_t ahead;                  /* cycles of deficit that are borne */
	uint64_t deficit[DP_RX_SOURCES]; /* cycles that a source took beyond its share */
};

/* After a read of the underlay that left something, perhaps a queue that may overflow: settles what was delivered. */
void dp_rx_fairness_settle(struct dp_rx_fairness *f, bool full);

/* After one that left nothing. */
static inline void
dp_rx_fairness_idle(struct dp_rx_fairness *f)
{
	f->waiting = 0;
	f->congested = false;
}

/* Holds a delivery that took so many cycles against its source. */
void dp_rx_fairness_charge(struct dp_rx_fairness *f, uint64_t mac, uint64_t cycles);
/* Must the source wait for the others? */
bool dp_rx_fairness_over(struct dp_rx_fairness *f, uint64_t mac);

#endif
