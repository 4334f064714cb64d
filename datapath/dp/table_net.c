// SPDX-License-Identifier: Apache-2.0
/*
 * Networks and their flood lists. A network is found like a MAC: under the group address of its VNI.
 */
#include <errno.h>
#include <stdlib.h>

#include "pure_aead.h"
#include "table.h"

struct dp_net {
	bool encrypted;
	_Atomic(struct dp_flood *) flood;
};

static _Atomic(struct dp_net *) nets[DP_MAX_NETS];

static const uint8_t group[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

static struct dp_net *
net_get(uint32_t vni)
{
	struct dp_fdb_entry entry = dp_fdb_lookup_one(vni, group);

	return entry.kind == DP_KIND_FLOOD ? atomic_load_explicit(&nets[entry.index], memory_order_acquire) : NULL;
}

struct dp_flood *
dp_flood_get(uint32_t vni)
{
	struct dp_net *net = net_get(vni);

	return net ? atomic_load_explicit(&net->flood, memory_order_acquire) : NULL;
}

bool
dp_net_encrypted(uint32_t vni)
{
	struct dp_net *net = net_get(vni);

	return net && net->encrypted;
}

int
dp_net_add(uint32_t vni, bool encrypted)
{
	struct dp_net *net = net_get(vni);
	uint32_t id = 0;
	int ret;

	if (net)
		return net->encrypted == encrypted ? 0 : -EEXIST;
	ret = encrypted ? dp_aead_init() : 0;
	if (ret)
		return ret;
	while (id < DP_MAX_NETS && atomic_load(&nets[id]))
		id++;
	if (id == DP_MAX_NETS)
		return -ENOSPC;
	net = calloc(1, sizeof(*net));
	if (!net)
		return -ENOMEM;
	net->encrypted = encrypted;
	atomic_store_explicit(&nets[id], net, memory_order_release);
	ret = dp_fdb_set(vni, group, (struct dp_fdb_entry){ .kind = DP_KIND_FLOOD, .index = id });
	if (ret) {
		atomic_store(&nets[id], NULL);
		free(net);
	}
	return ret;
}

int
dp_net_del(uint32_t vni)
{
	struct dp_fdb_entry entry = dp_fdb_lookup_one(vni, group);
	struct dp_net *net = net_get(vni);

	if (!net)
		return -ENOENT;
	dp_fdb_del(vni, group);
	atomic_store_explicit(&nets[entry.index], NULL, memory_order_release);
	dp_synchronize();
	free(atomic_load(&net->flood));
	free(net);
	return 0;
}

int
dp_net_flood(uint32_t vni, const uint32_t *ports, unsigned n_ports, const uint32_t *vteps, unsigned n_vteps)
{
	struct dp_net *net = net_get(vni);
	struct dp_flood *flood, *old;

	if (!net)
		return -ENOENT;
	flood = malloc(sizeof(*flood) + (n_ports + n_vteps) * sizeof(uint32_t));
	if (!flood)
		return -ENOMEM;
	flood->n_ports = n_ports;
	flood->n_vteps = n_vteps;
	flood->ports = flood->ids;
	flood->vteps = flood->ids + n_ports;
	if (n_ports)
		memcpy(flood->ports, ports, n_ports * sizeof(uint32_t));
	if (n_vteps)
		memcpy(flood->vteps, vteps, n_vteps * sizeof(uint32_t));
	old = atomic_exchange_explicit(&net->flood, flood, memory_order_acq_rel);
	dp_synchronize();
	free(old);
	return 0;
}
