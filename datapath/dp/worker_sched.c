// SPDX-License-Identifier: Apache-2.0
/* The turns of the ports that have something to read, the flooding ones last. */
#include <string.h>

#include <rte_cycles.h>

#include "worker.h"

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
		dp_port_mask(w, port, false);
}

bool
dp_sched_read(struct dp_worker *w, struct dp_sched *s)
{
	for (; s->at < s->n && w->n_frames < DP_BURST; s->at++)
		serve(w, s, s->ports[s->at]);
	return w->n_frames;
}

/* Moves the flooding ports to the end of the list; how many others there are. */
static unsigned
flooding_last(struct dp_worker *w)
{
	unsigned normal = 0;

	for (unsigned i = 0; i < w->n_ready; i++) {
		uint32_t id = w->ready[i];
		struct dp_port *port = dp_port_get(id);

		if (port && dp_flooding(w, port))
			continue;
		w->ready[i] = w->ready[normal];
		w->ready[normal++] = id;
	}
	return normal;
}

void
dp_sched_normal(struct dp_worker *w, struct dp_sched *s)
{
	unsigned normal = flooding_last(w);

	w->n_flooding = w->n_ready - normal;
	w->throttled = false;
	*s = (struct dp_sched){ .ports = w->ready, .n = normal, .normal = normal, .start = w->n_flooding ? rte_rdtsc() : 0 };
}

void
dp_sched_flooding(struct dp_worker *w, struct dp_sched *s)
{
	s->normal_kept = s->kept;
	s->ports = w->ready + s->normal;
	s->n = s->at = s->kept = 0;
	if (!w->n_flooding)
		return;
	dp_throttle_normal(&w->throttle, s->start, s->normal ? rte_rdtsc() : s->start);
	s->start = rte_rdtsc();
	w->throttled = dp_throttle_left(&w->throttle, s->start) > 0;
	if (!w->throttled) {
		s->n = w->n_flooding;
		return;
	}
	s->kept = w->n_flooding;
	for (unsigned i = 0; i < s->kept; i++) {
		struct dp_port *port = dp_port_get(s->ports[i]);

		if (port)
			dp_port_mask(w, port, true);
	}
}

bool
dp_sched_end(struct dp_worker *w, struct dp_sched *s)
{
	if (w->n_flooding && !w->throttled)
		dp_throttle_flooding(&w->throttle, w->n_flooding, s->start, rte_rdtsc());
	memmove(w->ready + s->normal_kept, s->ports, s->kept * sizeof(*s->ports));
	w->n_ready = s->normal_kept + s->kept;
	return s->normal_kept || (s->kept && !w->throttled);
}
