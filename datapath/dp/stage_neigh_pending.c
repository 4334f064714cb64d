// SPDX-License-Identifier: Apache-2.0
/*
 * The record of a container that has just started may be on its way, and after a restart of the daemon those of all others are. Who
 * asks meanwhile gets no answer, and Linux asks again after a second: these requests are pending, and answered when the answer comes.
 */
#include "pure_cycles.h"
#include "stage.h"

/* Then the asker has asked again: net.ipv4.neigh.default.retrans_time_ms. */
#define TIMEOUT_US 1000000

static void
forget(struct dp_neigh_pending *p, unsigned i, unsigned n)
{
	memmove(&p->requests[i], &p->requests[i + 1], (n - i - 1) * sizeof(p->requests[0]));
}

void
dp_neigh_pending_add(struct dp_worker *w, const struct dp_port *from, struct dp_asker asker, struct dp_addr target)
{
	struct dp_neigh_pending *p = w->pending;
	static const struct dp_addr none4 = { .b = { [10] = 0xff, [11] = 0xff } }, none6;
	unsigned n = atomic_load(&p->n_requests), first = 0, own = 0;

	/* A probe, by an asker without an address. */
	if (dp_addr_equal(&asker.addr, &none4) || dp_addr_equal(&asker.addr, &none6))
		return;
	/* The answer may have come between the look-up and now. */
	atomic_store(&p->wake_up, true);
	for (unsigned i = 0; i < n; i++) {
		if (p->requests[i].port != from->id)
			continue;
		if (dp_addr_equal(&p->requests[i].target, &target)) {
			p->requests[i].since = rte_rdtsc();
			return;
		}
		if (!own++)
			first = i;
	}
	/* In the order in which they came: the port's own first one goes, or else the first of all. */
	if (own == DP_PORT_PENDING_REQUESTS)
		forget(p, first, n--);
	else if (n == DP_PENDING_REQUESTS)
		forget(p, 0, n--);
	p->requests[n] = (struct dp_pending_request){
		.port = from->id,
		.generation = from->generation,
		.target = target,
		.asker = asker,
		.since = rte_rdtsc(),
	};
	atomic_store(&p->n_requests, n + 1);
}

static bool
is_done(struct dp_worker *w, const struct dp_pending_request *r)
{
	struct dp_port *port = dp_port_get(r->port);
	uint8_t mac[6];

	if (!port || port->generation != r->generation || rte_rdtsc() - r->since > dp_cycles(TIMEOUT_US))
		return true;
	if (!dp_neigh_lookup(port->vni, &r->target, mac))
		return false;
	dp_neigh_reply(w, port, &r->asker, &r->target, mac);
	return true;
}

void
dp_neigh_pending_reply(struct dp_worker *w)
{
	struct dp_neigh_pending *p = w->pending;
	unsigned n, kept = 0;

	atomic_store(&p->wake_up, false);
	n = atomic_load(&p->n_requests);
	for (unsigned i = 0; i < n; i++)
		if (!is_done(w, &p->requests[i]))
			p->requests[kept++] = p->requests[i];
	atomic_store(&p->n_requests, kept);
}

/* What the table has got is seen by a worker that asks later, or its request is seen here. */
static void
wake_up_workers(void)
{
	atomic_thread_fence(memory_order_seq_cst);
	for (unsigned i = 0; i < dp.config.n_workers; i++) {
		struct dp_worker *w = dp.workers[i];

		if (!atomic_load(&w->pending->n_requests))
			continue;
		atomic_store(&w->pending->wake_up, true);
		dp_worker_wake(w);
	}
}

int
dp_neigh_set(uint32_t vni, struct dp_addr addr, const uint8_t mac[6], bool extra)
{
	int ret = dp_neigh_add(vni, addr, mac, extra);

	wake_up_workers();
	return ret;
}
