// SPDX-License-Identifier: Apache-2.0
/*
 * What wakes a worker when a device has received something. Some drivers have interrupts (rte_ethdev.h,
 * rte_eth_dev_rx_intr_enable), those on top of a kernel's socket have none; but who has the socket can wait for it.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <rte_ethdev.h>

#include "port.h"

static bool
receives_frames(int fd)
{
	int domain;
	socklen_t len = sizeof(domain);

	return !getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) && (domain == AF_XDP || domain == AF_PACKET);
}

bool
dp_eth_wakes(void)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;
	bool found = false;

	if (!dir)
		return false;
	while ((entry = readdir(dir))) {
		int fd = atoi(entry->d_name);

		/* Those of another device are watched already: -EEXIST. Which queue is whose is not told: all hear of all. */
		if (!receives_frames(fd))
			continue;
		for (unsigned i = 0; i < dp.config.n_workers; i++)
			found |= !dp_worker_watch(dp.workers[i], fd, DP_TAG_DEVICE);
	}
	closedir(dir);
	return found;
}

/*
 * Of the drivers that have interrupts, those with which they were tried. Others have surprises: while they are off, net_i40e
 * keeps packets back until their descriptors fill a cache line, and a queue of net_ixgbe switches off its neighbour's.
 */
bool
dp_eth_use_interrupts(const char *driver)
{
	return !strncmp(driver, "net_virtio", strlen("net_virtio"));
}

bool
dp_eth_watch_interrupts(const struct dp_eth *eth)
{
	for (unsigned i = 0; i < dp.config.n_workers; i++) {
		int fd = rte_eth_dev_rx_intr_ctl_q_get_fd(eth->dev, i);

		if (fd < 0 || dp_worker_watch(dp.workers[i], fd, DP_TAG_DEVICE)) {
			dp_eth_unwatch_interrupts(eth);
			return false;
		}
	}
	return true;
}

void
dp_eth_unwatch_interrupts(const struct dp_eth *eth)
{
	for (unsigned i = 0; i < dp.config.n_workers; i++)
		dp_worker_unwatch(dp.workers[i], rte_eth_dev_rx_intr_ctl_q_get_fd(eth->dev, i));
}

static bool
ask(struct dp_worker *w, int (*what)(uint16_t dev, uint16_t queue))
{
	unsigned n = atomic_load_explicit(&dp.n_eths, memory_order_acquire);
	bool any = false;

	for (unsigned i = 0; i < n; i++) {
		struct dp_eth *eth = dp_eth_get(i);

		if (eth && atomic_load_explicit(&eth->up, memory_order_acquire) && eth->interrupts)
			any |= !what(eth->dev, w->id);
	}
	return any;
}

bool
dp_eth_arm(struct dp_worker *w)
{
	bool already = w->armed;

	w->armed = already || ask(w, rte_eth_dev_rx_intr_enable);
	return w->armed && !already;
}

void
dp_eth_disarm(struct dp_worker *w)
{
	if (w->armed)
		ask(w, rte_eth_dev_rx_intr_disable);
	w->armed = false;
}
