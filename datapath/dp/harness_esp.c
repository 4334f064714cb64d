//go:build dptest
// SPDX-License-Identifier: Apache-2.0
#include "harness_esp.h"

#include <stdlib.h>

#include "harness_pipeline.h"
#include "port_esp.h"
#include "worker.h"

const uint32_t dp_harness_window_len = DP_WINDOW;

struct dp_window *
dp_harness_window(void)
{
	return calloc(1, sizeof(struct dp_window));
}

void
dp_harness_window_free(struct dp_window *window)
{
	free(window);
}

uint64_t
dp_harness_window_extend(const struct dp_window *window, uint32_t low)
{
	return dp_window_extend(window, low);
}

bool
dp_harness_window_fresh(const struct dp_window *window, uint64_t number)
{
	return dp_window_fresh(window, number);
}

bool
dp_harness_window_take(struct dp_window *window, uint64_t number)
{
	return dp_window_take(window, number);
}

void
dp_harness_sa_sent(uint32_t vtep, uint64_t sent)
{
	atomic_store(&dp_sa_out(dp_vtep_get(vtep))->sent, sent);
}

/* As many as a device's queue gathers without sending them: the harness's worker has none of its own. */
#define BURST (DP_ETH_TX - 1)

static void
drain(struct dp_worker *w, uint32_t device)
{
	typeof(dp_eth_get(device)->worker[0]) *queue = &dp_eth_get(device)->worker[w->id];

	rte_pktmbuf_free_bulk(queue->tx, queue->n_tx);
	queue->n_tx = 0;
	queue->bytes = 0;
}

/* The frame as it comes from the VTEP. */
static struct rte_mbuf *
sealed(struct dp_esp_run *esp, const struct dp_eth *eth, const struct dp_vtep *from, uint32_t vni, const uint8_t *frame, uint32_t len)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(dp.eth_pool);
	dp_ether_hdr *ether = (void *)rte_pktmbuf_append(m, DP_OUTER4_LEN - DP_VXLAN_LEN + dp_esp_len(len));
	dp_ipv4_hdr *ip = (void *)(ether + 1);
	dp_udp_hdr *udp = (void *)(ip + 1);
	uint16_t total = m->data_len - DP_ETH_LEN;

	*ether = (struct rte_ether_hdr){ .ether_type = htons(ETH_P_IP) };
	memcpy(&ether->dst_addr, eth->mac, 6);
	*ip = (struct rte_ipv4_hdr){
		.version_ihl = RTE_IPV4_VHL_DEF,
		.total_length = htons(total),
		.next_proto_id = IPPROTO_UDP,
		.time_to_live = 64,
		.src_addr = dp_addr_ip4(&from->addr),
		.dst_addr = dp_addr_ip4(&dp.config.vtep),
	};
	ip->hdr_checksum = rte_ipv4_cksum((void *)ip);
	*udp = (struct rte_udp_hdr){ .dst_port = htons(dp.config.port), .dgram_len = htons(total - sizeof(*ip)) };
	memcpy((uint8_t *)(udp + 1) + DP_ESP_FRONT, frame, len);
	dp_esp_seal(esp, vni, (uint8_t *)(udp + 1), len);
	return m;
}

struct dp_harness_esp
dp_harness_esp_cycles(uint32_t port_id, uint32_t vtep_id, uint32_t underlay, uint32_t sender, const uint8_t *frame, uint32_t len, uint32_t rounds)
{
	struct dp_worker *w = dp_harness_worker();
	struct dp_port *port = dp_port_get(port_id);
	struct dp_vtep *vtep = dp_vtep_get(vtep_id);
	struct dp_sa *theirs = dp_sa_get(sender);
	struct dp_harness_esp sum = { 0 };
	unsigned lcore = RTE_PER_LCORE(_lcore_id);
	uint8_t *back = malloc(len);

	memcpy(back, frame, len);
	memcpy(back, frame + 6, 6);
	memcpy(back + 6, frame, 6);
	/* With a cache of buffers, as workers have it: that of the one that only waits. */
	RTE_PER_LCORE(_lcore_id) = rte_get_main_lcore();
	for (uint32_t round = 0; round < rounds; round++) {
		struct rte_mbuf *mbufs[BURST];
		struct dp_esp_run esp = { .sa = theirs, .number = atomic_fetch_add(&theirs->sent, BURST) + 1, .port = htons(dp.config.port) };
		uint64_t start;

		for (unsigned i = 0; i < BURST; i++) {
			mbufs[i] = rte_pktmbuf_alloc(dp.eth_pool);
			memcpy(rte_pktmbuf_append(mbufs[i], len), frame, len);
		}
		start = rte_rdtsc();
		dp_turn_native(w, port, mbufs, BURST);
		drain(w, underlay);
		dp_eth_free(mbufs, BURST);
		sum.seal += rte_rdtsc() - start;
		for (unsigned i = 0; i < BURST; i++)
			mbufs[i] = sealed(&esp, dp_eth_get(underlay), vtep, port->vni, back, len);
		start = rte_rdtsc();
		dp_turn_underlay(w, dp_eth_get(underlay), mbufs, BURST);
		drain(w, port->eth->id);
		dp_eth_free(mbufs, BURST);
		sum.open += rte_rdtsc() - start;
		sum.packets += BURST;
	}
	RTE_PER_LCORE(_lcore_id) = lcore;
	free(back);
	return sum;
}
