/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_PORT_TURN_H
#define DP_PORT_TURN_H

/* What a port of a container may say in one turn. */
#include "port.h"

/*
 * What one port may put into a burst, so that a flooding container leaves room for the others: frames, and work. What is
 * more than a turn's work, as a super-frame of many small segments, is left out of the next turns.
 */
#define DP_TURN_FRAMES 32
#define DP_TURN_WORK (128 * 1024)
/* Turns beyond this are not counted: when the port has been empty three times, it floods no more. */
#define DP_BACKLOGGED_MAX (4u * DP_FLOOD_TURNS)

/* Reads one frame into the buffer, which is a worker's. */
typedef enum dp_read (*dp_read_frame)(struct dp_worker *w, struct dp_port *port, struct rte_mbuf *buffer, struct dp_frame *f);

/* A segment of the container's own TCP, which has left the checksum to the port. */
static inline bool
dp_frame_is_tcp(const struct dp_frame *f)
{
	return f->vnet.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM && f->vnet.csum_offset == offsetof(struct rte_tcp_hdr, cksum);
}

/* Reads a turn's worth into the worker's burst; true when there may be more. */
static __rte_always_inline bool
dp_port_turn(struct dp_worker *w, struct dp_port *port, dp_read_frame read)
{
	uint64_t *work = &port->worker[w->id].work;
	unsigned *backlogged = &port->worker[w->id].backlogged;
	unsigned divisor = dp_turn_divisor(w, port);
	unsigned before = w->n_frames, tcp = 0;

	for (unsigned turn = 0; turn < DP_TURN_FRAMES / divisor && *work < DP_TURN_WORK / divisor && w->n_frames < DP_BURST; turn++) {
		struct dp_frame *f = &w->frames[w->n_frames];

		switch (read(w, port, w->mbufs[w->n_frames], f)) {
		case DP_READ_FRAME:
			w->from[w->n_frames++] = port;
			*work += dp_work(dp_frame_segments(f), f->len);
			tcp += dp_frame_is_tcp(f);
			break;
		case DP_READ_DROPPED:
			*work += dp_work(1, 0);
			break;
		case DP_READ_EMPTY:
			*work = 0;
			*backlogged /= 2;
			return false;
		}
	}
	*backlogged = tcp > (w->n_frames - before) / 2 ? 0 : RTE_MIN(*backlogged + 1, DP_BACKLOGGED_MAX);
	*work -= RTE_MIN(*work, (uint64_t)DP_TURN_WORK / divisor);
	return true;
}

#endif
