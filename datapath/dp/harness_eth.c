//go:build dptest
// SPDX-License-Identifier: Apache-2.0
#include "harness_eth.h"

#include <stdlib.h>

#include <rte_ethdev.h>

#include "harness_pipeline.h"
#include "port_outer.h"
#include "worker.h"

/* An mbuf whose data end where their memory ends, but for a tail; take_room brings its own memory back. */
static struct rte_mbuf *
mbuf_with_tail(const uint8_t *bytes, uint32_t len, uint32_t tail)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(dp.eth_pool);

	m->buf_len = RTE_PKTMBUF_HEADROOM + len + tail;
	m->buf_addr = malloc(m->buf_len);
	m->data_off = RTE_PKTMBUF_HEADROOM;
	m->data_len = len;
	m->pkt_len = len;
	memcpy(rte_pktmbuf_mtod(m, void *), bytes, len);
	return m;
}

static void
take_room(struct rte_mbuf *m, void *room)
{
	if (m->buf_addr == room) {
		m->buf_addr = rte_mbuf_to_baddr(m);
		m->buf_len = rte_pktmbuf_data_room_size(dp.eth_pool);
	}
}

static void
give_back(struct rte_mbuf *m, void *room)
{
	take_room(m, room);
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
		sent->zero_copy = m == in;
		memcpy(sent->bytes, rte_pktmbuf_mtod(m, void *), m->data_len);
		give_back(m, room);
	}
	queue->n_tx = 0;
	queue->bytes = 0;
}

void
dp_harness_eth_port(uint32_t port, const uint8_t *bytes, uint32_t len, uint32_t tail, uint32_t out, struct dp_harness_sent *sent)
{
	struct dp_worker *w = dp_harness_worker();
	struct rte_mbuf *m = mbuf_with_tail(bytes, len, tail), *in = m;
	void *room = m->buf_addr;

	dp_turn_native(w, dp_port_get(port), &m, 1);
	if (m)
		give_back(m, room);
	collect(w, out, in, room, sent);
	take_room(in, room); /* the pipeline may have freed it */
	free(room);
}

void
dp_harness_eth_underlay(uint32_t device, const uint8_t *bytes, uint32_t len, uint32_t out, struct dp_harness_sent *sent)
{
	struct dp_worker *w = dp_harness_worker();
	struct rte_mbuf *m = mbuf_with_tail(bytes, len, 0), *in = m;
	void *room = m->buf_addr;

	dp_turn_underlay(w, dp_eth_get(device), &m, 1);
	if (m)
		give_back(m, room);
	collect(w, out, in, room, sent);
	take_room(in, room); /* the pipeline may have freed it */
	free(room);
}

unsigned
dp_harness_eth_burst(uint32_t device, const uint8_t *bytes, const uint32_t *lens, unsigned n, uint32_t out, struct dp_harness_sent *sent)
{
	struct dp_worker *w = dp_harness_worker();
	typeof(dp_eth_get(out)->worker[0]) *queue = &dp_eth_get(out)->worker[w->id];
	struct rte_mbuf *mbufs[DP_BURST];
	unsigned n_sent;

	for (unsigned i = 0; i < n; i++) {
		mbufs[i] = rte_pktmbuf_alloc(dp.eth_pool);
		memcpy(rte_pktmbuf_append(mbufs[i], lens[i]), bytes, lens[i]);
		bytes += lens[i];
	}
	dp_turn_underlay(w, dp_eth_get(device), mbufs, n);
	n_sent = queue->n_tx;
	for (unsigned i = 0; i < n_sent; i++) {
		sent[i].len = queue->tx[i]->data_len;
		memcpy(sent[i].bytes, rte_pktmbuf_mtod(queue->tx[i], void *), sent[i].len);
	}
	rte_pktmbuf_free_bulk(queue->tx, n_sent);
	rte_pktmbuf_free_bulk(mbufs, n);
	queue->n_tx = 0;
	queue->bytes = 0;
	return n_sent;
}

void
dp_harness_eth_copied(uint32_t vtep, uint8_t tos, const uint8_t *bytes, uint32_t len, uint32_t out, struct dp_harness_sent *sent)
{
	dp_harness_decap(vtep, tos, 0, bytes, len);
	collect(dp_harness_worker(), out, NULL, NULL, sent);
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

bool
dp_harness_outer_agrees(uint32_t device, const uint8_t *bytes, uint32_t len, bool *plain)
{
	struct dp_packet fast = { 0 }, full = { 0 };
	struct rte_mbuf *m = mbuf_with_tail(bytes, len, 0);
	void *room = m->buf_addr;
	struct dp_outer outer;
	bool agrees;

	dp_outer_begin(&outer, dp_eth_get(device));
	*plain = dp_outer_plain(&outer, &m, &fast);
	agrees = !*plain || (dp_outer_parse(&outer, &m, &full) == DP_DROP_COUNT && fast.data == full.data && fast.len == full.len && fast.tos == full.tos &&
			     fast.from == full.from && fast.mbuf == full.mbuf);
	give_back(m, room);
	free(room);
	return agrees;
}

bool
dp_harness_asleep(void)
{
	bool asleep = true;

	for (unsigned i = 0; i < dp.config.n_workers; i++)
		asleep &= *(volatile bool *)&dp.workers[i]->armed;
	return asleep;
}

bool
dp_harness_link_up(uint32_t device)
{
	struct rte_eth_link link;

	return !rte_eth_link_get_nowait(dp_eth_get(device)->dev, &link) && link.link_status == RTE_ETH_LINK_UP;
}
