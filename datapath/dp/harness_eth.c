//go:build dptest
// SPDX-License-Identifier: Apache-2.0
#include "harness_eth.h"

#include <stdlib.h>

#include "harness_pipeline.h"
#include "pipeline.h"

/* An mbuf whose data end where their memory ends; give_back brings its own memory back. */
static struct rte_mbuf *
exact_mbuf(const uint8_t *bytes, uint32_t len)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(dp.eth_pool);

	m->buf_addr = malloc(RTE_PKTMBUF_HEADROOM + len);
	m->data_off = RTE_PKTMBUF_HEADROOM;
	m->data_len = len;
	m->pkt_len = len;
	memcpy(rte_pktmbuf_mtod(m, void *), bytes, len);
	return m;
}

static void
give_back(struct rte_mbuf *m, void *room)
{
	if (m->buf_addr == room)
		m->buf_addr = rte_mbuf_to_baddr(m);
	rte_pktmbuf_free(m);
}

/* What the pipeline has queued on the device, before the device could get it. */
static void
collect(struct dp_worker *w, uint32_t out, const struct rte_mbuf *in, void *room, struct dp_harness_sent *sent)
{
	typeof(dp_eth_get(out)->worker[0]) *queue = &dp_eth_get(out)->worker[w->id];

	sent->len = 0;
	for (unsigned i = 0; i < queue->n_tx; i++) {
		struct rte_mbuf *m = queue->tx[i];

		sent->len = m->data_len;
		sent->travelled = m == in;
		memcpy(sent->bytes, rte_pktmbuf_mtod(m, void *), m->data_len);
		give_back(m, room);
	}
	queue->n_tx = 0;
	queue->bytes = 0;
}

void
dp_harness_eth_port(uint32_t port, const uint8_t *bytes, uint32_t len, uint32_t out, struct dp_harness_sent *sent)
{
	struct dp_worker *w = dp_harness_worker();
	struct rte_mbuf *m = exact_mbuf(bytes, len), *in = m;
	void *room = m->buf_addr;

	dp_port_eth_take(w, dp_port_get(port), &m, 1);
	if (m)
		give_back(m, room);
	collect(w, out, in, room, sent);
	free(room);
}

void
dp_harness_eth_underlay(uint32_t device, const uint8_t *bytes, uint32_t len, uint32_t out, struct dp_harness_sent *sent)
{
	struct dp_worker *w = dp_harness_worker();
	struct rte_mbuf *m = exact_mbuf(bytes, len), *in = m;
	void *room = m->buf_addr;

	dp_underlay_eth_take(w, dp_eth_get(device), &m, 1);
	if (m)
		give_back(m, room);
	collect(w, out, in, room, sent);
	free(room);
}

void
dp_harness_vxlan_port(uint16_t port)
{
	dp.config.port = port;
}

void
dp_harness_own_vtep(struct dp_addr addr)
{
	dp.config.vtep = addr;
}

void
dp_harness_device_mac(uint32_t device, uint8_t mac[6])
{
	memcpy(mac, dp_eth_get(device)->mac, 6);
}

uint64_t
dp_harness_drop(unsigned drop)
{
	return dp_harness_worker()->drops[drop];
}

bool
dp_harness_plain_agrees(const uint8_t *frame, uint32_t len, bool *plain)
{
	struct dp_hdrs fast, full;

	memset(&fast, 0, sizeof(fast));
	memset(&full, 0, sizeof(full));
	*plain = dp_parse_plain(frame, len, &fast);
	return !*plain || (dp_parse(frame, len, &full) == DP_PARSE_OK && fast.end == full.end && fast.l3 == full.l3 && fast.l4 == full.l4 &&
			   fast.payload == full.payload && fast.ethertype == full.ethertype && fast.version == full.version && fast.proto == full.proto &&
			   fast.fragment == full.fragment && fast.routing == full.routing && fast.transport == full.transport &&
			   dp_flow_hash_fast(frame, &full) == dp_flow_hash(frame, &full));
}
