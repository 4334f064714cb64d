//go:build dptest
// SPDX-License-Identifier: Apache-2.0
#include "harness_pipeline.h"

#include <stdlib.h>

#include "pure_cycles.h"
#include "worker.h"

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

/* Takes what was captured, and looks whether it makes sense. */
static void
take_captured(const struct dp_worker *w)
{
	static uint8_t room[DP_CAPTURE_ROOM_MIN];

	for (unsigned i = 0; w->capturing && i < DP_CAPTURES; i++) {
		uint32_t taken = dp_capture_get(i) ? dp_capture_take(i, w->id, room, sizeof(room)) : 0;

		for (uint32_t at = 0; at < taken;) {
			const struct dp_captured *c = (const void *)(room + at);

			if (c->kept > c->len || c->start.size != RTE_ALIGN_CEIL(sizeof(*c) + c->kept, 8) || c->start.point >= DP_POINT_COUNT || c->start.drop >= DP_DROP_COUNT)
				abort();
			at += c->start.size;
		}
	}
}

void
dp_harness_capture(const char *filter, uint32_t sample)
{
	struct dp_worker *w = dp_harness_worker();
	char err[DP_ERR_LEN];
	struct dp_capture_config config = { .points = (1u << DP_POINT_COUNT) - 1, .sample = sample, .snap = DP_FRAME_MAX, .room = DP_CAPTURE_ROOM_MIN, .filter = filter, .opaque = true };
	struct dp_capture *capture = dp_capture_new(&config, err);
	int number = capture ? dp_capture_start(capture) : -1;

	if (number < 0)
		abort();
	/* The rings are those of real workers. */
	dp_capture_get(number)->rings[w->id].bytes = malloc(config.room);
	w->capturing = true;
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
	take_captured(w);
	w->waited = false;
	free(room);
}

void
dp_harness_decap(uint32_t vtep, uint8_t tos, uint32_t size, const uint8_t *bytes, uint32_t len)
{
	struct dp_worker *w = dp_harness_worker();
	uint8_t *room = malloc(len);
	struct dp_packet packets[DP_BURST];
	unsigned n;

	memcpy(room, bytes, len);
	/* One that is empty has no packets, but is to be seen by the stage. */
	packets[0] = (struct dp_packet){ .data = room, .from = dp_vtep_get(vtep) };
	if (len)
		dp_udp_take(w, (struct dp_udp_datagram){ .data = room, .len = len, .size = size ? size : len, .tos = tos, .from = packets[0].from });
	else
		dp_decap(w, packets, 1);
	while ((n = dp_udp_packets(w, packets)))
		dp_decap(w, packets, dp_esp_open(w, packets, n));
	dp_decap_flush(w);
	take_captured(w);
	free(room);
}

void
dp_harness_uso(bool taken)
{
	atomic_store(&dp.uso, taken);
}

uint32_t
dp_harness_turn(uint32_t port, uint32_t normal)
{
	struct dp_worker *w = dp_harness_worker();
	struct dp_port *from = dp_port_get(port);
	uint32_t n;

	w->n_flooding = dp_flooding(w, from);
	w->n_ready = normal + w->n_flooding;
	from->ops->read(w, from);
	n = w->n_frames;
	w->n_frames = w->n_ready = w->n_flooding = 0;
	return n;
}

uint32_t
dp_harness_serve(const uint32_t *ports, uint32_t n)
{
	struct dp_worker *w = dp_harness_worker();
	const struct dp_port *first = dp_port_get(ports[0]);
	uint64_t before = first->worker[w->id].traffic.rx_packets;

	memcpy(w->ready, ports, n * sizeof(*ports));
	w->n_ready = n;
	dp_turn_ports(w);
	w->n_ready = 0;
	return first->worker[w->id].traffic.rx_packets - before;
}

void
dp_harness_throttle(bool contended, bool still, uint64_t us)
{
	uint64_t now = rte_rdtsc();

	/* Enough of others' work for windows to come, or no more. */
	dp_harness_worker()->throttle = (struct dp_throttle){ .since = now, .normal = still ? INT64_MAX : 0, .contended = contended, .until = now + dp_cycles(us) };
}

void
dp_harness_flood(uint32_t port)
{
	struct dp_worker *w = dp.workers[0];

	dp_port_get(port)->worker[0].backlogged = 4 * DP_FLOOD_TURNS;
	w->throttle.normal = INT64_MAX;
	w->throttle.contended = true;
}

bool
dp_harness_masked(uint32_t port)
{
	return *(volatile bool *)&dp_port_get(port)->worker[0].masked;
}

uint32_t
dp_harness_throttle_after(uint32_t normal_us, uint32_t turn_us, uint32_t then_us)
{
	const uint64_t start = dp_cycles(US_PER_S), now = start + dp_cycles(20000); /* a window less than a turn */
	struct dp_throttle throttle = { .since = start };

	dp_throttle_normal(&throttle, now - dp_cycles(normal_us), now);
	dp_throttle_normal(&throttle, now, now + dp_cycles(1));
	dp_throttle_flooding(&throttle, 1, now, now + dp_cycles(turn_us));
	return dp_throttle_left(&throttle, now + dp_cycles(turn_us + then_us));
}

void
dp_harness_settle(bool more, bool full)
{
	struct dp_rx_fairness *f = &dp_harness_worker()->fairness;

	if (more)
		dp_rx_fairness_settle(f, full);
	else
		dp_rx_fairness_idle(f);
}

static uint64_t standing_now;

void
dp_harness_standing(double fill, uint64_t us)
{
	standing_now += dp_cycles(us);
	dp_rx_standing_settle(&dp_harness_worker()->standing, fill, standing_now);
}

bool
dp_harness_stands(uint64_t mac, bool udp, uint64_t work)
{
	struct dp_rx_standing *q = &dp_harness_worker()->standing;

	return q->is_long && dp_rx_standing_over(q, mac, udp, work);
}

void
dp_harness_forget(void)
{
	dp_harness_worker()->fairness = (struct dp_rx_fairness){ 0 };
	dp_harness_worker()->standing = (struct dp_rx_standing){ 0 };
}

void
dp_harness_charge(uint64_t mac, uint64_t us)
{
	for (uint64_t i = 0; i < us; i++)
		dp_rx_fairness_charge(&dp_harness_worker()->fairness, mac, dp_cycles(i + 1) - dp_cycles(i));
}

bool
dp_harness_over(uint64_t mac)
{
	struct dp_rx_fairness *f = &dp_harness_worker()->fairness;

	return f->congested && dp_rx_fairness_over(f, mac);
}

void
dp_harness_one_by_one(uint32_t vtep, bool refused)
{
	atomic_store(&dp_vtep_get(vtep)->one_by_one, refused);
}

void
dp_harness_doubt(uint32_t vtep)
{
	dp_vtep_doubt(dp_vtep_get(vtep));
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
