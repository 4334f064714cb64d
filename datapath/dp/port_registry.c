// SPDX-License-Identifier: Apache-2.0
/*
 * Ports: where a container hangs, or the host. Each worker has a queue of every port.
 */
#include <errno.h>
#include <stdlib.h>

#include "port.h"

static uint32_t generation;

static struct dp_addr
link_local(const uint8_t mac[6])
{
	return (struct dp_addr){ .b = { 0xfe, 0x80, 0, 0, 0, 0, 0, 0, mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5] } };
}

static void
unregister_port(struct dp_port *port)
{
	atomic_store_explicit(&dp.ports[port->id], NULL, memory_order_release);
	dp_synchronize();
	free(port->drops);
	free(port);
}

/* Copies `model` to a place and a number of its own, and starts it. */
static int
register_port(const struct dp_port *model)
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
	*port = *model;
	port->drops = calloc(DP_MAX_WORKERS, sizeof(*port->drops));
	if (!port->drops) {
		free(port);
		return -ENOMEM;
	}
	port->id = id;
	port->generation = ++generation & 0xffffff;
	atomic_store_explicit(&dp.ports[id], port, memory_order_release);
	ret = port->ops->start(port);
	if (ret) {
		unregister_port(port);
		return ret;
	}
	return id;
}

static const struct dp_port_ops *
ops_of(const struct dp_port_config *config)
{
	if (config->has_device)
		return &dp_native_ops;
	switch (config->rings) {
	case DP_RINGS_VHOST:
		return &dp_vhost_ops;
	case DP_RINGS_MEMIF:
		return &dp_memif_ops;
	default:
		return &dp_tap_ops;
	}
}

int
dp_port_add(const struct dp_port_config *config)
{
	struct dp_port port = {
		.ops = ops_of(config),
		.eth = config->has_device ? dp_eth_get(config->device) : NULL,
		.vni = config->vni,
		.encrypted = dp_net_encrypted(config->vni),
		.mtu = config->mtu,
		.trust = config->trust,
		.has_ip4 = config->has_ip4,
		.has_ip6 = config->has_ip6,
		.ip4 = config->ip4,
		.ip6 = config->ip6,
		.link_local = link_local(config->mac),
	};

	memcpy(port.mac, config->mac, 6);
	memcpy(port.fds, config->fds, sizeof(port.fds));
	return register_port(&port);
}

int
dp_device_host(uint32_t device, const int fds[DP_MAX_WORKERS])
{
	struct dp_port port = { .ops = &dp_host_ops, .eth = dp_eth_get(device) };

	if (!port.eth)
		return -ENOENT;
	memcpy(port.fds, fds, sizeof(port.fds));
	return register_port(&port);
}

int
dp_port_del(uint32_t id)
{
	struct dp_port *port = dp_port_get(id);

	if (!port)
		return -ENOENT;
	port->ops->stop(port);
	unregister_port(port);
	return 0;
}

int
dp_fdb_set_port(uint32_t vni, const uint8_t mac[6], uint32_t port)
{
	struct dp_port *p = dp_port_get(port);

	if (!p)
		return -ENOENT;
	return dp_fdb_set(vni, mac, (struct dp_fdb_entry){ .kind = DP_KIND_PORT, .index = port, .generation = p->generation });
}
