// SPDX-License-Identifier: Apache-2.0
/* The turns of the ports that have something to read, the greedy ones last. */
#include <string.h>

#include <rte_cycles.h>

#include "worker.h"

/* What rests stays in the list, and is not to end the worker's sleep. */
static void
hush(struct dp_worker *w, struct dp_port *port, bool hushed)
{
	if (port->worker[w->id].hushed == hushed)
		return;
	port->worker[w->id].hushed = hushed;
	dp_worker_hush(w, port->fds[w->id], port->id, hushed);
}

/* Gives a port its turn. It leaves the list when it is empty or gone. */
static void
serve(struct dp_worker *w, struct dp_sched *s, uint32_t id)
{
	struct dp_port *port = atomic_load_explicit(&dp.ports[id], memory_order_acquire);

	/* A port that is gone may have left its number to one without a queue. */
	if (port && port->ops->read && port->ops->read(w, port)) {
		s->ports[s->kept++] = id;
		return;
	}
	w->is_ready[id] = false;
	if (port)
		hush(w, port, false);
}

bool
dp_sched_read(struct dp_worker *w, struct dp_sched *s)
{
	for (; s->at < s->n && w->n_frames < DP_BURST; s->at++)
		serve(w, s, s->ports[s->at]);
	return w->n_frames;
}

/* Moves the greedy ports to the end of the list; how many others there are. */
static unsigned
greedy_last(struct dp_worker *w)
{
	unsigned modest = 0;

	for (unsigned i = 0; i < w->n_ready; i++) {
		uint32_t id = w->ready[i];
		struct dp_port *port = dp_port_get(id);

		if (port && dp_greedy(w, port))
			continue;
		w->ready[i] = w->ready[modest];
		w->ready[modest++] = id;
	}
	return modest;
}

void
dp_sched_modest(struct dp_worker *w, struct dp_sched *s)
{
	unsigned modest = greedy_last(w);

	w->n_greedy = w->n_ready - modest;
	w->resting = false;
	*s = (struct dp_sched){ .ports = w->ready, .n = modest, .modest = modest, .start = w->n_greedy ? rte_rdtsc() : 0 };
}

void
dp_sched_greedy(struct dp_worker *w, struct dp_sched *s)
{
	s->modest_kept = s->kept;
	s->ports = w->ready + s->modest;
	s->n = s->at = s->kept = 0;
	if (!w->n_greedy)
		return;
	dp_rest_modest(&w->rest, s->start, s->modest ? rte_rdtsc() : s->start);
	s->start = rte_rdtsc();
	w->resting = dp_rest_left(&w->rest, s->start) > 0;
	if (!w->resting) {
		s->n = w->n_greedy;
		return;
	}
	s->kept = w->n_greedy;
	for (unsigned i = 0; i < s->kept; i++) {
		struct dp_port *port = dp_port_get(s->ports[i]);

		if (port)
			hush(w, port, true);
	}
}

bool
dp_sched_end(struct dp_worker *w, struct dp_sched *s)
{
	if (w->n_greedy && !w->resting)
		dp_rest_greedy(&w->rest, w->n_greedy, s->start, rte_rdtsc());
	memmove(w->ready + s->modest_kept, s->ports, s->kept * sizeof(*s->ports));
	w->n_ready = s->modest_kept + s->kept;
	return s->modest_kept || (s->kept && !w->resting);
}
