//go:build dptest
// SPDX-License-Identifier: Apache-2.0
#include "harness_card.h"

#include <rte_ethdev.h>

#include "harness_pipeline.h"
#include "port_outer.h"
#include "worker.h"

void
dp_harness_card(uint32_t device, bool tx_csum, bool outer_udp, bool tso, bool rx_csum, uint16_t max_segs)
{
	dp_eth_get(device)->offloads =
		(struct dp_eth_offloads){ .tx_csum = tx_csum, .tx_outer_udp = outer_udp, .tso = tso, .rx_csum = rx_csum, .max_segs = max_segs };
}

static void
look(const struct rte_mbuf *m, struct dp_harness_given *g)
{
	uint64_t l4 = m->ol_flags & RTE_MBUF_F_TX_L4_MASK;

	*g = (struct dp_harness_given){
		.len = m->pkt_len,
		.pieces = m->nb_segs,
		.vxlan = (m->ol_flags & RTE_MBUF_F_TX_TUNNEL_MASK) == RTE_MBUF_F_TX_TUNNEL_VXLAN,
		.outer4 = m->ol_flags & RTE_MBUF_F_TX_OUTER_IPV4,
		.outer6 = m->ol_flags & RTE_MBUF_F_TX_OUTER_IPV6,
		.outer_ip_csum = m->ol_flags & RTE_MBUF_F_TX_OUTER_IP_CKSUM,
		.outer_udp_csum = m->ol_flags & RTE_MBUF_F_TX_OUTER_UDP_CKSUM,
		.inner4 = m->ol_flags & RTE_MBUF_F_TX_IPV4,
		.inner6 = m->ol_flags & RTE_MBUF_F_TX_IPV6,
		.ip_csum = m->ol_flags & RTE_MBUF_F_TX_IP_CKSUM,
		.tcp_csum = l4 == RTE_MBUF_F_TX_TCP_CKSUM,
		.udp_csum = l4 == RTE_MBUF_F_TX_UDP_CKSUM,
		.cut = m->ol_flags & RTE_MBUF_F_TX_TCP_SEG,
		.outer_l2_len = m->outer_l2_len,
		.outer_l3_len = m->outer_l3_len,
		.l2_len = m->l2_len,
		.l3_len = m->l3_len,
		.l4_len = m->l4_len,
		.size = m->tso_segsz,
	};
	for (uint32_t at = 0; m; at += m->data_len, m = m->next)
		memcpy(g->bytes + at, rte_pktmbuf_mtod(m, void *), m->data_len);
}

uint32_t
dp_harness_card_send(uint32_t port, const uint8_t *bytes, uint32_t len, uint32_t device, struct dp_harness_given *given, uint32_t max)
{
	typeof(dp_eth_get(device)->worker[0]) *queue = &dp_eth_get(device)->worker[dp_harness_worker()->id];
	uint32_t n;

	dp_harness_encap(port, bytes, len);
	n = RTE_MIN(queue->n_tx, max);
	for (uint32_t i = 0; i < n; i++) {
		rte_mbuf_sanity_check(queue->tx[i], 1);
		look(queue->tx[i], &given[i]);
	}
	rte_pktmbuf_free_bulk(queue->tx, queue->n_tx);
	queue->n_tx = 0;
	queue->bytes = 0;
	return n;
}

static uint32_t n_sent;

static uint16_t
refuse_odd(void *queue, struct rte_mbuf **mbufs, uint16_t n)
{
	uint16_t i = 0;

	(void)queue;
	while (i < n && !(mbufs[i]->pkt_len & 1))
		i++;
	return i;
}

static uint16_t
take_all(void *queue, struct rte_mbuf **mbufs, uint16_t n)
{
	(void)queue;
	rte_pktmbuf_free_bulk(mbufs, n);
	n_sent += n;
	return n;
}

uint32_t
dp_harness_card_refuses(uint32_t device, uint32_t n)
{
	struct dp_worker *w = dp_harness_worker();
	struct dp_eth *eth = dp_eth_get(device);
	struct rte_eth_fp_ops *ops = &rte_eth_fp_ops[eth->dev], before = *ops;

	ops->tx_pkt_prepare = refuse_odd;
	ops->tx_pkt_burst = take_all;
	n_sent = 0;
	for (uint32_t i = 0; i < n; i++) {
		struct rte_mbuf *m = rte_pktmbuf_alloc(dp.eth_pool);

		rte_pktmbuf_append(m, 60 + i);
		dp_eth_queue(w, eth, NULL, m);
	}
	dp_eth_send_queue(w, eth);
	*ops = before;
	return n_sent;
}

unsigned
dp_harness_card_receive(uint32_t device, const uint8_t *bytes, uint32_t len, bool tunnel, enum dp_harness_word outer, enum dp_harness_word inner, bool *checked)
{
	static const uint64_t outers[] = { RTE_MBUF_F_RX_OUTER_L4_CKSUM_UNKNOWN, RTE_MBUF_F_RX_OUTER_L4_CKSUM_GOOD, RTE_MBUF_F_RX_OUTER_L4_CKSUM_BAD };
	static const uint64_t inners[] = { RTE_MBUF_F_RX_L4_CKSUM_UNKNOWN, RTE_MBUF_F_RX_L4_CKSUM_GOOD, RTE_MBUF_F_RX_L4_CKSUM_BAD };
	struct rte_mbuf *m = rte_pktmbuf_alloc(dp.eth_pool);
	struct dp_packet p = { 0 };
	struct dp_outer o;
	enum dp_drop drop;

	memcpy(rte_pktmbuf_append(m, len), bytes, len);
	m->packet_type = tunnel ? RTE_PTYPE_TUNNEL_VXLAN : RTE_PTYPE_L4_UDP;
	m->ol_flags = outers[outer] | inners[inner];
	dp_outer_begin(&o, dp_eth_get(device));
	drop = dp_outer_plain(&o, &m, &p) ? DP_DROP_COUNT : dp_outer_parse(&o, &m, &p);
	*checked = p.checked;
	rte_pktmbuf_free(m);
	return drop;
}

bool
dp_harness_card_asks_too_much(uint64_t tx_lacks, uint64_t rx_lacks, struct dp_device_info *info)
{
	struct rte_eth_dev_info dev = { .tx_offload_capa = ~tx_lacks, .rx_offload_capa = ~rx_lacks };
	struct rte_eth_conf conf = { 0 };
	struct dp_eth_offloads o = dp_eth_choose_offloads(&dev, &conf);

	*info = (struct dp_device_info){ .tx_csum = o.tx_csum, .rx_csum = o.rx_csum, .tso = o.tso };
	return conf.txmode.offloads & tx_lacks || conf.rxmode.offloads & rx_lacks;
}
