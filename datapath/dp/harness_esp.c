//go:build dptest
// SPDX-License-Identifier: Apache-2.0
#include "harness_esp.h"

#include <stdlib.h>

#include "table_sa.h"

const uint32_t dp_harness_window_len = DP_WINDOW;

struct dp_window *
dp_harness_window(void)
{
	return calloc(1, sizeof(struct dp_window));
}

void
dp_harness_window_free(struct dp_window *window)
{
	free(window);
}

uint64_t
dp_harness_window_extend(const struct dp_window *window, uint32_t low)
{
	return dp_window_extend(window, low);
}

bool
dp_harness_window_fresh(const struct dp_window *window, uint64_t number)
{
	return dp_window_fresh(window, number);
}

bool
dp_harness_window_take(struct dp_window *window, uint64_t number)
{
	return dp_window_take(window, number);
}

void
dp_harness_sa_sent(uint32_t vtep, uint64_t sent)
{
	atomic_store(&dp_sa_out(dp_vtep_get(vtep))->sent, sent);
}
