// SPDX-License-Identifier: Apache-2.0
/*
 * The order of a turn: what is read, which stages it goes through, and when what they have queued is sent. Nothing else of
 * the product calls a stage. What a burst lies in may be used again once it was flushed.
 */
#include "worker.h"

/* Packets from the sockets; those of all datagrams that were read together are merged. */
static bool
turn_sockets(struct dp_worker *w)
{
	struct dp_packet packets[DP_BURST];
	bool more = dp_udp_read(w);
	double fill;
	unsigned n;

	while ((n = dp_udp_packets(w, packets))) {
		dp_burst(w, DP_ORIGIN_UNDERLAY, n);
		dp_decap(w, packets, dp_esp_open(w, packets, n));
	}
	dp_decap_flush(w);
	fill = more && w->fairness.congested ? dp_udp_fill(&w->udp) : 0;
	dp_rx_standing_settle(&w->standing, fill, rte_rdtsc());
	if (more)
		dp_rx_fairness_settle(&w->fairness, fill > 0.5);
	else
		dp_rx_fairness_idle(&w->fairness);
	return more;
}

void
dp_turn_underlay(struct dp_worker *w, struct dp_eth *eth, struct rte_mbuf **mbufs, unsigned n)
{
	struct dp_packet packets[DP_BURST];

	n = dp_underlay_read(w, eth, mbufs, n, packets);
	dp_decap(w, packets, dp_esp_open(w, packets, n));
	dp_decap_flush(w);
}

void
dp_turn_native(struct dp_worker *w, struct dp_port *port, struct rte_mbuf **mbufs, unsigned n)
{
	n = dp_native_read(w, port, mbufs, n);
	dp_encap(w, w->frames, w->from, n);
	dp_udp_flush(w);
}

static unsigned
turn_device(struct dp_worker *w, struct dp_eth *eth)
{
	struct dp_port *port = atomic_load_explicit(&eth->port, memory_order_acquire);
	struct rte_mbuf *mbufs[DP_BURST];
	unsigned n;

	if (!port && !atomic_load_explicit(&eth->underlay, memory_order_acquire))
		return 0;
	n = dp_eth_read(w, eth, mbufs);
	if (!n)
		return 0;
	dp_burst(w, port ? DP_ORIGIN_PORTS : DP_ORIGIN_UNDERLAY, n);
	if (port)
		dp_turn_native(w, port, mbufs, n);
	else
		dp_turn_underlay(w, eth, mbufs, n);
	dp_eth_free(mbufs, n);
	dp_eth_flush(w);
	dp_stage(w, DP_STAGE_SEND, n);
	return n;
}

static bool
turn_devices(struct dp_worker *w)
{
	unsigned n = atomic_load_explicit(&dp.n_eths, memory_order_acquire), received = 0;

	for (unsigned i = 0; i < n; i++) {
		struct dp_eth *eth = dp_eth_get(i);

		if (eth)
			received += turn_device(w, eth);
	}
	return received;
}

static void
burst_from_ports(struct dp_worker *w)
{
	dp_burst(w, DP_ORIGIN_PORTS, w->n_frames);
	dp_encap(w, w->frames, w->from, w->n_frames);
	dp_udp_flush(w);
	dp_stage(w, DP_STAGE_SEND, w->n_frames);
	w->n_frames = 0;
}

bool
dp_turn_ports(struct dp_worker *w)
{
	struct dp_sched s;

	dp_sched_normal(w, &s);
	while (dp_sched_read(w, &s))
		burst_from_ports(w);
	dp_sched_flooding(w, &s);
	while (dp_sched_read(w, &s))
		burst_from_ports(w);
	return dp_sched_end(w, &s);
}

struct dp_turn
dp_turn(struct dp_worker *w)
{
	struct dp_turn turn;

	if (w->underlay_ready)
		w->underlay_ready = turn_sockets(w);
	turn.polled = turn_devices(w);
	turn.more = w->n_ready && dp_turn_ports(w);
	if (unlikely(atomic_load_explicit(&w->pending->wake_up, memory_order_relaxed)))
		dp_neigh_pending_reply(w);
	dp_eth_flush(w);
	if (unlikely(w->n_written))
		dp_shared_flush(w);
	return turn;
}
