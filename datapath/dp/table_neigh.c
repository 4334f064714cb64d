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
_Atomic uint64_t dp_neigh_version = 1;

int
dp_neigh_init(char *err)
{
	neighs = dp_table_new("neighbours", DP_MAX_NEIGHBOURS, sizeof(struct neigh_key), err);
	return neighs ? 0 : -ENOMEM;
}

/* As it lies in the table: 64 bits. */
struct entry {
	uint8_t mac[6];
	bool extra;
	uint8_t pad;
};
_Static_assert(sizeof(struct entry) == sizeof(void *), "an entry is the table's data word");

int
dp_neigh_add(uint32_t vni, struct dp_addr addr, const uint8_t mac[6], bool extra)
{
	struct neigh_key key = { .addr = addr, .vni = vni };
	struct entry entry = { .extra = extra };
	void *word;
	int ret;

	memcpy(entry.mac, mac, 6);
	memcpy(&word, &entry, sizeof(word));
	ret = rte_hash_add_key_data(neighs, &key, word);
	atomic_fetch_add_explicit(&dp_neigh_version, 1, memory_order_release);
	return ret;
}

int
dp_neigh_del(uint32_t vni, struct dp_addr addr)
{
	struct neigh_key key = { .addr = addr, .vni = vni };
	int ret;

	ret = rte_hash_del_key(neighs, &key);
	atomic_fetch_add_explicit(&dp_neigh_version, 1, memory_order_release);
	return ret >= 0 ? 0 : -ENOENT;
}

static bool
lookup(uint32_t vni, const struct dp_addr *addr, struct entry *entry)
{
	struct neigh_key key = { .addr = *addr, .vni = vni };
	void *word;

	if (rte_hash_lookup_data(neighs, &key, &word) < 0)
		return false;
	memcpy(entry, &word, sizeof(*entry));
	return true;
}

bool
dp_neigh_lookup(uint32_t vni, const struct dp_addr *addr, uint8_t mac[6])
{
	struct entry entry;

	if (!lookup(vni, addr, &entry))
		return false;
	memcpy(mac, entry.mac, 6);
	return true;
}

bool
dp_neigh_owned(uint32_t vni, const struct dp_addr *addr, const uint8_t mac[6])
{
	struct entry entry;

	return lookup(vni, addr, &entry) && !entry.extra && memcmp(entry.mac, mac, 6);
}
