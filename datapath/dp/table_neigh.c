// SPDX-License-Identifier: Apache-2.0
/* Neighbours: the MAC of each {address, VNI}. */
#include <errno.h>

#include <rte_hash.h>

#include "table.h"

struct neigh_key {
	struct dp_addr addr;
	uint32_t vni;
	uint32_t pad[3];
} __rte_aligned(16);

static struct rte_hash *neighs;

int
dp_neigh_init(char *err)
{
	neighs = dp_table_new("neighbours", DP_MAX_NEIGHBOURS, sizeof(struct neigh_key), err);
	return neighs ? 0 : -ENOMEM;
}

int
dp_neigh_add(uint32_t vni, struct dp_addr addr, const uint8_t mac[6])
{
	struct neigh_key key = { .addr = addr, .vni = vni };
	uint64_t word = 0;

	memcpy(&word, mac, 6);
	return rte_hash_add_key_data(neighs, &key, (void *)word);
}

int
dp_neigh_del(uint32_t vni, struct dp_addr addr)
{
	struct neigh_key key = { .addr = addr, .vni = vni };

	return rte_hash_del_key(neighs, &key) >= 0 ? 0 : -ENOENT;
}

bool
dp_neigh_lookup(uint32_t vni, const struct dp_addr *addr, uint8_t mac[6])
{
	struct neigh_key key = { .addr = *addr, .vni = vni };
	void *data;

	if (rte_hash_lookup_data(neighs, &key, &data) < 0)
		return false;
	memcpy(mac, &data, 6);
	return true;
}
