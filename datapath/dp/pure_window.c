// SPDX-License-Identifier: Apache-2.0
#include "pure_window.h"

uint64_t
dp_window_extend(const struct dp_window *window, uint32_t low)
{
	uint64_t top = atomic_load_explicit(&window->top, memory_order_relaxed);
	/* The one number with these lower bits from the window's lower edge on: at an SA's beginning the window is not full yet. */
	uint64_t edge = top < DP_WINDOW ? 0 : top - DP_WINDOW + 1;

	return edge + (uint32_t)(low - (uint32_t)edge);
}

bool
dp_window_leaps(const struct dp_window *window, uint64_t number)
{
	return number > atomic_load_explicit(&window->top, memory_order_relaxed) + (1u << 31);
}

static bool
too_old(const struct dp_window *window, uint64_t number)
{
	return !number || number + DP_WINDOW <= atomic_load_explicit(&window->top, memory_order_relaxed);
}

/* A slot's word: the lap in which its block is, from 1, and the block's bits. */
#define LAP_SHIFT 32

static uint64_t
lap_of(uint64_t number)
{
	return number / DP_WINDOW_BLOCK / DP_WINDOW_SLOTS + 1;
}

static unsigned
slot_of(uint64_t number)
{
	return number / DP_WINDOW_BLOCK % DP_WINDOW_SLOTS;
}

/* The word once the number is taken; 0: it can't be. */
static uint64_t
with(uint64_t word, uint64_t number)
{
	uint64_t lap = lap_of(number), bit = 1ull << number % DP_WINDOW_BLOCK;

	if (word >> LAP_SHIFT < lap)
		return lap << LAP_SHIFT | bit;
	return word >> LAP_SHIFT > lap || word & bit ? 0 : word | bit;
}

bool
dp_window_fresh(const struct dp_window *window, uint64_t number)
{
	return !too_old(window, number) && with(atomic_load_explicit(&window->slots[slot_of(number)], memory_order_relaxed), number);
}

bool
dp_window_take(struct dp_window *window, uint64_t number)
{
	_Atomic uint64_t *slot = &window->slots[slot_of(number)];
	uint64_t word = atomic_load_explicit(slot, memory_order_relaxed), next, top;

	if (too_old(window, number))
		return false;
	do {
		next = with(word, number);
		if (!next)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(slot, &word, next, memory_order_relaxed, memory_order_relaxed));
	top = atomic_load_explicit(&window->top, memory_order_relaxed);
	while (top < number && !atomic_compare_exchange_weak_explicit(&window->top, &top, number, memory_order_relaxed, memory_order_relaxed))
		;
	return true;
}
