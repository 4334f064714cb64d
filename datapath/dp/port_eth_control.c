// SPDX-License-Identifier: Apache-2.0
/* Devices as the control thread opens and closes them. */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include <rte_alarm.h>
#include <rte_dev.h>
#include <rte_ethdev.h>

#include "port.h"

#define RING 1024

static int
configure(uint16_t dev, struct dp_eth_offloads *offloads)
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
	*offloads = dp_eth_choose_offloads(&info, &conf);
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
	if (!ret && (eth->offloads.tx_csum || eth->offloads.rx_csum))
		dp_eth_offload_vxlan(eth->dev);
	atomic_store_explicit(&eth->up, !ret, memory_order_release);
	return ret;
}

static int
probe(const char *devargs, uint16_t *dev, struct dp_eth_offloads *offloads)
{
	char name[RTE_DEV_NAME_MAX_LEN];
	sigset_t old = block_signals();
	int ret = 0;

	snprintf(name, sizeof(name), "%.*s", (int)strcspn(devargs, ","), devargs);
	/* EAL has taken a PCI device at its start, and takes it for an error to be asked for it again. */
	if (rte_eth_dev_get_port_by_name(name, dev))
		ret = rte_dev_probe(devargs) || rte_eth_dev_get_port_by_name(name, dev) ? -ENODEV : 0;
	if (!ret)
		ret = configure(*dev, offloads);
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
		dp_worker_wake(dp.workers[i]);
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
	ret = probe(devargs, &eth->dev, &eth->offloads);
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
	atomic_fetch_add(&dp.n_poll_only, !eth->wakes);
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
	info->tx_csum = eth->offloads.tx_csum;
	info->tso = eth->offloads.tso;
	info->rx_csum = eth->offloads.rx_csum;
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
	atomic_fetch_sub(&dp.n_poll_only, !eth->wakes);
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
		*traffic = (struct dp_traffic){ stats.ipackets, stats.ibytes, stats.opackets, stats.obytes, 0 };
	return ret;
}
