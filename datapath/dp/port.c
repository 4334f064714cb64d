// SPDX-License-Identifier: Apache-2.0
/*
 * Ports: where a container hangs. Each worker has a queue of every port.
 */
#include <errno.h>
#include <stdlib.h>

#include "pipeline.h"

static uint32_t generation;

static int
port_watch(struct dp_port *port)
{
	for (unsigned i = 0; i < dp.config.n_workers; i++) {
		int ret = dp_worker_watch(dp.workers[i], port->fds[i], port->id);

		if (ret)
			return ret;
	}
	return 0;
}

static struct dp_addr
link_local(const uint8_t mac[6])
{
	return (struct dp_addr){ .b = { 0xfe, 0x80, 0, 0, 0, 0, 0, 0, mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5] } };
}

int
dp_port_add(const struct dp_port_config *config)
{
	struct dp_port *port;
	uint32_t id = 0;
	int ret;

	while (id < DP_MAX_PORTS && dp_port_get(id))
		id++;
	if (id == DP_MAX_PORTS)
		return -ENOSPC;
	port = aligned_alloc(RTE_CACHE_LINE_SIZE, RTE_ALIGN_CEIL(sizeof(*port), RTE_CACHE_LINE_SIZE));
	if (!port)
		return -ENOMEM;
	*port = (struct dp_port){
		.id = id,
		.generation = ++generation & 0xffffff,
		.vni = config->vni,
		.has_ip4 = config->has_ip4,
		.has_ip6 = config->has_ip6,
		.ip4 = config->ip4,
		.ip6 = config->ip6,
		.link_local = link_local(config->mac),
	};
	memcpy(port->mac, config->mac, 6);
	memcpy(port->fds, config->fds, sizeof(port->fds));
	atomic_store_explicit(&dp.ports[id], port, memory_order_release);
	ret = port_watch(port);
	if (ret) {
		dp_port_del(id);
		return ret;
	}
	return id;
}

int
dp_port_del(uint32_t id)
{
	struct dp_port *port = dp_port_get(id);

	if (!port)
		return -ENOENT;
	for (unsigned i = 0; i < dp.config.n_workers; i++)
		dp_worker_unwatch(dp.workers[i], port->fds[i]);
	atomic_store_explicit(&dp.ports[id], NULL, memory_order_release);
	dp_synchronize();
	free(port);
	return 0;
}
