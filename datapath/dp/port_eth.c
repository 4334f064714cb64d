// SPDX-License-Identifier: Apache-2.0
/*
 * Devices: opened and closed by the control thread, polled by every worker, each its own queue. What a burst sends is
 * gathered for each device and sent at once.
 */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include <rte_alarm.h>
#include <rte_dev.h>
#include <rte_ethdev.h>

#include "pure_cycles.h"
#include "pipeline.h"

#define RING 1024
/* How long full rings are waited for in a turn: a peer empties them meanwhile, one that does not must not hold up the others. */
#define WAIT_US 200

static void
drop_rest(struct dp_worker *w, typeof(((struct dp_eth *)0)->worker[0]) *queue, unsigned sent, enum dp_drop reason)
{
	w->drops[reason] += queue->n_tx - sent;
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

/* Sends a device's queue; what it does not take is dropped. */
void
dp_eth_send_queue(struct dp_worker *w, struct dp_eth *eth)
{
	typeof(eth->worker[0]) *queue = &eth->worker[w->id];
	struct dp_port *port = queue->port;
	struct dp_traffic *traffic = port ? &port->worker[w->id].traffic : &w->underlay;
	uint32_t outer = port ? 0 : (dp_addr_is4(&dp.config.vtep) ? DP_OUTER4_LEN : DP_OUTER6_LEN) - DP_VXLAN_LEN;
	bool up = atomic_load_explicit(&eth->up, memory_order_acquire);
	unsigned sent = likely(up) ? send_burst(w, eth, queue->tx, queue->n_tx) : 0;

	for (unsigned i = sent; i < queue->n_tx; i++)
		queue->bytes -= queue->tx[i]->pkt_len;
	traffic->tx_packets += sent;
	traffic->tx_bytes += queue->bytes - sent * outer;
	if (unlikely(sent < queue->n_tx))
		drop_rest(w, queue, sent, !up ? DP_DROP_DEVICE_DOWN : (port ? DP_DROP_DEVICE_FULL : DP_DROP_UNDERLAY_FULL));
	queue->n_tx = 0;
	queue->bytes = 0;
}

void
dp_eth_flush(struct dp_worker *w)
{
	unsigned n = atomic_load_explicit(&dp.n_eths, memory_order_acquire);

	for (unsigned i = 0; i < n; i++) {
		struct dp_eth *eth = dp_eth_get(i);

		if (eth && eth->worker[w->id].n_tx)
			dp_eth_send_queue(w, eth);
	}
}

/* Takes a burst through the pipeline. What nobody took is freed here, when nothing points into it any more. */
static unsigned
poll_one(struct dp_worker *w, struct dp_eth *eth)
{
	struct dp_port *port = atomic_load_explicit(&eth->port, memory_order_acquire);
	struct rte_mbuf *mbufs[DP_BURST];
	unsigned n;

	if ((!port && !atomic_load_explicit(&eth->underlay, memory_order_acquire)) || unlikely(!atomic_load_explicit(&eth->up, memory_order_acquire)))
		return 0;
	n = rte_eth_rx_burst(eth->dev, w->id, mbufs, DP_BURST);
	if (!n)
		return 0;
	if (port)
		dp_port_eth_take(w, port, mbufs, n);
	else
		dp_underlay_eth_take(w, eth, mbufs, n);
	for (unsigned i = 0; i < n; i++)
		if (unlikely(mbufs[i] != NULL))
			rte_pktmbuf_free(mbufs[i]);
	dp_eth_flush(w);
	dp_stage(w, DP_STAGE_SEND, n);
	return n;
}

bool
dp_eth_poll(struct dp_worker *w)
{
	unsigned n = atomic_load_explicit(&dp.n_eths, memory_order_acquire), received = 0;

	for (unsigned i = 0; i < n; i++) {
		struct dp_eth *eth = dp_eth_get(i);

		if (eth)
			received += poll_one(w, eth);
	}
	return received;
}

bool
dp_eth_silent(void)
{
	return atomic_load_explicit(&dp.n_silent, memory_order_acquire);
}

static int
configure(uint16_t dev)
{
	struct rte_eth_dev_info info;
	struct rte_eth_conf conf = { 0 };
	uint16_t n = dp.config.n_workers, rx = RING, tx = RING;
	int ret = rte_eth_dev_info_get(dev, &info);

	if (ret)
		return ret;
	if (info.max_rx_queues < n || info.max_tx_queues < n)
		return -ENOTSUP;
	if (n > 1 && info.flow_type_rss_offloads) {
		conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		conf.rx_adv_conf.rss_conf.rss_hf = info.flow_type_rss_offloads & (RTE_ETH_RSS_IP | RTE_ETH_RSS_UDP | RTE_ETH_RSS_TCP);
	}
	/* All that is sent comes from one pool and is held by nobody else. */
	conf.txmode.offloads = info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
	conf.intr_conf.rxq = dp_eth_use_interrupts(info.driver_name);
	ret = rte_eth_dev_configure(dev, n, n, &conf);
	if (ret && conf.intr_conf.rxq) {
		conf.intr_conf.rxq = 0; /* without MSI-X there are none */
		ret = rte_eth_dev_configure(dev, n, n, &conf);
	}
	if (!ret)
		ret = rte_eth_dev_adjust_nb_rx_tx_desc(dev, &rx, &tx);
	for (uint16_t i = 0; !ret && i < n; i++) {
		ret = rte_eth_rx_queue_setup(dev, i, rx, SOCKET_ID_ANY, NULL, dp.eth_pool);
		if (!ret)
			ret = rte_eth_tx_queue_setup(dev, i, tx, SOCKET_ID_ANY, NULL);
	}
	return ret;
}

/* A driver's threads inherit the caller's signal mask, and Go's signals must not land there. Returns the caller's. */
static sigset_t
block_signals(void)
{
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	return old;
}

static int
start(struct dp_eth *eth)
{
	sigset_t old = block_signals();
	int ret = rte_eth_dev_start(eth->dev);

	pthread_sigmask(SIG_SETMASK, &old, NULL);
	atomic_store_explicit(&eth->up, !ret, memory_order_release);
	return ret;
}

static int
probe(const char *devargs, uint16_t *dev)
{
	char name[RTE_DEV_NAME_MAX_LEN];
	sigset_t old = block_signals();
	int ret;

	snprintf(name, sizeof(name), "%.*s", (int)strcspn(devargs, ","), devargs);
	ret = rte_dev_probe(devargs);
	/* EAL has taken a PCI device at its start. */
	ret = (ret && ret != -EEXIST) || rte_eth_dev_get_port_by_name(name, dev) ? -ENODEV : configure(*dev);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return ret;
}

struct call {
	int (*work)(struct dp_eth *eth);
	struct dp_eth *eth;
	int ret;
	sem_t done;
};

static void
run(void *arg)
{
	struct call *call = arg;

	call->ret = call->work(call->eth);
	sem_post(&call->done);
}

/* A driver that talks to its peer does it on EAL's interrupt thread, and net_memif takes no lock: what it holds is freed there alone. */
static int
on_interrupt_thread(int (*work)(struct dp_eth *eth), struct dp_eth *eth)
{
	struct call call = { .work = work, .eth = eth };
	int ret;

	sem_init(&call.done, 0, 0);
	ret = rte_eal_alarm_set(1, run, &call);
	if (!ret)
		while (sem_wait(&call.done) && errno == EINTR)
			;
	sem_destroy(&call.done);
	return ret ? ret : call.ret;
}

static int
stop_and_start(struct dp_eth *eth)
{
	rte_eth_dev_stop(eth->dev);
	return start(eth);
}

static int
remove_device(struct dp_eth *eth)
{
	struct rte_eth_dev_info info;
	int ret = rte_eth_dev_info_get(eth->dev, &info);

	rte_eth_dev_stop(eth->dev);
	rte_eth_dev_close(eth->dev);
	return ret ? ret : rte_dev_remove(info.device);
}

static int
describe(struct dp_eth *eth)
{
	struct rte_eth_dev_info info;
	struct rte_ether_addr mac;
	int ret = rte_eth_dev_info_get(eth->dev, &info);

	if (!ret)
		ret = rte_eth_macaddr_get(eth->dev, &mac);
	if (!ret)
		ret = rte_eth_dev_get_mtu(eth->dev, &eth->mtu);
	if (ret)
		return ret;
	memcpy(eth->mac, mac.addr_bytes, 6);
	eth->ifindex = info.if_index;
	snprintf(eth->driver, sizeof(eth->driver), "%s", info.driver_name);
	return 0;
}

/* One that sleeps without devices would not begin to poll, and one that does for their interrupts has not asked this one. */
static void
wake_workers(void)
{
	for (unsigned i = 0; i < dp.config.n_workers; i++)
		eventfd_write(dp.workers[i]->wake, 1);
}

int
dp_device_open(const char *devargs)
{
	struct dp_eth *eth;
	uint32_t id = 0;
	int ret;

	while (id < DP_MAX_DEVICES && dp_eth_get(id))
		id++;
	if (id == DP_MAX_DEVICES)
		return -ENOSPC;
	if (!dp.eth_pool)
		return -ENOTSUP;
	eth = aligned_alloc(RTE_CACHE_LINE_SIZE, sizeof(*eth));
	if (!eth)
		return -ENOMEM;
	memset(eth, 0, sizeof(*eth));
	eth->id = id;
	eth->dev = RTE_MAX_ETHPORTS;
	ret = probe(devargs, &eth->dev);
	if (!ret)
		ret = describe(eth);
	if (ret) {
		if (eth->dev != RTE_MAX_ETHPORTS)
			on_interrupt_thread(remove_device, eth);
		free(eth);
		return ret;
	}
	eth->interrupts = !start(eth) && dp_eth_use_interrupts(eth->driver) && dp_eth_watch_interrupts(eth);
	eth->wakes = eth->interrupts || dp_eth_wakes();
	atomic_fetch_add(&dp.n_silent, !eth->wakes);
	atomic_store_explicit(&dp.eths[id], eth, memory_order_release);
	if (id >= atomic_load(&dp.n_eths))
		atomic_store_explicit(&dp.n_eths, id + 1, memory_order_release);
	wake_workers();
	return id;
}

int
dp_device_restart(uint32_t id)
{
	struct dp_eth *eth = dp_eth_get(id);
	struct rte_eth_link link;
	int ret;

	if (!eth)
		return -ENOENT;
	ret = rte_eth_link_get_nowait(eth->dev, &link);
	if (ret || (link.link_status == RTE_ETH_LINK_UP && atomic_load(&eth->up)))
		return ret;
	atomic_store_explicit(&eth->up, false, memory_order_release);
	dp_synchronize();
	ret = on_interrupt_thread(stop_and_start, eth);
	wake_workers();
	return ret;
}

int
dp_device_info(uint32_t id, struct dp_device_info *info)
{
	struct dp_eth *eth = dp_eth_get(id);

	if (!eth)
		return -ENOENT;
	*info = (struct dp_device_info){ .mtu = eth->mtu, .ifindex = eth->ifindex, .up = atomic_load(&eth->up) };
	memcpy(info->driver, eth->driver, sizeof(info->driver));
	memcpy(info->mac, eth->mac, sizeof(info->mac));
	return 0;
}

int
dp_device_underlay(uint32_t id)
{
	struct dp_eth *eth = dp_eth_get(id);

	if (!eth)
		return -ENOENT;
	if (atomic_load(&eth->port))
		return -EBUSY;
	atomic_store_explicit(&eth->underlay, true, memory_order_release);
	return 0;
}

int
dp_device_close(uint32_t id)
{
	struct dp_eth *eth = dp_eth_get(id);

	if (!eth)
		return -ENOENT;
	if (eth->users)
		return -EBUSY;
	atomic_store_explicit(&dp.eths[id], NULL, memory_order_release);
	dp_synchronize();
	for (unsigned n = id + 1; n == atomic_load(&dp.n_eths) && n && !dp_eth_get(n - 1); n--)
		atomic_store_explicit(&dp.n_eths, n - 1, memory_order_release);
	atomic_fetch_sub(&dp.n_silent, !eth->wakes);
	if (eth->interrupts)
		dp_eth_unwatch_interrupts(eth);
	on_interrupt_thread(remove_device, eth);
	free(eth);
	return 0;
}

int
dp_device_stats(uint32_t id, struct dp_traffic *traffic)
{
	struct dp_eth *eth = dp_eth_get(id);
	struct rte_eth_stats stats;
	int ret = eth ? rte_eth_stats_get(eth->dev, &stats) : -ENOENT;

	if (!ret)
		*traffic = (struct dp_traffic){ stats.ipackets, stats.ibytes, stats.opackets, stats.obytes };
	return ret;
}
