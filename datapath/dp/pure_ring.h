/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_RING_H
#define DP_RING_H

/* What comes of a look at a ring that is shared with a container. */
enum dp_ring_result {
	DP_RING_OK,
	DP_RING_EMPTY,    /* the container has given no more */
	DP_RING_TOO_LONG, /* for the room there is */
	DP_RING_BROKEN,   /* nothing on the ring counts any more */
};

#endif
