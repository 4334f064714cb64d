// SPDX-License-Identifier: Apache-2.0
/*
 * Interrupt moderation, as network cards have it (ethtool's rx-usecs): a worker that has moved many datagrams, and finds
 * no more, waits for some before it looks again. One that is woken for each datagram stops the sender each time, and
 * one that looks again and again leaves no time to the receiver, whose socket overflows: what it held is lost. Nobody waits for an answer to a
 * flood. TCP's own clock is answers, so its segments do not count: a stream, or a request, never waits here.
 */
#include <sys/prctl.h>
#include <time.h>

#include <rte_cycles.h>

#include "worker.h"

/* Requests and their answers over UDP, a few at a time, stay below that. */
#define DATAGRAMS 16
/* At 600 000 datagrams a second 36 gather meanwhile: a tap's queue holds 1000, a receiver's socket of default size about 90 of 1400 bytes. */
#define REST_US 60
/* By default the kernel may double such a rest, to wake several threads at once. */
#define TIMER_SLACK_NS 1000

void
dp_moderation_start(void)
{
	prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS);
}

/* Only the kernel's queues hold what comes meanwhile: rings of devices, and those that containers share, are shorter. */
static bool
has_rings(void)
{
	return atomic_load_explicit(&dp.n_eths, memory_order_relaxed) || atomic_load_explicit(&dp.n_shared, memory_order_relaxed);
}

bool
dp_moderation_due(struct dp_worker *w, bool rings)
{
	uint64_t moved = w->datagrams;

	w->datagrams = 0;
	return moved >= DATAGRAMS && !rings;
}

bool
dp_moderate(struct dp_worker *w)
{
	const struct timespec rest = { .tv_nsec = REST_US * 1000l };

	if (!dp_moderation_due(w, has_rings()))
		return false;
	rte_rcu_qsbr_thread_offline(dp_qsbr, w->id);
	clock_nanosleep(CLOCK_MONOTONIC, 0, &rest, NULL);
	rte_rcu_qsbr_thread_online(dp_qsbr, w->id);
	w->mark = rte_rdtsc();
	return true;
}
