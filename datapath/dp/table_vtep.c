// SPDX-License-Identifier: Apache-2.0
/*
 * VTEPs by number, as forwarding entries name them, and by address, as packets do.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include <netinet/in.h>
#include <rte_hash.h>

#include "pure_esp.h"
#include "table.h"

_Atomic(struct dp_vtep *) dp_vteps[DP_MAX_VTEPS];

static struct rte_hash *ids;

static int doubts_fd = -1;

int
dp_vteps_init(char *err)
{
	doubts_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ids = dp_table_new("vteps", DP_MAX_VTEPS, sizeof(struct dp_addr), err);
	return ids ? 0 : -ENOMEM;
}

struct dp_vtep *
dp_vtep_lookup(const struct dp_addr *addr)
{
	void *id;

	if (rte_hash_lookup_data(ids, addr, &id) < 0)
		return NULL;
	return dp_vtep_get((uint32_t)(uintptr_t)id);
}

int
dp_vtep_add(struct dp_addr addr, uint16_t port)
{
	struct dp_vtep *vtep;
	uint32_t id = 0;
	int ret;

	while (id < DP_MAX_VTEPS && dp_vtep_get(id))
		id++;
	if (id == DP_MAX_VTEPS)
		return -ENOSPC;
	vtep = aligned_alloc(RTE_CACHE_LINE_SIZE, sizeof(*vtep));
	if (!vtep)
		return -ENOMEM;
	memset(vtep, 0, sizeof(*vtep));
	vtep->id = id;
	vtep->addr = addr;
	vtep->longest = vtep->longest_esp = UINT32_MAX;
	if (dp_addr_is4(&addr)) {
		struct sockaddr_in *to = (struct sockaddr_in *)&vtep->to;

		to->sin_family = AF_INET;
		to->sin_port = htons(port);
		memcpy(&to->sin_addr, addr.b + 12, 4);
		vtep->to_len = sizeof(*to);
	} else {
		struct sockaddr_in6 *to = (struct sockaddr_in6 *)&vtep->to;

		to->sin6_family = AF_INET6;
		to->sin6_port = htons(port);
		memcpy(&to->sin6_addr, addr.b, 16);
		vtep->to_len = sizeof(*to);
	}
	atomic_store_explicit(&dp_vteps[id], vtep, memory_order_release);
	ret = rte_hash_add_key_data(ids, &addr, (void *)(uintptr_t)id);
	if (ret) {
		dp_vtep_remove(vtep);
		return ret;
	}
	return id;
}

/* Outer IP and UDP headers. */
#define OUTER4 (20 + 8)
#define OUTER6 (40 + 8)
#define VXLAN 8

int
dp_vtep_mtu(uint32_t id, uint32_t mtu)
{
	struct dp_vtep *vtep = id < DP_MAX_VTEPS ? dp_vtep_get(id) : NULL;
	uint32_t outer;

	if (!vtep)
		return -ENOENT;
	outer = dp_addr_is4(&vtep->addr) ? OUTER4 : OUTER6;
	if (mtu < outer + VXLAN)
		return -EINVAL;
	atomic_store_explicit(&vtep->longest, mtu - outer - VXLAN, memory_order_relaxed);
	atomic_store_explicit(&vtep->longest_esp, mtu < outer + DP_ESP_FRONT + DP_ESP_BEHIND ? 0 : dp_esp_longest(mtu - outer), memory_order_relaxed);
	return 0;
}

void
dp_vtep_doubt(struct dp_vtep *vtep)
{
	if (!atomic_exchange_explicit(&vtep->doubted, true, memory_order_relaxed))
		eventfd_write(doubts_fd, 1);
}

int
dp_vtep_doubts_fd(void)
{
	return doubts_fd;
}

unsigned
dp_vtep_doubts(uint32_t vteps[DP_MAX_VTEPS])
{
	unsigned found = 0;

	for (uint32_t id = 0; id < DP_MAX_VTEPS; id++) {
		struct dp_vtep *vtep = dp_vtep_get(id);

		if (vtep && atomic_load_explicit(&vtep->doubted, memory_order_relaxed) && atomic_exchange(&vtep->doubted, false))
			vteps[found++] = id;
	}
	return found;
}

/* An address leads to one of the VTEPs that have it, with whatever port; false when none is left. */
static bool
repoint(const struct dp_vtep *gone)
{
	for (uint32_t id = 0; id < DP_MAX_VTEPS; id++) {
		const struct dp_vtep *other = dp_vtep_get(id);

		if (other && dp_addr_equal(&other->addr, &gone->addr))
			return !rte_hash_add_key_data(ids, &other->addr, (void *)(uintptr_t)id);
	}
	return false;
}

void
dp_vtep_remove(struct dp_vtep *vtep)
{
	atomic_store_explicit(&dp_vteps[vtep->id], NULL, memory_order_release);
	if (!repoint(vtep))
		rte_hash_del_key(ids, &vtep->addr);
	dp_synchronize();
	free(atomic_load(&vtep->sas));
	free(vtep);
}
