// SPDX-License-Identifier: Apache-2.0
/* The turns of the ports that have something to read, the greedy ones last. */
#include <string.h>

#include <rte_cycles.h>

#include "pipeline.h"

static void
flush(struct dp_worker *w)
{
	dp_encap(w, w->frames, w->from, w->n_frames);
	dp_udp_flush(w);
	dp_stage(w, DP_STAGE_SEND, w->n_frames);
	w->n_frames = 0;
}

/* What rests stays in the list, and is not to end the worker's sleep. */
static void
hush(struct dp_worker *w, struct dp_port *port, bool hushed)
{
	if (port->worker[w->id].hushed == hushed)
		return;
	port->worker[w->id].hushed = hushed;
	dp_worker_hush(w, port->fds[w->id], port->id, hushed);
}

/* One turn for each of some ports; how many stay. A port leaves the list when it is empty or gone. */
static unsigned
serve(struct dp_worker *w, uint32_t *ports, unsigned n)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < n; i++) {
		uint32_t id = ports[i];
		struct dp_port *port = dp_port_get(id);

		if (w->n_frames == DP_BURST)
			flush(w);
		/* A port that is gone may have left its number to one without a queue. */
		if (port && port->ops->read && port->ops->read(w, port)) {
			ports[kept++] = id;
			continue;
		}
		w->is_ready[id] = false;
		if (port)
			hush(w, port, false);
	}
	if (w->n_frames)
		flush(w);
	return kept;
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

static unsigned
serve_greedy(struct dp_worker *w, uint32_t *ports, unsigned n)
{
	uint64_t start = rte_rdtsc();
	unsigned kept;

	w->resting = dp_rest_left(&w->rest, start) > 0;
	if (!w->resting) {
		kept = serve(w, ports, n);
		dp_rest_greedy(&w->rest, n, start, rte_rdtsc());
		return kept;
	}
	for (unsigned i = 0; i < n; i++) {
		struct dp_port *port = dp_port_get(ports[i]);

		if (port)
			hush(w, port, true);
	}
	return n;
}

bool
dp_serve_ports(struct dp_worker *w)
{
	unsigned modest = greedy_last(w), kept, greedy;
	uint64_t start;

	w->n_greedy = w->n_ready - modest;
	w->resting = false;
	if (!w->n_greedy) {
		w->n_ready = serve(w, w->ready, modest);
		return w->n_ready;
	}
	start = rte_rdtsc();
	kept = serve(w, w->ready, modest);
	dp_rest_modest(&w->rest, start, modest ? rte_rdtsc() : start);
	greedy = serve_greedy(w, w->ready + modest, w->n_greedy);
	memmove(w->ready + kept, w->ready + modest, greedy * sizeof(*w->ready));
	w->n_ready = kept + greedy;
	return kept || (greedy && !w->resting);
}
