// SPDX-License-Identifier: Apache-2.0
/* Counters of all workers added up. A worker alone writes its own; a reader may see a sum in the middle of a burst. */
#include <errno.h>
#include <poll.h>

#include <rte_ethdev.h>

#include "worker.h"

static const char *const names[DP_DROP_COUNT] = {
#define X(id, name, help) [DP_DROP_##id] = #name,
	DP_DROPS(X)
#undef X
};

static const char *const helps[DP_DROP_COUNT] = {
#define X(id, name, help) [DP_DROP_##id] = help,
	DP_DROPS(X)
#undef X
};

const char *
dp_drop_name(unsigned drop)
{
	return drop < DP_DROP_COUNT ? names[drop] : NULL;
}

const char *
dp_drop_help(unsigned drop)
{
	return drop < DP_DROP_COUNT ? helps[drop] : NULL;
}

static void
add(struct dp_traffic *sum, const struct dp_traffic *t)
{
	sum->rx_packets += t->rx_packets;
	sum->rx_bytes += t->rx_bytes;
	sum->tx_packets += t->tx_packets;
	sum->tx_bytes += t->tx_bytes;
	sum->trusted += t->trusted;
}

/* What the devices say that they could not keep. */
static uint64_t
device_missed(void)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < DP_MAX_DEVICES; i++) {
		const struct dp_eth *eth = dp_eth_get(i);
		struct rte_eth_stats stats;

		if (eth && !rte_eth_stats_get(eth->dev, &stats))
			sum += stats.imissed + stats.rx_nombuf;
	}
	return sum;
}

static uint64_t
cpu_time(const struct dp_worker *w)
{
	struct timespec ran = { 0 };

	if (atomic_load_explicit(&w->running, memory_order_acquire))
		clock_gettime(w->clock, &ran);
	return ran.tv_sec * 1000000000ull + ran.tv_nsec;
}

void
dp_stats(struct dp_stats *stats)
{
	*stats = (struct dp_stats){
		.mbufs_in_use = rte_mempool_in_use_count(dp.pool),
		.mbufs_total = dp.pool->size,
	};
	for (unsigned i = 0; i < dp.config.n_workers; i++) {
		const struct dp_worker *w = dp.workers[i];

		add(&stats->underlay, &w->underlay);
		stats->whole += w->whole;
		stats->cpu_ns[i] = cpu_time(w);
		stats->queue_fill[i] = dp_udp_fill(&w->udp);
		stats->rests[i] = w->rests;
		memcpy(stats->bursts[i], w->bursts, sizeof(w->bursts));
		for (unsigned d = 0; d < DP_DROP_COUNT; d++)
			stats->drops[d] += w->drops[d];
		stats->drops[DP_DROP_UNDERLAY_OVERFLOW] += dp_udp_overflows(&w->udp);
	}
	stats->drops[DP_DROP_DEVICE_MISSED] += device_missed();
}

bool
dp_worker_answers(unsigned worker)
{
	struct dp_worker *w = dp.workers[worker];
	struct pollfd wake = { .fd = w->wake, .events = POLLIN };
	const bool answers = poll(&wake, 1, 0) == 0;

	if (answers)
		dp_worker_wake(w);
	return answers;
}

int
dp_vtep_stats(uint32_t id, struct dp_traffic *traffic)
{
	const struct dp_vtep *vtep = id < DP_MAX_VTEPS ? dp_vtep_get(id) : NULL;

	if (!vtep)
		return -ENOENT;
	*traffic = (struct dp_traffic){ 0 };
	for (unsigned i = 0; i < dp.config.n_workers; i++)
		add(traffic, &vtep->worker[i].traffic);
	return 0;
}

/* Called by the control thread: a port read here cannot go away meanwhile. */
int
dp_port_stats(uint32_t id, struct dp_traffic *traffic, uint64_t drops[DP_DROP_COUNT])
{
	const struct dp_port *port = dp_port_get(id);

	if (!port)
		return -ENOENT;
	*traffic = (struct dp_traffic){ 0 };
	memset(drops, 0, DP_DROP_COUNT * sizeof(*drops));
	for (unsigned i = 0; i < dp.config.n_workers; i++) {
		add(traffic, &port->worker[i].traffic);
		for (unsigned d = 0; d < DP_DROP_COUNT; d++)
			drops[d] += port->drops[i][d];
	}
	return 0;
}
