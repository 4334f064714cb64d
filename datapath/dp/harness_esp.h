/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_HARNESS_ESP_H
#define DP_HARNESS_ESP_H

#include <stdbool.h>
#include <stdint.h>

/* An anti-replay window by itself. */
struct dp_window *dp_harness_window(void);
void dp_harness_window_free(struct dp_window *window);
uint64_t dp_harness_window_extend(const struct dp_window *window, uint32_t low);
bool dp_harness_window_fresh(const struct dp_window *window, uint64_t number);
bool dp_harness_window_take(struct dp_window *window, uint64_t number);
extern const uint32_t dp_harness_window_len;

/* Has an SA go on behind so many packets. */
void dp_harness_sa_sent(uint32_t vtep, uint64_t sent);

/*
 * Cycles that a worker takes to encrypt bursts of the frame, from a port that is a device, and to decrypt bursts of it that come from
 * the VTEP, for the port: in struct dp_harness_esp those of all rounds. key is that of an SA by which the VTEP sends.
 */
struct dp_harness_esp {
	uint64_t seal, open, packets;
};

struct dp_harness_esp dp_harness_esp_cycles(uint32_t port, uint32_t vtep, uint32_t underlay, uint32_t sender, const uint8_t *frame, uint32_t len, uint32_t rounds);

#endif
