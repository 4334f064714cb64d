// SPDX-License-Identifier: Apache-2.0
/*
 * The record of a container that has just started may be on its way, and after a restart of the daemon those of all others are. Who
 * asks meanwhile gets no answer, and Linux asks again after a second: these questions are kept, and answered when the answer comes.
 */
#include <sys/eventfd.h>

#include "pure_cycles.h"
#include "pipeline.h"

/* Then the asker has asked again: net.ipv4.neigh.default.retrans_time_ms. */
#define PATIENCE_US 1000000

static void
forget(struct dp_worker *w, unsigned i, unsigned n)
{
	memmove(&w->questions[i], &w->questions[i + 1], (n - i - 1) * sizeof(w->questions[0]));
}

void
dp_ask_later(struct dp_worker *w, const struct dp_port *from, struct dp_addr asker, struct dp_addr target)
{
	static const struct dp_addr none4 = { .b = { [10] = 0xff, [11] = 0xff } }, none6;
	unsigned n = atomic_load(&w->n_questions), first = 0, own = 0;

	/* A probe, by an asker without an address. */
	if (dp_addr_equal(&asker, &none4) || dp_addr_equal(&asker, &none6))
		return;
	/* The answer may have come between the look-up and now. */
	atomic_store(&w->news, true);
	for (unsigned i = 0; i < n; i++) {
		if (w->questions[i].port != from->id)
			continue;
		if (dp_addr_equal(&w->questions[i].target, &target)) {
			w->questions[i].asked = rte_rdtsc();
			return;
		}
		if (!own++)
			first = i;
	}
	/* In the order in which they came: the port's own first one goes, or else the first of all. */
	if (own == DP_PORT_QUESTIONS)
		forget(w, first, n--);
	else if (n == DP_QUESTIONS)
		forget(w, 0, n--);
	w->questions[n] = (struct dp_question){
		.port = from->id,
		.generation = from->generation,
		.target = target,
		.asker = asker,
		.asked = rte_rdtsc(),
	};
	atomic_store(&w->n_questions, n + 1);
}

static bool
is_over(struct dp_worker *w, const struct dp_question *q)
{
	struct dp_port *port = dp_port_get(q->port);
	uint8_t mac[6];

	if (!port || port->generation != q->generation || rte_rdtsc() - q->asked > dp_cycles(PATIENCE_US))
		return true;
	if (!dp_neigh_lookup(port->vni, &q->target, mac))
		return false;
	dp_tell(w, port, &q->asker, &q->target, mac);
	return true;
}

void
dp_answer_late(struct dp_worker *w)
{
	unsigned n, kept = 0;

	atomic_store(&w->news, false);
	n = atomic_load(&w->n_questions);
	for (unsigned i = 0; i < n; i++)
		if (!is_over(w, &w->questions[i]))
			w->questions[kept++] = w->questions[i];
	atomic_store(&w->n_questions, kept);
}

void
dp_late_news(void)
{
	/* What the table has got is seen by a worker that asks later, or its question is seen here. */
	atomic_thread_fence(memory_order_seq_cst);
	for (unsigned i = 0; i < dp.config.n_workers; i++) {
		struct dp_worker *w = dp.workers[i];

		if (!atomic_load(&w->n_questions))
			continue;
		atomic_store(&w->news, true);
		eventfd_write(w->wake, 1);
	}
}
