// SPDX-License-Identifier: Apache-2.0
/*
 * From which addresses MACs send: what a worker has found to agree with the neighbours. What it remembers holds as long as nothing was
 * written there, as with dp_fdb_lookup.
 */
#include "table.h"

/* Whether the table has the address at the MAC, or nowhere. */
static bool
agrees(const struct dp_source *s, const struct dp_fdb_key *from, const struct dp_addr *addr)
{
	struct dp_source_slot wanted = { .mac = from->mac, .seen = s->version << 24 | from->vni };
	struct dp_source_slot *slot;
	uint64_t mixed;
	uint8_t mac[6];

	memcpy(wanted.addr, addr, sizeof(wanted.addr));
	mixed = (wanted.addr[0] ^ wanted.addr[1] ^ wanted.addr[1] >> 32 ^ wanted.mac ^ from->vni) * 0x9e3779b97f4a7c15;
	slot = &s->cache[mixed >> (64 - DP_SOURCE_BITS)];
	if (!memcmp(slot, &wanted, sizeof(wanted)))
		return true;
	if (dp_neigh_lookup(from->vni, addr, mac) && memcmp(mac, &from->mac, 6))
		return false;
	*slot = wanted;
	return true;
}

/* Makes room in the slot for an address that agrees, unless it is nobody's. */
static bool
is_fresh(const struct dp_source *s, struct dp_flow_slot *slot, const struct dp_fdb_key *from)
{
	if (!dp_fdb_key_equal(&slot->key, from))
		return false;
	if (slot->neigh_version != s->version) {
		slot->ip4 = 0;
		slot->ip6[0] = slot->ip6[1] = 0; /* from nowhere anybody may send */
		slot->neigh_version = s->version;
	}
	return true;
}

bool
dp_source_look4(struct dp_source *s, struct dp_flow_slot *slot, const struct dp_fdb_key *from, uint32_t ip)
{
	struct dp_addr addr = dp_addr4(&ip);

	if (!agrees(s, from, &addr))
		return false;
	if (is_fresh(s, slot, from))
		slot->ip4 = ip;
	return true;
}

bool
dp_source_look6(struct dp_source *s, struct dp_flow_slot *slot, const struct dp_fdb_key *from, const uint8_t ip[16])
{
	struct dp_addr addr = dp_addr6(ip);

	if (!agrees(s, from, &addr))
		return false;
	if (is_fresh(s, slot, from))
		memcpy(slot->ip6, ip, sizeof(slot->ip6));
	return true;
}
