// SPDX-License-Identifier: Apache-2.0
#include "pure_vring.h"

#include <string.h>

#include <rte_atomic.h>
#include <rte_branch_prediction.h>
#include <rte_common.h>
#include <rte_prefetch.h>

/*
 * Pieces of memory and chains that one frame is spread over: a super-frame in buffers of 576 bytes. No more descriptors are looked at for
 * it, be they empty: a worker is not to be held up.
 */
#define PIECES_MAX 256
#define CHAINS_MAX 128

struct piece {
	uint8_t *at;
	uint32_t len;
};

/* Descriptors that follow each other, and how many of them are looked at. */
struct chain {
	const struct vring_desc *table;
	uint32_t size, left, at;
	bool end;
};

/* What is shared may change at any time: a copy that was made before the barrier is not made again after it. */
static inline struct vring_desc
read_desc(const struct vring_desc *from)
{
	struct vring_desc desc;

	memcpy(&desc, from, sizeof(desc));
	rte_compiler_barrier();
	return desc;
}

/* Where an address of the container's lies here, and how many of len bytes do so in one piece; NULL: it shares no such memory. */
static inline uint8_t *
translate(const struct dp_vring_memory *m, uint64_t guest, uint32_t *len)
{
	for (unsigned i = 0; i < m->n; i++) {
		const struct dp_vring_region *region = &m->regions[i];
		uint64_t offset = guest - region->guest;

		if (guest < region->guest || offset >= region->len)
			continue;
		*len = RTE_MIN((uint64_t)*len, region->len - offset);
		return region->host + offset;
	}
	return NULL;
}

static inline bool
chain_begin(const struct dp_vring *r, const struct dp_vring_memory *m, uint16_t head, struct chain *c)
{
	struct vring_desc desc;
	uint32_t len;

	if (unlikely(head >= r->size))
		return false;
	*c = (struct chain){ .table = r->desc, .size = r->size, .left = PIECES_MAX, .at = head };
	desc = read_desc(&r->desc[head]);
	if (likely(!(desc.flags & VRING_DESC_F_INDIRECT)))
		return true;
	len = desc.len;
	c->table = (const void *)translate(m, desc.addr, &len);
	c->size = len / sizeof(desc);
	c->at = 0;
	return c->table && len == desc.len && len && !(len % sizeof(desc)) && c->size <= r->size && !(desc.flags & VRING_DESC_F_NEXT) && !((uintptr_t)c->table % _Alignof(struct vring_desc));
}

/* False when the chain is broken, or is not for reading, or not for writing, as it should be. */
static inline bool
chain_next(struct chain *c, uint16_t write, struct vring_desc *desc)
{
	if (unlikely(c->at >= c->size || !c->left))
		return false;
	c->left--;
	*desc = read_desc(&c->table[c->at]);
	/* A table within a table is refused by the flag, too, and so is one that was none a moment ago. */
	if (unlikely((desc->flags & (VRING_DESC_F_WRITE | VRING_DESC_F_INDIRECT)) != write))
		return false;
	c->at = desc->next;
	c->end = !(desc->flags & VRING_DESC_F_NEXT);
	return true;
}

/* Whether there is a chain at `next`, which is `r->next` or one behind it. */
static inline enum dp_ring_result
available(struct dp_vring *r, uint16_t next)
{
	uint16_t end;

	if (likely(next != r->end))
		return DP_RING_OK;
	end = __atomic_load_n(&r->avail->idx, __ATOMIC_ACQUIRE);
	if (next == end)
		return DP_RING_EMPTY;
	if (unlikely((uint16_t)(end - r->next) > r->size))
		return DP_RING_BROKEN;
	r->end = end;
	return DP_RING_OK;
}

static inline uint16_t
head_at(const struct dp_vring *r, uint16_t at)
{
	return *(const volatile uint16_t *)&r->avail->ring[at & (r->size - 1)];
}

static inline void
give_back(struct dp_vring *r, uint16_t at, uint16_t head, uint32_t len)
{
	r->used->ring[at & (r->size - 1)] = (struct vring_used_elem){ .id = head, .len = len };
}

uint16_t
dp_vring_at(const struct dp_vring *r)
{
	return *(const volatile uint16_t *)&r->used->idx;
}

void
dp_vring_start(struct dp_vring *r)
{
	r->next = r->end = r->published = dp_vring_at(r);
	r->quiet = false;
	dp_vring_quiet(r);
}

static bool
copy_out(const struct dp_vring_memory *m, uint8_t *to, uint64_t guest, uint32_t len)
{
	while (len) {
		uint32_t part = len;
		const uint8_t *from = translate(m, guest, &part);

		if (unlikely(!from))
			return false;
		memcpy(to, from, part);
		to += part;
		guest += part;
		len -= part;
	}
	return true;
}

enum dp_ring_result
dp_vring_take(struct dp_vring *r, const struct dp_vring_memory *m, uint8_t *to, uint32_t room, uint32_t *len)
{
	enum dp_ring_result result = available(r, r->next);
	struct chain c;
	uint32_t at = 0;
	uint16_t head;

	if (result != DP_RING_OK)
		return result;
	head = head_at(r, r->next);
	if (!chain_begin(r, m, head, &c))
		return DP_RING_BROKEN;
	do {
		struct vring_desc desc;

		if (!chain_next(&c, 0, &desc))
			return DP_RING_BROKEN;
		if (unlikely(desc.len > room - at)) {
			result = DP_RING_TOO_LONG;
			break;
		}
		if (!copy_out(m, to + at, desc.addr, desc.len))
			return DP_RING_BROKEN;
		at += desc.len;
	} while (!c.end);
	give_back(r, r->next++, head, 0);
	*len = at;
	return result;
}

/* What a frame is written to. */
struct target {
	struct piece pieces[PIECES_MAX];
	struct vring_used_elem used[CHAINS_MAX];
	unsigned n_pieces, n_used, n_descs;
	uint32_t room;
};

/* Adds the descriptor's memory, as far as len bytes need it. */
static inline enum dp_ring_result
add_pieces(struct target *t, const struct dp_vring_memory *m, struct vring_desc desc, uint32_t len)
{
	while (desc.len && t->room < len) {
		struct piece *piece = &t->pieces[t->n_pieces];

		if (unlikely(t->n_pieces == PIECES_MAX))
			return DP_RING_TOO_LONG;
		piece->len = RTE_MIN(desc.len, len - t->room);
		piece->at = translate(m, desc.addr, &piece->len);
		if (unlikely(!piece->at))
			return DP_RING_BROKEN;
		t->n_pieces++;
		t->room += piece->len;
		desc.addr += piece->len;
		desc.len -= piece->len;
	}
	return DP_RING_OK;
}

static inline enum dp_ring_result
add_chain(struct dp_vring *r, struct target *t, const struct dp_vring_memory *m, uint32_t len)
{
	uint16_t at = r->next + t->n_used;
	enum dp_ring_result result = available(r, at);
	uint32_t before = t->room;
	struct vring_desc desc;
	struct chain c;
	uint16_t head;

	if (unlikely(result != DP_RING_OK))
		return result;
	head = head_at(r, at);
	if (!chain_begin(r, m, head, &c))
		return DP_RING_BROKEN;
	do {
		if (!chain_next(&c, VRING_DESC_F_WRITE, &desc))
			return DP_RING_BROKEN;
		if (unlikely(t->n_descs++ == PIECES_MAX))
			return DP_RING_TOO_LONG;
		result = add_pieces(t, m, desc, len);
	} while (result == DP_RING_OK && !c.end && t->room < len);
	t->used[t->n_used++] = (struct vring_used_elem){ .id = head, .len = t->room - before };
	return result;
}

static void
copy_in(const struct target *t, const struct iovec *iov)
{
	const struct piece *piece = t->pieces;
	uint32_t from = 0, to = 0, left = t->room;

	while (left) {
		/* There is room for all: the pieces are as many as were filled in. NOLINTNEXTLINE(clang-analyzer-core.*) */
		uint32_t part = RTE_MIN((uint32_t)iov->iov_len - from, piece->len - to);

		memcpy(piece->at + to, (const uint8_t *)iov->iov_base + from, part);
		left -= part;
		from += part;
		to += part;
		if (from == iov->iov_len) {
			iov++;
			from = 0;
		}
		if (to == piece->len) {
			piece++;
			to = 0;
		}
	}
}

enum dp_ring_result
dp_vring_put(struct dp_vring *r, const struct dp_vring_memory *m, const struct iovec *iov, uint32_t len, bool merge, uint16_t *num_buffers)
{
	struct target t;

	t.n_pieces = t.n_used = t.n_descs = t.room = 0;
	while (t.room < len) {
		enum dp_ring_result result = (t.n_used && !merge) || t.n_used == CHAINS_MAX ? DP_RING_TOO_LONG : add_chain(r, &t, m, len);

		if (unlikely(result != DP_RING_OK))
			return result;
	}
	*num_buffers = t.n_used;
	copy_in(&t, iov);
	for (unsigned i = 0; i < t.n_used; i++)
		give_back(r, r->next++, t.used[i].id, t.used[i].len);
	return DP_RING_OK;
}

bool
dp_vring_publish(struct dp_vring *r)
{
	if (r->published == r->next)
		return false;
	r->published = r->next;
	__atomic_store_n(&r->used->idx, r->next, __ATOMIC_RELEASE);
	rte_smp_mb();
	return !(*(const volatile uint16_t *)&r->avail->flags & VRING_AVAIL_F_NO_INTERRUPT);
}

void
dp_vring_quiet(struct dp_vring *r)
{
	if (r->quiet)
		return;
	r->quiet = true;
	*(volatile uint16_t *)&r->used->flags = VRING_USED_F_NO_NOTIFY;
}

bool
dp_vring_listen(struct dp_vring *r)
{
	r->quiet = false;
	*(volatile uint16_t *)&r->used->flags = 0;
	rte_smp_mb();
	return available(r, r->next) != DP_RING_EMPTY;
}
