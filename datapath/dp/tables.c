// SPDX-License-Identifier: Apache-2.0
/*
 * The tables that workers read and the control thread writes: forwarding entries by {MAC, VNI} and
 * neighbours by {address, VNI}. rte_hash with lock-free readers; what is deleted is reclaimed after a grace period.
 */
#include <errno.h>
#include <stdio.h>

#include <rte_hash.h>
#include <rte_hash_crc.h>
#include <rte_prefetch.h>

#include "pipeline.h"

struct neigh_key {
	struct dp_addr addr;
	uint32_t vni;
	uint32_t pad[3];
} __rte_aligned(16);

static struct rte_hash *fdb, *neighs;
/* Of the forwarding table: counts its changes, from 1, which no empty memo carries. */
static _Atomic uint64_t version = 1;

#define MEMO_BITS 16
_Static_assert(1 << MEMO_BITS == DP_FDB_MEMOS, "a slot for each hash");

struct rte_hash *
dp_table_new(const char *name, uint32_t entries, uint32_t key_len, char *err)
{
	struct rte_hash_parameters params = {
		.name = name,
		.entries = entries,
		.key_len = key_len,
		.hash_func = rte_hash_crc,
		.socket_id = SOCKET_ID_ANY,
		.extra_flag = RTE_HASH_EXTRA_FLAGS_RW_CONCURRENCY_LF | RTE_HASH_EXTRA_FLAGS_EXT_TABLE,
	};
	struct rte_hash_rcu_config rcu = { .v = dp.qsbr, .mode = RTE_HASH_QSBR_MODE_DQ };
	struct rte_hash *hash = rte_hash_create(&params);

	/* Returns +1 on some errors, not a negative number. */
	if (hash && rte_hash_rcu_qsbr_add(hash, &rcu)) {
		rte_hash_free(hash);
		hash = NULL;
	}
	if (!hash)
		snprintf(err, DP_ERR_LEN, "no memory for the table %s of %u entries", name, entries);
	return hash;
}

int
dp_tables_init(char *err)
{
	fdb = dp_table_new("fdb", DP_MAX_MACS, sizeof(struct dp_fdb_key), err);
	neighs = dp_table_new("neighbours", DP_MAX_NEIGHBOURS, sizeof(struct neigh_key), err);
	return fdb && neighs ? 0 : -ENOMEM;
}

static void *
hop_pack(struct dp_hop hop)
{
	void *data;

	memcpy(&data, &hop, sizeof(data));
	return data;
}

static struct dp_hop
hop_unpack(void *data)
{
	struct dp_hop hop;

	memcpy(&hop, &data, sizeof(hop));
	return hop;
}

/* Spreads MACs that were counted up, as container engines give them. */
static inline uint32_t
memo_slot(const struct dp_fdb_key *key)
{
	uint64_t mixed = (key->mac ^ key->vni << 40) * 0x9e3779b97f4a7c15;

	return mixed >> (64 - MEMO_BITS);
}

static inline bool
memo_holds(const struct dp_fdb_memo *memo, const struct dp_fdb_key *key, uint64_t now)
{
	return memo->version == now && dp_fdb_key_equal(&memo->key, key);
}

/* Looks up keys[missing[]] in the table. Neighbouring equal keys, as a burst from one container has them, share one lookup. */
static void
lookup_missing(struct dp_worker *w, const struct dp_fdb_key *keys, const uint8_t *missing, unsigned n, struct dp_hop *hops, uint64_t now)
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

		hops[missing[i]] = (struct dp_hop){ 0 };
		if (!(hits & (1ull << slot[i])))
			continue;
		hops[missing[i]] = hop_unpack(data[slot[i]]);
		w->memos[memo_slot(key)] = (struct dp_fdb_memo){ .key = *key, .version = now, .hop = hop_unpack(data[slot[i]]) };
	}
}

/*
 * n is 1 to DP_BURST. What the worker remembers holds as long as nothing was written: the version is read before the
 * table, and counted up behind a change, so that no memo of an old entry carries the new version. A worker that has
 * passed its quiescent state since the change reads that version.
 */
void
dp_fdb_lookup(struct dp_worker *w, const struct dp_fdb_key *keys, unsigned n, struct dp_hop *hops)
{
	uint64_t now = atomic_load_explicit(&version, memory_order_acquire);
	const struct dp_fdb_memo *memos[DP_BURST];
	uint8_t missing[DP_BURST];
	unsigned n_missing = 0;

	for (unsigned i = 0; i < n; i++) {
		memos[i] = &w->memos[memo_slot(&keys[i])];
		rte_prefetch0(memos[i]);
	}
	for (unsigned i = 0; i < n; i++) {
		hops[i] = memos[i]->hop;
		if (unlikely(!memo_holds(memos[i], &keys[i], now)))
			missing[n_missing++] = i;
	}
	if (n_missing)
		lookup_missing(w, keys, missing, n_missing, hops, now);
}

static struct dp_fdb_key
key_of(uint32_t vni, const uint8_t mac[6])
{
	uint64_t word = 0;

	memcpy(&word, mac, 6);
	return dp_fdb_key(vni, word);
}

struct dp_hop
dp_fdb_lookup_one(uint32_t vni, const uint8_t mac[6])
{
	struct dp_fdb_key key = key_of(vni, mac);
	void *data;

	return rte_hash_lookup_data(fdb, &key, &data) >= 0 ? hop_unpack(data) : (struct dp_hop){ 0 };
}

int
dp_fdb_set(uint32_t vni, const uint8_t mac[6], struct dp_hop hop)
{
	struct dp_fdb_key key = key_of(vni, mac);
	int ret;

	ret = rte_hash_add_key_data(fdb, &key, hop_pack(hop));
	atomic_fetch_add_explicit(&version, 1, memory_order_release);
	return ret;
}

int
dp_fdb_set_vtep(uint32_t vni, const uint8_t mac[6], uint32_t vtep)
{
	return dp_fdb_set(vni, mac, (struct dp_hop){ .kind = DP_KIND_VTEP, .index = vtep });
}

int
dp_fdb_set_port(uint32_t vni, const uint8_t mac[6], uint32_t port)
{
	struct dp_port *p = dp_port_get(port);

	if (!p)
		return -ENOENT;
	return dp_fdb_set(vni, mac, (struct dp_hop){ .kind = DP_KIND_PORT, .index = port, .generation = p->generation });
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

int
dp_neigh_set(uint32_t vni, struct dp_addr addr, const uint8_t mac[6])
{
	struct neigh_key key = { .addr = addr, .vni = vni };
	uint64_t word = 0;
	int ret;

	memcpy(&word, mac, 6);
	ret = rte_hash_add_key_data(neighs, &key, (void *)word);
	dp_late_news();
	return ret;
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
