//go:build dptest
// SPDX-License-Identifier: Apache-2.0
#include "harness_moderation.h"

#include <poll.h>

#include "harness_pipeline.h"
#include "worker.h"

uint32_t
dp_harness_devices(uint32_t n)
{
	return atomic_exchange(&dp.n_eths, n);
}

bool
dp_harness_moderate(void)
{
	return dp_moderate(dp_harness_worker());
}

bool
dp_harness_resting(void)
{
	struct dp_worker *w = dp_harness_worker();

	dp_moderation_end(w);
	return w->moderation.until;
}

void
dp_harness_listen(uint32_t port)
{
	struct dp_worker *w = dp_harness_worker();

	dp_worker_watch(w, dp_port_get(port)->fds[w->id], port);
}

bool
dp_harness_deaf(uint32_t port)
{
	return dp_port_get(port)->worker[dp_harness_worker()->id].masked;
}

bool
dp_harness_deaf_underlay(void)
{
	const struct dp_moderation *m = &dp_harness_worker()->moderation;

	return m->until && m->underlay;
}

bool
dp_harness_hears(void)
{
	return poll(&(struct pollfd){ .fd = dp_harness_worker()->epoll, .events = POLLIN }, 1, 0) > 0;
}

uint64_t
dp_harness_rests(void)
{
	return *(volatile uint64_t *)&dp.workers[0]->rests;
}
