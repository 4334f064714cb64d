/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_RX_STANDING_H
#define DP_RX_STANDING_H

/*
 * A queue that stays long serves nobody: all wait in it, and whoever comes when it is full is lost. TCP gives way by itself,
 * UDP need not. So when the queue of the underlay's socket has stood for long (as in CoDel: RFC 8289 section 3.1), and UDP is most
 * of what comes, the UDP of who sends most is not delivered until little is left.
 */
#include <stdbool.h>
#include <stdint.h>

/* Sources are told apart by a hash of their MAC. */
#define DP_RX_STANDING_SOURCES 1024

struct dp_rx_standing {
	bool is_long;
	bool dropping;
	uint64_t settled; /* cycle count of the last settlement */
	uint64_t stood;   /* cycles for which the queue has been long, less a part of those for which it was not */
	/* What came while it was long; halved whenever shares are settled, which was at this cycle count. */
	uint64_t halved;
	uint64_t work;                       /* dp_work */
	uint64_t udp;                        /* of it */
	uint64_t of[DP_RX_STANDING_SOURCES]; /* of that, by source */
	bool most[DP_RX_STANDING_SOURCES];   /* of those who sent most, as shares were settled */
};

/* After each read of the underlay: how full the queue is that it has left, from 0 to 1. Now is a cycle count. */
void dp_rx_standing_settle(struct dp_rx_standing *q, double fill, uint64_t now);

/* A packet of so much work came while the queue was long. True when it is one to drop. */
bool dp_rx_standing_over(struct dp_rx_standing *q, uint64_t mac, bool udp, uint64_t work);

#endif
