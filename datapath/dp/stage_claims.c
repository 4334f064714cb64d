// SPDX-License-Identifier: Apache-2.0
/*
 * Claims of trusted containers, on their way to the control plane: it alone decides who has an address, and writes the tables.
 */
#include <sys/eventfd.h>

#include "stage.h"

const uint8_t dp_prober[6] = { 0x02, 0x6f, 0x76, 0x70, 0x72, 0x62 }; /* locally administered, "ovprb" */

bool
dp_claim_add(struct dp_worker *w, struct dp_port *from, const uint8_t mac[6], const struct dp_addr *addr)
{
	struct dp_claims *c = w->claims;
	unsigned tail = atomic_load_explicit(&c->tail, memory_order_relaxed);
	typeof(c->ring[0]) *slot = &c->ring[tail % DP_CLAIMS];

	if (tail - atomic_load_explicit(&c->head, memory_order_acquire) == DP_CLAIMS || atomic_load(&from->claims) >= DP_PORT_CLAIMS)
		return false;
	atomic_fetch_add(&from->claims, 1);
	slot->claim = (struct dp_claim){ .port = from->id, .addr = *addr };
	slot->generation = from->generation;
	memcpy(slot->claim.mac, mac, 6);
	atomic_store_explicit(&c->tail, tail + 1, memory_order_release);
	eventfd_write(dp.config.claims_fd, 1);
	return true;
}

static unsigned
take(struct dp_claims *c, struct dp_claim *claims, unsigned n)
{
	unsigned head = atomic_load_explicit(&c->head, memory_order_relaxed);
	unsigned tail = atomic_load_explicit(&c->tail, memory_order_acquire);
	unsigned taken = 0;

	for (; head != tail && taken < n; head++) {
		typeof(c->ring[0]) *slot = &c->ring[head % DP_CLAIMS];
		struct dp_port *port = dp_port_get(slot->claim.port);

		if (port && port->generation == slot->generation) {
			atomic_fetch_sub(&port->claims, 1);
			claims[taken++] = slot->claim;
		}
	}
	atomic_store_explicit(&c->head, head, memory_order_release);
	return taken;
}

unsigned
dp_claims_take(struct dp_claim *claims, unsigned n)
{
	static unsigned first; /* another one each time: no worker's claims wait for the end of another's */
	unsigned taken = 0;

	first++;
	for (unsigned i = 0; i < dp.config.n_workers && taken < n; i++)
		taken += take(dp.workers[(first + i) % dp.config.n_workers]->claims, claims + taken, n - taken);
	return taken;
}
