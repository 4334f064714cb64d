// SPDX-License-Identifier: Apache-2.0
/* The forwarding table: where each {MAC, VNI} is. */
#include <errno.h>

#include <rte_hash.h>
#include <rte_prefetch.h>

#include "table.h"

static struct rte_hash *fdb;
/* Counts the table's changes, from 1, which no empty slot of a cache carries. */
static _Atomic uint64_t version = 1;

/* In place of a slot that another key of the burst has taken: its source is looked up each time. */
static struct dp_flow_slot nobody;

#define CACHE_BITS 16
_Static_assert(1 << CACHE_BITS == DP_FLOW_SLOTS, "a slot for each hash");

int
dp_fdb_init(char *err)
{
	fdb = dp_table_new("fdb", DP_MAX_MACS, sizeof(struct dp_fdb_key), err);
	return fdb ? 0 : -ENOMEM;
}

static void *
entry_pack(struct dp_fdb_entry entry)
{
	void *data;

	memcpy(&data, &entry, sizeof(data));
	return data;
}

static struct dp_fdb_entry
entry_unpack(void *data)
{
	struct dp_fdb_entry entry;

	memcpy(&entry, &data, sizeof(entry));
	return entry;
}

/* Spreads MACs that were counted up, as container engines give them. */
static inline uint32_t
cache_slot(const struct dp_fdb_key *key)
{
	uint64_t mixed = (key->mac ^ key->vni << 40) * 0x9e3779b97f4a7c15;

	return mixed >> (64 - CACHE_BITS);
}

static inline bool
cache_hit(const struct dp_flow_slot *slot, const struct dp_fdb_key *key, uint64_t now)
{
	return slot->version == now && dp_fdb_key_equal(&slot->key, key);
}

/* Looks up keys[missing[]] in the table. Neighbouring equal keys, as a burst from one container has them, share one lookup. */
static void
lookup_missing(struct dp_flow_slot *cache, const struct dp_fdb_key *keys, const uint8_t *missing, unsigned n, struct dp_fdb_entry *entries, uint64_t now)
{
	const void *distinct[DP_BURST];
	void *data[DP_BURST];
	uint8_t slot[DP_BURST];
	unsigned n_distinct = 0;
	uint64_t hits = 0;

	for (unsigned i = 0; i < n; i++) {
		const struct dp_fdb_key *key = &keys[missing[i]];

		if (!i || memcmp(key, &keys[missing[i - 1]], sizeof(*key)))
			distinct[n_distinct++] = key;
		slot[i] = n_distinct - 1;
	}
	rte_hash_lookup_bulk_data(fdb, distinct, n_distinct, &hits, data);
	for (unsigned i = 0; i < n; i++) {
		const struct dp_fdb_key *key = &keys[missing[i]];

		entries[missing[i]] = (struct dp_fdb_entry){ 0 };
		if (!(hits & (1ull << slot[i])))
			continue;
		entries[missing[i]] = entry_unpack(data[slot[i]]);
		cache[cache_slot(key)] = (struct dp_flow_slot){ .key = *key, .version = now, .entry = entry_unpack(data[slot[i]]) };
	}
}

/*
 * n is 1 to DP_BURST. What a worker remembers holds as long as nothing was written: the version is read before the
 * table, and counted up behind a change, so that no copy of an old entry carries the new version. A worker that has
 * passed its quiescent state since the change reads that version.
 */
void
dp_fdb_lookup(struct dp_flow_slot *cache, const struct dp_fdb_key *keys, unsigned n, struct dp_fdb_entry *entries, struct dp_flow_slot **slots)
{
	uint64_t now = atomic_load_explicit(&version, memory_order_acquire);
	uint8_t missing[DP_BURST];
	unsigned n_missing = 0;

	for (unsigned i = 0; i < n; i++) {
		slots[i] = &cache[cache_slot(&keys[i])];
		rte_prefetch0(slots[i]);
	}
	for (unsigned i = 0; i < n; i++) {
		entries[i] = slots[i]->entry;
		if (unlikely(!cache_hit(slots[i], &keys[i], now)))
			missing[n_missing++] = i;
	}
	if (likely(!n_missing))
		return;
	lookup_missing(cache, keys, missing, n_missing, entries, now);
	for (unsigned i = 0; i < n; i++)
		if (unlikely(!dp_fdb_key_equal(&slots[i]->key, &keys[i])))
			slots[i] = &nobody;
}

static struct dp_fdb_key
key_of(uint32_t vni, const uint8_t mac[6])
{
	uint64_t word = 0;

	memcpy(&word, mac, 6);
	return dp_fdb_key(vni, word);
}

struct dp_fdb_entry
dp_fdb_lookup_one(uint32_t vni, const uint8_t mac[6])
{
	struct dp_fdb_key key = key_of(vni, mac);
	void *data;

	return rte_hash_lookup_data(fdb, &key, &data) >= 0 ? entry_unpack(data) : (struct dp_fdb_entry){ 0 };
}

int
dp_fdb_set(uint32_t vni, const uint8_t mac[6], struct dp_fdb_entry entry)
{
	struct dp_fdb_key key = key_of(vni, mac);
	int ret;

	ret = rte_hash_add_key_data(fdb, &key, entry_pack(entry));
	atomic_fetch_add_explicit(&version, 1, memory_order_release);
	return ret;
}

int
dp_fdb_set_vtep(uint32_t vni, const uint8_t mac[6], uint32_t vtep)
{
	return dp_fdb_set(vni, mac, (struct dp_fdb_entry){ .kind = DP_KIND_VTEP, .index = vtep });
}

int
dp_fdb_del(uint32_t vni, const uint8_t mac[6])
{
	struct dp_fdb_key key = key_of(vni, mac);
	int ret;

	ret = rte_hash_del_key(fdb, &key);
	atomic_fetch_add_explicit(&version, 1, memory_order_release);
	return ret >= 0 ? 0 : -ENOENT;
}
