/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_MEMIF_H
#define DP_MEMIF_H

/*
 * Rings of memif 2.0, from the client's side, which owns the memory: a ring to the server (S2M), one from it (M2S), and a buffer for
 * each of their slots. Where a slot's buffer is is known here, whatever the server writes: of its words only indices, lengths and flags
 * are gone by. Each is read once and checked as it was read.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "pure_ring.h"

#define DP_MEMIF_COOKIE 0x3e31f20
#define DP_MEMIF_MASK_INT 1  /* of a ring's flags: who reads it need not be told */
#define DP_MEMIF_DESC_NEXT 1 /* of a descriptor's: the frame goes on in the next slot */

/* What a buffer takes: as much as those of DPDK's own net_memif, which writes as long a piece without a look at the descriptor. */
#define DP_MEMIF_BUFFER 2048
/* From one to the next: a cache line more, so that they spread over all sets of a cache. */
#define DP_MEMIF_STRIDE (DP_MEMIF_BUFFER + 64)

struct dp_memif_desc {
	uint16_t flags;
	uint16_t region;
	uint32_t len;
	uint32_t offset;
	uint32_t metadata;
};

/* A ring in shared memory. Head counts what the client has done, whichever way frames go, and tail what the server has. */
struct dp_memif_shared {
	uint32_t cookie;
	uint16_t flags;
	uint16_t head;
	uint8_t pad1[56];
	uint16_t tail;
	uint8_t pad2[62];
	struct dp_memif_desc desc[];
};

struct dp_memif_ring {
	struct dp_memif_shared *shared;
	uint8_t *buffers;
	uint32_t offset;    /* of them, from the beginning of the memory */
	uint16_t size;      /* a power of two */
	uint16_t next;      /* slot to fill, or to read */
	uint16_t end;       /* of those that the server has given, when that was looked at last */
	uint16_t published; /* up to which the server knows */
	bool quiet;         /* the server need not tell of frames */
	const char *fault;  /* what was wrong, when the ring was found broken */
};

/* Bytes that rings of so many slots and their buffers take. */
uint64_t dp_memif_memory_len(uint16_t size);
/* Where a ring begins. */
uint32_t dp_memif_ring_offset(uint16_t size, bool from);
/* Both rings in such memory, which is laid out for a server that has not seen it. */
void dp_memif_layout(uint8_t *memory, uint16_t size);

/* A ring as the server has it when it is connected: its indices are 0. That from the server gets all buffers with the next publication. */
void dp_memif_open(struct dp_memif_ring *r, uint8_t *memory, uint16_t size, bool from);

/* Copies the next frame, at most room bytes, and gives its slots back. TOO_LONG: they are given back, and the frame is lost. */
enum dp_ring_result dp_memif_take(struct dp_memif_ring *r, uint8_t *to, uint32_t room, uint32_t *len);
/* Tells the server of slots that were given back. */
void dp_memif_return(struct dp_memif_ring *r);

/* Copies pieces of len bytes together, at most DP_MEMIF_FRAME_MAX, into as many slots as it takes. Only with OK is anything used up. */
#define DP_MEMIF_FRAME_MAX (64 * DP_MEMIF_BUFFER)
enum dp_ring_result dp_memif_put(struct dp_memif_ring *r, const struct iovec *iov, uint32_t len);
/* Tells the server of frames that were put. True when it wants to be woken up. */
bool dp_memif_publish(struct dp_memif_ring *r);

/* The server need not tell of frames, or is to. True when there are some, or the ring is broken. */
void dp_memif_quiet(struct dp_memif_ring *r);
void dp_memif_listen(struct dp_memif_ring *r);
bool dp_memif_waiting(struct dp_memif_ring *r);

#endif
