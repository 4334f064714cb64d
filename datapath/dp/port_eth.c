// SPDX-License-Identifier: Apache-2.0
/*
 * Devices as every worker polls them, each its own queue. What a burst sends is gathered for each device and sent at once.
 */
#include <rte_ethdev.h>

#include "port.h"
#include "pure_cycles.h"

/* How long full rings are waited for in a turn: a peer empties them meanwhile, one that does not must not hold up the others. */
#define WAIT_US 200

static void
drop_rest(struct dp_worker *w, typeof(((struct dp_eth *)0)->worker[0]) *queue, unsigned sent, enum dp_drop reason)
{
	w->drops[reason] += queue->n_tx - sent;
	if (queue->port)
		queue->port->drops[w->id][reason] += queue->n_tx - sent;
	for (unsigned i = sent; unlikely(w->capturing && queue->port) && i < queue->n_tx; i++) {
		struct virtio_net_hdr none = { 0 };
		struct rte_mbuf *m = queue->tx[i];

		dp_capture_undelivered(w, reason, queue->port, (struct iovec[]){ { &none, sizeof(none) }, { rte_pktmbuf_mtod(m, void *), m->data_len } }, 2);
	}
	rte_pktmbuf_free_bulk(queue->tx + sent, queue->n_tx - sent);
}

static unsigned
send_burst(struct dp_worker *w, struct dp_eth *eth, struct rte_mbuf **mbufs, unsigned n)
{
	unsigned sent = rte_eth_tx_burst(eth->dev, w->id, mbufs, n);
	uint64_t start;

	if (likely(sent == n) || w->waited)
		return sent;
	start = rte_rdtsc();
	while (sent < n && !w->waited) {
		rte_pause();
		sent += rte_eth_tx_burst(eth->dev, w->id, mbufs + sent, n - sent);
		w->waited = rte_rdtsc() - start > dp_cycles(WAIT_US);
	}
	return sent;
}

/* A driver that is asked for offloads may have to bring packets into its card's form, and refuses what it can't send. */
static void
prepare(struct dp_worker *w, struct dp_eth *eth, typeof(eth->worker[0]) *queue)
{
	unsigned n = rte_eth_tx_prepare(eth->dev, w->id, queue->tx, queue->n_tx);

	while (unlikely(n < queue->n_tx)) {
		dp_count(w, DP_DROP_OFFLOAD);
		if (queue->port)
			queue->port->drops[w->id][DP_DROP_OFFLOAD]++;
		queue->bytes -= queue->tx[n]->pkt_len;
		rte_pktmbuf_free(queue->tx[n]);
		queue->n_tx--;
		memmove(queue->tx + n, queue->tx + n + 1, (queue->n_tx - n) * sizeof(queue->tx[0]));
		n += rte_eth_tx_prepare(eth->dev, w->id, queue->tx + n, queue->n_tx - n);
	}
}

/* What the device does not take is dropped. */
void
dp_eth_send_queue(struct dp_worker *w, struct dp_eth *eth)
{
	typeof(eth->worker[0]) *queue = &eth->worker[w->id];
	struct dp_port *port = queue->port;
	struct dp_traffic *traffic = port ? &port->worker[w->id].traffic : &w->underlay;
	uint32_t outer = port ? 0 : (dp_addr_is4(&dp.config.vtep) ? DP_OUTER4_LEN : DP_OUTER6_LEN) - DP_VXLAN_LEN;
	bool up = atomic_load_explicit(&eth->up, memory_order_acquire);
	unsigned sent;

	if (eth->offloads.tx_csum && up)
		prepare(w, eth, queue);
	sent = likely(up) ? send_burst(w, eth, queue->tx, queue->n_tx) : 0;
	for (unsigned i = sent; i < queue->n_tx; i++)
		queue->bytes -= queue->tx[i]->pkt_len;
	traffic->tx_packets += sent;
	traffic->tx_bytes += queue->bytes - sent * outer;
	if (unlikely(sent < queue->n_tx))
		drop_rest(w, queue, sent, !up ? DP_DROP_DEVICE_DOWN : (port ? DP_DROP_DEVICE_FULL : DP_DROP_UNDERLAY_FULL));
	queue->n_tx = 0;
	queue->bytes = 0;
}

unsigned
dp_eth_read(struct dp_worker *w, struct dp_eth *eth, struct rte_mbuf **mbufs)
{
	return likely(atomic_load_explicit(&eth->up, memory_order_acquire)) ? rte_eth_rx_burst(eth->dev, w->id, mbufs, DP_BURST) : 0;
}

void
dp_eth_free(struct rte_mbuf **mbufs, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (unlikely(mbufs[i] != NULL))
			rte_pktmbuf_free(mbufs[i]);
}

bool
dp_eth_poll_only(void)
{
	return atomic_load_explicit(&dp.n_poll_only, memory_order_acquire);
}
