/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_TABLE_H
#define DP_TABLE_H

/*
 * The tables: written by the control thread alone, read by workers, of whom they know nothing. What is taken out of one is
 * reclaimed after a grace period (rte_rcu_qsbr).
 */
#include <stdatomic.h>
#include <sys/socket.h>

#include <rte_common.h>
#include <rte_rcu_qsbr.h>

#include "dp.h"
#include "pure_addr.h"

/* What is looked up, read or written together. */
#define DP_BURST 64

struct dp_eth_outer;
struct dp_sas;
struct dp_whole;

/* table_rcu.c: the grace periods, and tables whose entries outlive them. */
extern struct rte_rcu_qsbr *dp_qsbr;
int dp_rcu_init(char *err);
struct rte_hash *dp_table_new(const char *name, uint32_t entries, uint32_t key_len, char *err);

/* Where the forwarding table sends a MAC. */
enum dp_kind {
	DP_KIND_NONE,
	DP_KIND_PORT,
	DP_KIND_VTEP,
	DP_KIND_FLOOD,
};

/* As it lies in the table: 64 bits. */
struct dp_fdb_entry {
	uint32_t index;
	uint32_t generation : 24; /* of the port */
	uint32_t kind : 8;
};
_Static_assert(sizeof(struct dp_fdb_entry) == sizeof(void *), "an entry is the table's data word");

/* rte_hash compares 16-byte keys with vector code. Whole words: the look-up reads them back as such. */
struct dp_fdb_key {
	uint64_t mac; /* its bytes as they lie in memory, and two of 0 */
	uint64_t vni;
} __rte_aligned(16);

/*
 * What a worker has looked up of late: one cache line. An entry holds as long as the table is as it was: see dp_fdb_lookup. So do,
 * as long as the neighbours are, the addresses from which the MAC has sent last: see dp_source_ok4.
 */
struct dp_flow_slot {
	struct dp_fdb_key key;
	uint64_t version;
	struct dp_fdb_entry entry;
	uint64_t neigh_version;
	uint64_t ip6[2];
	uint32_t ip4;
} __rte_cache_aligned;
_Static_assert(sizeof(struct dp_flow_slot) == RTE_CACHE_LINE_SIZE, "a slot is a cache line");

#define DP_FLOW_SLOTS (1 << 16)

/* table_fdb.c */
int dp_fdb_init(char *err);
int dp_fdb_set(uint32_t vni, const uint8_t mac[6], struct dp_fdb_entry entry);
/* Through the caller's flow cache: DP_FLOW_SLOTS of them, all 0 at first. A slot is its key's, or nobody's. */
void dp_fdb_lookup(struct dp_flow_slot *cache, const struct dp_fdb_key *keys, unsigned n, struct dp_fdb_entry *entries, struct dp_flow_slot **slots);
struct dp_fdb_entry dp_fdb_lookup_one(uint32_t vni, const uint8_t mac[6]);

/* The key under which a destination is found: every group address of a network shares its flood list. */
static inline struct dp_fdb_key
dp_fdb_key(uint32_t vni, uint64_t mac)
{
	return (struct dp_fdb_key){ .mac = mac & 1 ? DP_MAC_MASK : mac, .vni = vni };
}

static inline bool
dp_fdb_key_equal(const struct dp_fdb_key *a, const struct dp_fdb_key *b)
{
	return a->mac == b->mac && a->vni == b->vni;
}

/* table_neigh.c */
int dp_neigh_init(char *err);
int dp_neigh_add(uint32_t vni, struct dp_addr addr, const uint8_t mac[6], bool extra);
bool dp_neigh_lookup(uint32_t vni, const struct dp_addr *addr, uint8_t mac[6]);
/* Whether an endpoint has the address for its own, which is not at the MAC. */
bool dp_neigh_owned(uint32_t vni, const struct dp_addr *addr, const uint8_t mac[6]);

/* A source that a worker has seen not to contradict the table: beside the two in its flow cache, for who sends from many. */
struct dp_source_slot {
	uint64_t addr[2];
	uint64_t mac;
	uint64_t seen; /* the table's version and the VNI */
} __rte_aligned(32);

#define DP_SOURCE_BITS 14
#define DP_SOURCE_SLOTS (1 << DP_SOURCE_BITS)

/* table_source.c */
struct dp_source {
	struct dp_source_slot *cache; /* DP_SOURCE_SLOTS of them, all 0 at first */
	uint64_t version;             /* of the neighbours, for the burst that is looked at */
};

/* Counts the neighbours' changes, from 1, which no empty slot of a cache carries. */
extern _Atomic uint64_t dp_neigh_version;
bool dp_source_look4(struct dp_source *s, struct dp_flow_slot *slot, const struct dp_fdb_key *from, uint32_t ip);
bool dp_source_look6(struct dp_source *s, struct dp_flow_slot *slot, const struct dp_fdb_key *from, const uint8_t ip[16]);

/* Whether the table has the address, in network order, at the MAC of `from`, or nowhere. Slot is that of `from`. */
static inline bool
dp_source_ok4(struct dp_source *s, struct dp_flow_slot *slot, const struct dp_fdb_key *from, uint32_t ip)
{
	if (likely(slot->ip4 == ip && slot->neigh_version == s->version))
		return true;
	return dp_source_look4(s, slot, from, ip);
}

static inline bool
dp_source_ok6(struct dp_source *s, struct dp_flow_slot *slot, const struct dp_fdb_key *from, const uint8_t ip[16])
{
	if (likely(slot->ip6[0] == dp_load64(ip) && slot->ip6[1] == dp_load64(ip + 8) && slot->neigh_version == s->version))
		return true;
	return dp_source_look6(s, slot, from, ip);
}

/* table_net.c */
/* Immutable; swapped whole. */
struct dp_flood {
	unsigned n_ports, n_vteps;
	uint32_t *ports, *vteps;
	uint32_t ids[];
};

struct dp_flood *dp_flood_get(uint32_t vni);
bool dp_net_encrypted(uint32_t vni);

/* table_vtep.c */
struct dp_vtep {
	uint32_t id;
	struct dp_addr addr;
	struct sockaddr_storage to;
	socklen_t to_len;
	_Atomic(struct dp_eth_outer *) outer; /* the way there goes through an ethdev; NULL: through the kernel */
	_Atomic(struct dp_whole *) whole;     /* the way there for super-frames in one piece; NULL: they are cut up */
	_Atomic(struct dp_sas *) sas;         /* table_sa.h; NULL: none */
	atomic_uint longest;                  /* inner frame that the path carries, in bytes */
	atomic_uint longest_esp;              /* and of an encrypted network */
	atomic_bool takes_partial;            /* in ESP, a TCP or UDP checksum that was never computed: the ICV vouches for the packet */
	atomic_bool one_by_one;               /* the kernel has refused to segment on the way there */
	atomic_bool doubted;                  /* and to carry what the path should: see dp_vtep_doubt */
	struct {
		struct dp_traffic traffic;
	} __rte_cache_aligned worker[DP_MAX_WORKERS];
};

extern _Atomic(struct dp_vtep *) dp_vteps[DP_MAX_VTEPS];

int dp_vteps_init(char *err);
struct dp_vtep *dp_vtep_lookup(const struct dp_addr *addr);
/* By a worker: a packet of no more than the path's MTU was refused as too long. */
void dp_vtep_doubt(struct dp_vtep *vtep);
/* By the control thread: no worker has it any more when this returns; its outer headers are the caller's. */
void dp_vtep_remove(struct dp_vtep *vtep);

static inline struct dp_vtep *
dp_vtep_get(uint32_t id)
{
	return atomic_load_explicit(&dp_vteps[id], memory_order_acquire);
}

#endif
