// SPDX-License-Identifier: Apache-2.0
/*
 * The record of a container that has just started may be on its way, and after a restart of the daemon those of all others are. Who
 * asks meanwhile gets no answer, and Linux asks again after a second: these questions are kept, and answered when the answer comes.
 */
#include "pure_cycles.h"
#include "stage.h"

/* Then the asker has asked again: net.ipv4.neigh.default.retrans_time_ms. */
#define PATIENCE_US 1000000

static void
forget(struct dp_neigh_pending *p, unsigned i, unsigned n)
{
	memmove(&p->questions[i], &p->questions[i + 1], (n - i - 1) * sizeof(p->questions[0]));
}

void
dp_ask_later(struct dp_worker *w, const struct dp_port *from, struct dp_addr asker, struct dp_addr target)
{
	struct dp_neigh_pending *p = w->pending;
	static const struct dp_addr none4 = { .b = { [10] = 0xff, [11] = 0xff } }, none6;
	unsigned n = atomic_load(&p->n_questions), first = 0, own = 0;

	/* A probe, by an asker without an address. */
	if (dp_addr_equal(&asker, &none4) || dp_addr_equal(&asker, &none6))
		return;
	/* The answer may have come between the look-up and now. */
	atomic_store(&p->news, true);
	for (unsigned i = 0; i < n; i++) {
		if (p->questions[i].port != from->id)
			continue;
		if (dp_addr_equal(&p->questions[i].target, &target)) {
			p->questions[i].asked = rte_rdtsc();
			return;
		}
		if (!own++)
			first = i;
	}
	/* In the order in which they came: the port's own first one goes, or else the first of all. */
	if (own == DP_PORT_QUESTIONS)
		forget(p, first, n--);
	else if (n == DP_QUESTIONS)
		forget(p, 0, n--);
	p->questions[n] = (struct dp_question){
		.port = from->id,
		.generation = from->generation,
		.target = target,
		.asker = asker,
		.asked = rte_rdtsc(),
	};
	atomic_store(&p->n_questions, n + 1);
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
	struct dp_neigh_pending *p = w->pending;
	unsigned n, kept = 0;

	atomic_store(&p->news, false);
	n = atomic_load(&p->n_questions);
	for (unsigned i = 0; i < n; i++)
		if (!is_over(w, &p->questions[i]))
			p->questions[kept++] = p->questions[i];
	atomic_store(&p->n_questions, kept);
}

/* What the table has got is seen by a worker that asks later, or its question is seen here. */
static void
tell_news(void)
{
	atomic_thread_fence(memory_order_seq_cst);
	for (unsigned i = 0; i < dp.config.n_workers; i++) {
		struct dp_worker *w = dp.workers[i];

		if (!atomic_load(&w->pending->n_questions))
			continue;
		atomic_store(&w->pending->news, true);
		dp_worker_wake(w);
	}
}

int
dp_neigh_set(uint32_t vni, struct dp_addr addr, const uint8_t mac[6])
{
	int ret = dp_neigh_add(vni, addr, mac);

	tell_news();
	return ret;
}
