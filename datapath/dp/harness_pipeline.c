//go:build dptest
// SPDX-License-Identifier: Apache-2.0
#include "harness_pipeline.h"

#include <stdlib.h>

#include "pipeline.h"

/* A worker without a thread: the test is its thread. Its queues of the ports are those behind the real workers'. */
struct dp_worker *
dp_harness_worker(void)
{
	static struct dp_worker *w;
	static char err[DP_ERR_LEN];

	if (w)
		return w;
	/* The pipeline's own pool has buffers for its own workers alone. */
	dp.pool = rte_pktmbuf_pool_create("harness", DP_BURST + DP_UDP_MSGS, 0, 0, DP_BUF_LEN, SOCKET_ID_ANY);
	w = dp_worker_new(dp.config.n_workers, err);
	if (!w)
		abort();
	return w;
}

void
dp_harness_encap(uint32_t port, const uint8_t *bytes, uint32_t len)
{
	struct dp_worker *w = dp_harness_worker();
	struct dp_port *from = dp_port_get(port);
	uint32_t frame_len = len - DP_VNET_LEN;
	uint8_t *room = malloc(DP_HEADROOM + frame_len);
	struct dp_frame frame = { .data = room + DP_HEADROOM, .len = frame_len };

	memcpy(&frame.vnet, bytes, DP_VNET_LEN);
	memcpy(frame.data, bytes + DP_VNET_LEN, frame_len);
	dp_encap(w, &frame, &from, 1);
	dp_udp_flush(w);
	w->waited = false;
	free(room);
}

void
dp_harness_decap(uint32_t vtep, uint8_t tos, const uint8_t *bytes, uint32_t len)
{
	struct dp_worker *w = dp_harness_worker();
	uint8_t *room = malloc(len);
	struct dp_packet packet = { .data = room, .len = len, .tos = tos, .from = dp_vtep_get(vtep) };

	memcpy(room, bytes, len);
	dp_decap(w, &packet, 1);
	dp_decap_flush(w);
	free(room);
}

uint32_t
dp_harness_turn(uint32_t port, uint32_t modest)
{
	struct dp_worker *w = dp_harness_worker();
	struct dp_port *from = dp_port_get(port);
	uint32_t n;

	w->n_greedy = dp_greedy(w, from);
	w->n_ready = modest + w->n_greedy;
	dp_turn(w, from);
	n = w->n_frames;
	w->n_frames = w->n_ready = w->n_greedy = 0;
	return n;
}

void
dp_harness_settle(bool more, bool full)
{
	dp_share_settle(&dp_harness_worker()->share, more, full);
}

void
dp_harness_charge(uint64_t mac, uint64_t us)
{
	for (uint64_t i = 0; i < us; i++)
		dp_share_charge(&dp_harness_worker()->share, mac, rte_get_tsc_hz() / US_PER_S);
}

bool
dp_harness_over(uint64_t mac)
{
	struct dp_share *share = &dp_harness_worker()->share;

	return share->pressed && dp_share_over(share, mac);
}

void
dp_harness_one_by_one(uint32_t vtep, bool refused)
{
	atomic_store(&dp_vtep_get(vtep)->one_by_one, refused);
}

uint64_t
dp_harness_drops(void)
{
	struct dp_worker *w = dp_harness_worker();
	uint64_t sum = 0;

	for (unsigned i = 0; i < DP_DROP_COUNT; i++)
		sum += w->drops[i];
	return sum;
}

uint64_t
dp_harness_sent(void)
{
	return dp_harness_worker()->underlay.tx_packets;
}
