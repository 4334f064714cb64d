// SPDX-License-Identifier: Apache-2.0
#include "pure_memif.h"

#include <string.h>

#include <rte_atomic.h>
#include <rte_branch_prediction.h>
#include <rte_common.h>
#include <rte_prefetch.h>

/* Slots of one frame that are looked at, be they empty: a worker is not to be held up. */
#define SLOTS_MAX 256
/* So many slots ahead the caches are asked for: what comes from the other core takes about as long as these. */
#define AHEAD 8
#ifdef __x86_64__
/* For a line that is to be written: else gcc asks for it to be read. */
#define WRITES_AHEAD __attribute__((target("prfchw")))
#else
#define WRITES_AHEAD
#endif

_Static_assert(sizeof(struct dp_memif_desc) == 16 && sizeof(struct dp_memif_shared) == 128, "as memif has them");

/* gcc takes string instructions for a length of which it knows a bound: they begin slowly, and most frames are short. */
static inline void
copy(void *to, const void *from, size_t len)
{
	__asm__(""
		: "+r"(len));
	memcpy(to, from, len);
}

static uint64_t
ring_len(uint16_t size)
{
	return sizeof(struct dp_memif_shared) + (uint64_t)size * sizeof(struct dp_memif_desc);
}

static uint32_t
buffers_offset(uint16_t size, bool from)
{
	return 2 * ring_len(size) + (from ? size * DP_MEMIF_STRIDE : 0);
}

uint64_t
dp_memif_memory_len(uint16_t size)
{
	return buffers_offset(size, true) + (uint64_t)size * DP_MEMIF_STRIDE;
}

uint32_t
dp_memif_ring_offset(uint16_t size, bool from)
{
	return from ? ring_len(size) : 0;
}

static inline uint16_t
slot_of(const struct dp_memif_ring *r, uint16_t at)
{
	return at & (r->size - 1);
}

static inline uint8_t *
buffer_of(const struct dp_memif_ring *r, uint16_t slot)
{
	return r->buffers + (size_t)slot * DP_MEMIF_STRIDE;
}

static inline void
write_desc(const struct dp_memif_ring *r, uint16_t slot, uint32_t len, uint16_t flags)
{
	r->shared->desc[slot] = (struct dp_memif_desc){ .flags = flags, .len = len, .offset = r->offset + slot * DP_MEMIF_STRIDE };
}

static inline struct dp_memif_ring
ring_in(uint8_t *memory, uint16_t size, bool from)
{
	uint32_t offset = buffers_offset(size, from);

	return (struct dp_memif_ring){ .shared = (void *)(memory + dp_memif_ring_offset(size, from)), .buffers = memory + offset, .offset = offset, .size = size };
}

void
dp_memif_layout(uint8_t *memory, uint16_t size)
{
	for (int from = 0; from < 2; from++) {
		struct dp_memif_ring r = ring_in(memory, size, from);

		r.shared->cookie = DP_MEMIF_COOKIE;
		for (uint32_t slot = 0; slot < size; slot++)
			write_desc(&r, slot, DP_MEMIF_BUFFER, 0);
	}
}

void
dp_memif_open(struct dp_memif_ring *r, uint8_t *memory, uint16_t size, bool from)
{
	*r = ring_in(memory, size, from);
	if (from)
		r->published = -size;
	else
		r->end = size;
}

static enum dp_ring_result
broken(struct dp_memif_ring *r, const char *fault)
{
	r->fault = fault;
	return DP_RING_BROKEN;
}

static inline uint16_t
read_tail(const struct dp_memif_ring *r)
{
	return __atomic_load_n(&r->shared->tail, __ATOMIC_ACQUIRE);
}

/* Whether there is a slot to read. */
static inline enum dp_ring_result
available(struct dp_memif_ring *r)
{
	uint16_t tail;

	if (likely(r->next != r->end))
		return DP_RING_OK;
	tail = read_tail(r);
	if (tail == r->next)
		return DP_RING_EMPTY;
	/* The server has what was given back to it, and no more. */
	if (unlikely((uint16_t)(tail - r->next) > (uint16_t)(r->published + r->size - r->next)))
		return broken(r, "the tail of the ring that it fills has gone back, or beyond the head");
	for (uint16_t at = r->next; at != tail && (uint16_t)(at - r->next) < AHEAD; at++)
		rte_prefetch0(buffer_of(r, slot_of(r, at)));
	r->end = tail;
	return DP_RING_OK;
}

/* What is shared may change at any time: a copy that was made before the barrier is not made again after it. */
static inline struct dp_memif_desc
read_desc(const struct dp_memif_ring *r, uint16_t slot)
{
	struct dp_memif_desc desc;

	memcpy(&desc, &r->shared->desc[slot], sizeof(desc));
	rte_compiler_barrier();
	return desc;
}

static inline const char *
desc_fault(const struct dp_memif_ring *r, uint16_t slot, const struct dp_memif_desc *desc)
{
	if (unlikely(desc->region))
		return "a descriptor names another region of memory";
	if (unlikely(desc->offset != r->offset + slot * DP_MEMIF_STRIDE))
		return "a descriptor names another buffer than its own";
	if (unlikely(desc->len > DP_MEMIF_BUFFER))
		return "a descriptor is longer than its buffer";
	return NULL;
}

enum dp_ring_result
dp_memif_take(struct dp_memif_ring *r, uint8_t *to, uint32_t room, uint32_t *len)
{
	enum dp_ring_result result = available(r);
	uint16_t at = r->next, left;
	struct dp_memif_desc desc;
	uint32_t copied = 0;

	if (result != DP_RING_OK)
		return result;
	left = RTE_MIN((uint16_t)(r->end - at), SLOTS_MAX);
	if (left > AHEAD)
		rte_prefetch0(buffer_of(r, slot_of(r, at + AHEAD)));
	do {
		uint16_t slot = slot_of(r, at++);
		const char *fault;

		if (unlikely(!left--))
			return broken(r, "a frame has no last descriptor");
		desc = read_desc(r, slot);
		fault = desc_fault(r, slot, &desc);
		if (unlikely(fault))
			return broken(r, fault);
		if (unlikely(desc.len > room - copied)) {
			result = DP_RING_TOO_LONG;
			continue;
		}
		copy(to + copied, buffer_of(r, slot), desc.len);
		copied += desc.len;
	} while (desc.flags & DP_MEMIF_DESC_NEXT);
	r->next = at;
	*len = copied;
	return result;
}

void
dp_memif_return(struct dp_memif_ring *r)
{
	if (r->published == r->next)
		return;
	for (; r->published != r->next; r->published++)
		write_desc(r, slot_of(r, r->published), DP_MEMIF_BUFFER, 0);
	__atomic_store_n(&r->shared->head, (uint16_t)(r->published + r->size), __ATOMIC_RELEASE);
}

/* Whether so many slots are free. */
static inline enum dp_ring_result
room_for(struct dp_memif_ring *r, uint16_t slots)
{
	uint16_t tail, before = r->end - r->size;

	if (likely((uint16_t)(r->end - r->next) >= slots))
		return DP_RING_OK;
	tail = read_tail(r);
	if (unlikely((uint16_t)(tail - before) > (uint16_t)(r->published - before)))
		return broken(r, "the tail of the ring that it reads has gone back, or beyond the head");
	r->end = tail + r->size;
	return (uint16_t)(r->end - r->next) >= slots ? DP_RING_OK : DP_RING_EMPTY;
}

/* Copies len bytes of the pieces that are left. */
static inline void
copy_in(uint8_t *to, struct iovec *piece, const struct iovec **more, uint32_t len)
{
	while (len) {
		uint32_t part = RTE_MIN((uint32_t)piece->iov_len, len);

		copy(to, piece->iov_base, part);
		to += part;
		len -= part;
		piece->iov_base = (uint8_t *)piece->iov_base + part;
		piece->iov_len -= part;
		if (!piece->iov_len && len)
			*piece = *(*more)++;
	}
}

WRITES_AHEAD enum dp_ring_result
dp_memif_put(struct dp_memif_ring *r, const struct iovec *iov, uint32_t len)
{
	uint16_t slots = (len + DP_MEMIF_BUFFER - 1) / DP_MEMIF_BUFFER;
	struct iovec piece = *iov++;
	enum dp_ring_result result;

	if (unlikely(len > DP_MEMIF_FRAME_MAX))
		return DP_RING_TOO_LONG;
	result = room_for(r, slots);
	if (unlikely(result != DP_RING_OK))
		return result;
	__builtin_prefetch(buffer_of(r, slot_of(r, r->next + AHEAD)), 1);
	__builtin_prefetch(&r->shared->desc[slot_of(r, r->next + AHEAD)], 1);
	while (len) {
		uint32_t part = RTE_MIN(len, (uint32_t)DP_MEMIF_BUFFER);
		uint16_t slot = slot_of(r, r->next++);

		len -= part;
		copy_in(buffer_of(r, slot), &piece, &iov, part);
		write_desc(r, slot, part, len ? DP_MEMIF_DESC_NEXT : 0);
	}
	return DP_RING_OK;
}

bool
dp_memif_publish(struct dp_memif_ring *r)
{
	if (r->published == r->next)
		return false;
	r->published = r->next;
	__atomic_store_n(&r->shared->head, r->next, __ATOMIC_RELEASE);
	rte_smp_mb();
	return !(*(const volatile uint16_t *)&r->shared->flags & DP_MEMIF_MASK_INT);
}

void
dp_memif_quiet(struct dp_memif_ring *r)
{
	if (r->quiet)
		return;
	r->quiet = true;
	*(volatile uint16_t *)&r->shared->flags = DP_MEMIF_MASK_INT;
}

void
dp_memif_listen(struct dp_memif_ring *r)
{
	r->quiet = false;
	*(volatile uint16_t *)&r->shared->flags = 0;
	rte_smp_mb();
}

bool
dp_memif_waiting(struct dp_memif_ring *r)
{
	return available(r) != DP_RING_EMPTY;
}
