//go:build dptest
// SPDX-License-Identifier: Apache-2.0
#include "harness_vring.h"

#include <stdlib.h>
#include <string.h>

#include "pure_vring.h"

#define ROOM 100

struct bench {
	uint8_t *memory;
	struct dp_vring_memory map;
	struct dp_vring ring;
};

static void
begin(struct bench *b, const uint8_t *bytes, uint32_t len)
{
	b->memory = malloc(len);
	memcpy(b->memory, bytes, len);
	b->map = (struct dp_vring_memory){ .n = 1, .regions = { { DP_HARNESS_VRING_GUEST, len, b->memory } } };
	b->ring = (struct dp_vring){
		.desc = (void *)(b->memory + DP_HARNESS_VRING_DESC),
		.avail = (void *)(b->memory + DP_HARNESS_VRING_AVAIL),
		.used = (void *)(b->memory + DP_HARNESS_VRING_USED),
		.size = DP_HARNESS_VRING_SIZE,
	};
	dp_vring_start(&b->ring);
}

static void
end(struct bench *b)
{
	dp_vring_publish(&b->ring);
	dp_vring_listen(&b->ring);
	free(b->memory);
}

static bool
take(struct bench *b)
{
	uint8_t *room = malloc(ROOM);
	uint32_t len;
	enum dp_ring_result result = dp_vring_take(&b->ring, &b->map, room, ROOM, &len);

	free(room);
	return result == DP_RING_OK || result == DP_RING_TOO_LONG;
}

static bool
put(struct bench *b, bool merge)
{
	uint8_t *frame = calloc(1, ROOM);
	struct iovec iov[3] = { { frame, 12 }, { frame + 12, 1 }, { frame + 13, ROOM - 13 } };
	enum dp_ring_result result = dp_vring_put(&b->ring, &b->map, iov, ROOM, merge, (void *)(frame + 10));

	free(frame);
	return result == DP_RING_OK;
}

void
dp_harness_vring(const uint8_t *bytes, uint32_t len, bool merge, uint32_t *taken, uint32_t *written)
{
	struct bench b;

	begin(&b, bytes, len);
	for (*taken = 0; *taken < 2 * DP_HARNESS_VRING_SIZE && take(&b); ++*taken)
		;
	end(&b);
	begin(&b, bytes, len);
	for (*written = 0; *written < 2 * DP_HARNESS_VRING_SIZE && put(&b, merge); ++*written)
		;
	end(&b);
}
