/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_HARNESS_MEMIF_H
#define DP_HARNESS_MEMIF_H

#include <stdbool.h>
#include <stdint.h>

/* Of the rings in the memory below: so many slots, which are as few as there can be. */
#define DP_HARNESS_MEMIF_SIZE 64

/* Bytes of both rings, and where they begin. */
uint32_t dp_harness_memif_rings(void);
uint32_t dp_harness_memif_ring(bool from);
/*
 * A memif's memory of its exact size, laid out, of which a server has then written all of the rings: bytes in their place. Takes
 * frames out into room of its exact size, then puts some of so many bytes in, until the ring is empty, full or broken. How many of both.
 */
void dp_harness_memif(const uint8_t *bytes, uint32_t size, uint32_t *taken, uint32_t *put);

#endif
