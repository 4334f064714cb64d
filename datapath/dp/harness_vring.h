/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_HARNESS_VRING_H
#define DP_HARNESS_VRING_H

#include <stdbool.h>
#include <stdint.h>

/* Of a ring in the memory below: where its parts are, and where the memory is by the descriptors' addresses. */
#define DP_HARNESS_VRING_SIZE 8
#define DP_HARNESS_VRING_DESC 0
#define DP_HARNESS_VRING_AVAIL 128
#define DP_HARNESS_VRING_USED 152
#define DP_HARNESS_VRING_LEN 256
#define DP_HARNESS_VRING_GUEST 0x10000

/*
 * Takes chains out of a ring that lies in len bytes, in memory of that size, into room of its exact size, then the same with frames that
 * are put in, until the ring is empty or broken. How many were taken and put.
 */
void dp_harness_vring(const uint8_t *bytes, uint32_t len, bool merge, uint32_t *taken, uint32_t *put);

#endif
