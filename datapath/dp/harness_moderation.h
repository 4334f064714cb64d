/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_HARNESS_MODERATION_H
#define DP_HARNESS_MODERATION_H

#include <stdbool.h>
#include <stdint.h>

/* From now on so many devices are open, as far as anybody asks; how many were. */
uint32_t dp_harness_devices(uint32_t n);
/* The worker has nothing to do: whether it rests. */
bool dp_harness_moderate(void);
/* After a turn: whether it rests still. */
bool dp_harness_resting(void);
/* Has it listen to the port. */
void dp_harness_listen(uint32_t port);
/* Its epoll, and what is in it. */
int dp_harness_epoll(void);
int dp_harness_port_fd(uint32_t port);
int dp_harness_underlay_fd(void);
/* Of the worker that runs. */
uint64_t dp_harness_rests(void);

#endif
