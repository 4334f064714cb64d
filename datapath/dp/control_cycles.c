// SPDX-License-Identifier: Apache-2.0
/* Cycles by stage, added up over the workers. A worker writes its own while dp_measuring is set, and nothing else. */
#include "worker.h"

static const char *const names[DP_STAGE_COUNT] = {
#define X(id, name, help) [DP_STAGE_##id] = #name,
	DP_STAGES(X)
#undef X
};

static const char *const helps[DP_STAGE_COUNT] = {
#define X(id, name, help) [DP_STAGE_##id] = help,
	DP_STAGES(X)
#undef X
};

const char *
dp_stage_name(unsigned stage)
{
	return stage < DP_STAGE_COUNT ? names[stage] : NULL;
}

const char *
dp_stage_help(unsigned stage)
{
	return stage < DP_STAGE_COUNT ? helps[stage] : NULL;
}

void
dp_stages_measure(bool on)
{
	atomic_store_explicit(&dp_measuring, on, memory_order_relaxed);
}

void
dp_stages(struct dp_stage_sum sums[DP_STAGE_COUNT])
{
	memset(sums, 0, DP_STAGE_COUNT * sizeof(*sums));
	for (unsigned i = 0; i < dp.config.n_workers; i++)
		for (unsigned s = 0; s < DP_STAGE_COUNT; s++) {
			sums[s].cycles += dp.workers[i]->stages[s].cycles;
			sums[s].packets += dp.workers[i]->stages[s].packets;
		}
}

uint64_t
dp_cycles_hz(void)
{
	return rte_get_tsc_hz();
}
