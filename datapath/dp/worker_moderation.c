// SPDX-License-Identifier: Apache-2.0
/*
 * Interrupt moderation, as network cards have it (ethtool's rx-usecs): who has sent many datagrams is not listened to for a
 * while, in which some gather. A worker that is woken for each of them stops the sender each time, and one that looks again
 * and again leaves no time to the receiver, whose socket overflows: what it held is lost. Nobody waits for an answer to a
 * flood. TCP's own clock is answers, so that its segments do not count, and all others are heard meanwhile.
 */
#include <poll.h>
#include <sys/prctl.h>

#include <rte_cycles.h>

#include "pure_cycles.h"
#include "worker.h"

/* Many are so many without a break. Requests and their answers over UDP, a few at a time, stay below that. */
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

/* A port that is throttled is masked again by its next turn. */
static void
unmask(struct dp_worker *w)
{
	struct dp_moderation *m = &w->moderation;

	for (unsigned i = 0; i < m->n_ports; i++) {
		struct dp_port *port = dp_port_get(m->ports[i]);

		if (port)
			dp_port_mask(w, port, false);
	}
	if (m->underlay >= DATAGRAMS)
		dp_worker_mask(w, w->udp.rx_fd, DP_TAG_UNDERLAY, false);
}

static void
forget(struct dp_worker *w)
{
	struct dp_moderation *m = &w->moderation;

	for (unsigned i = 0; i < m->n_ports; i++) {
		struct dp_port *port = dp_port_get(m->ports[i]);

		if (port)
			port->worker[w->id].datagrams = 0;
	}
	m->n_ports = m->underlay = 0;
}

/* Who sent many is not heard any more; false: nobody did. */
static bool
mask(struct dp_worker *w)
{
	struct dp_moderation *m = &w->moderation;
	bool any = m->underlay >= DATAGRAMS;

	if (any)
		dp_worker_mask(w, w->udp.rx_fd, DP_TAG_UNDERLAY, true);
	for (unsigned i = 0; i < m->n_ports; i++) {
		struct dp_port *port = dp_port_get(m->ports[i]);

		if (!port || port->worker[w->id].datagrams < DATAGRAMS)
			continue;
		dp_port_mask(w, port, true);
		any = true;
	}
	return any;
}

/* Devices are polled, and wake nobody. */
static bool
begin(struct dp_worker *w)
{
	bool rests = !atomic_load_explicit(&dp.n_eths, memory_order_relaxed) && mask(w);

	if (!rests) {
		forget(w);
		return false;
	}
	w->moderation.resting = true;
	w->moderation.began = rte_rdtsc();
	w->rests++;
	return true;
}

bool
dp_moderate(struct dp_worker *w)
{
	const uint64_t rest = dp_cycles(REST_US);
	uint64_t passed;

	if (!w->moderation.resting && !begin(w))
		return false;
	passed = rte_rdtsc() - w->moderation.began;
	if (passed < rest) {
		struct timespec timeout = { .tv_nsec = (rest - passed) * NS_PER_S / rte_get_tsc_hz() };

		rte_rcu_qsbr_thread_offline(dp_qsbr, w->id);
		ppoll(&(struct pollfd){ .fd = w->epoll, .events = POLLIN }, 1, &timeout, NULL);
		rte_rcu_qsbr_thread_online(dp_qsbr, w->id);
		w->mark = rte_rdtsc();
	}
	return true;
}

void
dp_moderation_end(struct dp_worker *w)
{
	struct dp_moderation *m = &w->moderation;

	if (likely(!m->resting) || rte_rdtsc() - m->began < dp_cycles(REST_US))
		return;
	m->resting = false;
	unmask(w);
	forget(w);
}
