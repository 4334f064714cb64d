// SPDX-License-Identifier: Apache-2.0
/* Grace periods, and tables of rte_hash with lock-free readers: what is deleted is reclaimed after one. */
#include <errno.h>
#include <stdio.h>

#include <rte_hash.h>
#include <rte_hash_crc.h>
#include <rte_malloc.h>

#include "table.h"

struct rte_rcu_qsbr *dp_qsbr;

int
dp_rcu_init(char *err)
{
	size_t size = rte_rcu_qsbr_get_memsize(DP_MAX_WORKERS);

	dp_qsbr = rte_zmalloc("qsbr", size, RTE_CACHE_LINE_SIZE);
	if (!dp_qsbr || rte_rcu_qsbr_init(dp_qsbr, DP_MAX_WORKERS)) {
		snprintf(err, DP_ERR_LEN, "no memory for the grace periods");
		return -ENOMEM;
	}
	return 0;
}

void
dp_synchronize(void)
{
	rte_rcu_qsbr_synchronize(dp_qsbr, RTE_QSBR_THRID_INVALID);
}

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
	struct rte_hash_rcu_config rcu = { .v = dp_qsbr, .mode = RTE_HASH_QSBR_MODE_DQ };
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
