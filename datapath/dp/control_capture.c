// SPDX-License-Identifier: Apache-2.0
/* Captures' life, and their rings' reader. */
#include <errno.h>
#include <pcap/pcap.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "port.h"

void
dp_capture_free(struct dp_capture *c)
{
	pcap_freecode(&c->program);
	for (unsigned i = 0; i < dp.config.n_workers; i++)
		free(c->rings[i].bytes);
	free(c);
}

/* The interpreter has checked the program's every jump and access when it was made. */
static int
compile(struct dp_capture *c, const char *filter, char *err)
{
	pcap_t *ethernet = pcap_open_dead(DLT_EN10MB, DP_FRAME_MAX);
	int ret = 0;

	if (!ethernet)
		return -ENOMEM;
	if (pcap_compile(ethernet, &c->program, filter, 1, PCAP_NETMASK_UNKNOWN)) {
		snprintf(err, DP_ERR_LEN, "%s", pcap_geterr(ethernet));
		ret = -EINVAL;
	}
	pcap_close(ethernet);
	return ret;
}

struct dp_capture *
dp_capture_new(const struct dp_capture_config *config, char err[DP_ERR_LEN])
{
	struct dp_capture *c = aligned_alloc(64, RTE_ALIGN_CEIL(sizeof(*c), 64));

	snprintf(err, DP_ERR_LEN, "no memory for a capture: %u bytes for each worker", config->room);
	if (!c)
		return NULL;
	memset(c, 0, sizeof(*c));
	c->config = *config;
	c->config.filter = NULL; /* the caller's */
	c->threshold = (1ull << 32) / config->sample;
	for (unsigned i = 0; i < dp.config.n_workers; i++) {
		c->rings[i].bytes = malloc(config->room);
		if (!c->rings[i].bytes)
			goto failed;
	}
	if (!*config->filter || !compile(c, config->filter, err))
		return c;
failed:
	dp_capture_free(c);
	return NULL;
}

/* After each change of the captures: in between a worker may miss packets, or look at more than it must. */
static void
note_captures(void)
{
	uint64_t threshold = 0;

	for (unsigned i = 0; i < DP_CAPTURES; i++)
		if (dp_capture_get(i))
			threshold = RTE_MAX(threshold, dp_capture_get(i)->threshold);
	atomic_store_explicit(&dp_capture_threshold, threshold, memory_order_relaxed);
	atomic_store_explicit(&dp_capturing, threshold > 0, memory_order_relaxed);
}

int
dp_capture_start(struct dp_capture *c)
{
	for (unsigned i = 0; i < DP_CAPTURES; i++) {
		if (dp_capture_get(i))
			continue;
		atomic_store_explicit(&dp_capture_slots[i], c, memory_order_release);
		note_captures();
		return i;
	}
	return -EBUSY;
}

/* A worker that goes on with a turn may still write to it until the grace period has passed. */
void
dp_capture_stop(unsigned number)
{
	struct dp_capture *c = atomic_exchange(&dp_capture_slots[number], NULL);

	note_captures();
	dp_synchronize();
	if (c)
		dp_capture_free(c);
}

uint64_t
dp_capture_lost(unsigned number)
{
	const struct dp_capture *c = dp_capture_get(number);
	uint64_t sum = 0;

	for (unsigned i = 0; c && i < dp.config.n_workers; i++)
		sum += atomic_load_explicit(&c->rings[i].lost, memory_order_relaxed);
	return sum;
}

/* From the cycles of two moments to the time of the first. */
static int64_t
time_of(uint64_t cycles, uint64_t now_cycles, const struct timespec *now)
{
	const int64_t since = now_cycles - cycles;

	return now->tv_sec * 1000000000ll + now->tv_nsec - (int64_t)((__int128)since * 1000000000 / (int64_t)rte_get_tsc_hz());
}

uint32_t
dp_capture_take(unsigned number, unsigned worker, void *to, uint32_t len)
{
	struct dp_capture *c = dp_capture_get(number);
	struct dp_capture_ring *ring = &c->rings[worker];
	uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed), tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
	struct timespec now;
	uint64_t now_cycles;
	uint32_t taken = 0;

	clock_gettime(CLOCK_REALTIME, &now);
	now_cycles = rte_rdtsc();
	while (head < tail) {
		const uint8_t *at = ring->bytes + (head & (c->config.room - 1));
		struct dp_captured_start start;
		struct dp_captured *record = (void *)((uint8_t *)to + taken);

		memcpy(&start, at, sizeof(start));
		if (start.point != DP_POINT_PAD) {
			if (start.size > len - taken)
				break;
			memcpy(record, at, start.size);
			record->time = time_of(record->time, now_cycles, &now);
			taken += start.size;
		}
		head += start.size;
	}
	atomic_store_explicit(&ring->head, head, memory_order_release);
	return taken;
}
