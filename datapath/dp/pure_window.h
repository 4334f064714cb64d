/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_WINDOW_H
#define DP_WINDOW_H

/*
 * The anti-replay window of an SA, with extended sequence numbers: RFC 4303 sections 2.2.1 and 3.4.3, appendix A.
 *
 * Workers share it without a lock. Numbers are in blocks of 32, and a block has the slot that its number modulo the count of slots
 * gives. A slot is one word: which of its blocks it is about, and a bit for each number of it. A number is taken by a compare and swap
 * of that word, which fails for who comes second; a slot goes on to a later block and never back. So no number is taken twice, whatever
 * the order in which workers look; and none within DP_WINDOW of the highest is refused, since no two blocks of these share a slot.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define DP_WINDOW_SLOTS 256
#define DP_WINDOW_BLOCK 32
/* The numbers in the window, the highest included. */
#define DP_WINDOW (DP_WINDOW_BLOCK * (DP_WINDOW_SLOTS - 1))

struct dp_window {
	_Atomic uint64_t top; /* the highest number taken; 0: none */
	_Atomic uint64_t slots[DP_WINDOW_SLOTS];
};

/* The whole number of which a packet tells the lower half. */
uint64_t dp_window_extend(const struct dp_window *window, uint32_t low);
/* Whether it is so far ahead that its packet, if it is not as it was made, is an old one of which the upper half was guessed wrong. */
bool dp_window_leaps(const struct dp_window *window, uint64_t number);
/* Whether it may still be taken: its packet is worth a look. */
bool dp_window_fresh(const struct dp_window *window, uint64_t number);
/* Takes it; false: it was taken already, or is too old. */
bool dp_window_take(struct dp_window *window, uint64_t number);

#endif
