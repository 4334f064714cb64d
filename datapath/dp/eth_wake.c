// SPDX-License-Identifier: Apache-2.0
/*
 * What wakes a worker when a device has received something. DPDK offers interrupts for some drivers of network cards and
 * for none on top of a kernel's socket; but who has the socket can wait for it.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "pipeline.h"

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
