/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_RX_STANDING_H
#define DP_RX_STANDING_H

/*
 * A queue that stays long serves nobody: all wait in it, and whoever comes when it is full is lost. TCP gives way by itself,
 * others do not. So once what the underlay's socket holds has stood for a while (CoDel's term: RFC 8289 section 3.1), datagrams
 * of who sends many are dropped before they cost anything, until little is left.
 */
#include <stdbool.h>
#include <stdint.h>

/* Sources are told apart by a hash of their MAC. */
#define DP_RX_STANDING_SOURCES 256

struct dp_rx_standing {
	bool dropping;
	uint64_t since;                             /* cycle count since when the queue has been long; 0: it is not */
	uint64_t stopped;                           /* cycle count at which it last was, and datagrams were dropped; 0: never */
	uint64_t halved;                            /* cycle count at which what follows was */
	uint64_t work;                              /* (dp_work) that came while the queue was long */
	uint64_t datagrams[DP_RX_STANDING_SOURCES]; /* the part of it that is anything but TCP, by source */
};

/* After each read of the underlay: how full the queue is that it has left, from 0 to 1. */
void dp_rx_standing_settle(struct dp_rx_standing *q, double fill);

/* A packet of so much work came while the queue was long. True when it is one to drop. */
bool dp_rx_standing_over(struct dp_rx_standing *q, uint64_t mac, bool tcp, uint64_t work);

#endif
