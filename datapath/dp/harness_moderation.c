//go:build dptest
// SPDX-License-Identifier: Apache-2.0
#include "harness_moderation.h"

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
	return w->moderation.resting;
}

void
dp_harness_listen(uint32_t port)
{
	dp_worker_watch(dp_harness_worker(), dp_harness_port_fd(port), port);
}

int
dp_harness_epoll(void)
{
	return dp_harness_worker()->epoll;
}

int
dp_harness_port_fd(uint32_t port)
{
	return dp_port_get(port)->fds[dp_harness_worker()->id];
}

int
dp_harness_underlay_fd(void)
{
	return dp_harness_worker()->udp.rx_fd;
}

uint64_t
dp_harness_rests(void)
{
	return *(volatile uint64_t *)&dp.workers[0]->rests;
}
