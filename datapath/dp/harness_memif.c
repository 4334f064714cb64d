//go:build dptest
// SPDX-License-Identifier: Apache-2.0

#include "harness_memif.h"

#include <stdlib.h>
#include <string.h>

#include "pure_memif.h"

#define ROOM 5000

uint32_t
dp_harness_memif_ring(bool from)
{
	return dp_memif_ring_offset(DP_HARNESS_MEMIF_SIZE, from);
}

uint32_t
dp_harness_memif_rings(void)
{
	return dp_harness_memif_ring(true) + (dp_harness_memif_ring(true) - dp_harness_memif_ring(false));
}

static bool
take(struct dp_memif_ring *r)
{
	uint8_t *room = malloc(ROOM);
	uint32_t len;
	enum dp_ring_result result = dp_memif_take(r, room, ROOM, &len);

	free(room);
	return result == DP_RING_OK || result == DP_RING_TOO_LONG;
}

static bool
put(struct dp_memif_ring *r, uint32_t size)
{
	uint8_t *frame = calloc(1, size);
	struct iovec iov[3] = { { frame, size / 3 }, { frame + size / 3, 0 }, { frame + size / 3, size - size / 3 } };
	enum dp_ring_result result = dp_memif_put(r, iov, size);

	free(frame);
	return result == DP_RING_OK;
}

void
dp_harness_memif(const uint8_t *bytes, uint32_t size, uint32_t *taken, uint32_t *written)
{
	uint8_t *memory = malloc(dp_memif_memory_len(DP_HARNESS_MEMIF_SIZE));
	struct dp_memif_ring from, to;

	dp_memif_layout(memory, DP_HARNESS_MEMIF_SIZE);
	dp_memif_open(&from, memory, DP_HARNESS_MEMIF_SIZE, true);
	dp_memif_open(&to, memory, DP_HARNESS_MEMIF_SIZE, false);
	dp_memif_return(&from);
	memcpy(memory, bytes, dp_harness_memif_rings());
	for (*taken = 0; *taken < 2 * DP_HARNESS_MEMIF_SIZE && take(&from); ++*taken)
		;
	dp_memif_return(&from);
	dp_memif_listen(&from);
	dp_memif_waiting(&from);
	for (*written = 0; *written < 2 * DP_HARNESS_MEMIF_SIZE && put(&to, size); ++*written)
		if (*written % 3 == 2)
			dp_memif_publish(&to);
	free(memory);
}
