// SPDX-License-Identifier: Apache-2.0
/*
 * The underlay on an ethdev: outer headers are written and read here (RFC 7348 section 5 over RFC 894, 791 and 768).
 * IPv4 alone; DF is set and the IP id 0 (RFC 6864 section 4.1), the UDP checksum 0 as RFC 7348 wants it.
 */
#include <errno.h>
#include <stdlib.h>

#include <rte_prefetch.h>

#include "csum.h"
#include "pipeline.h"

#define ETHERTYPE_IP 0x0800
#define IP4_LEN 20
#define UDP_LEN 8
#define IP_DF 0x4000
#define TTL 64
/* Dynamic ports: RFC 7348 section 5, RFC 6335 section 6. */
#define SOURCE_FIRST 0xc000
#define SOURCE_MASK 0x3fff

static void
encapsulate(struct dp_worker *w, const struct dp_frame *f, const struct dp_eth_outer *o, struct rte_mbuf *m)
{
	uint16_t total = IP4_LEN + UDP_LEN + DP_VXLAN_LEN + m->data_len;
	uint8_t tos = dp_ecn(f);
	uint8_t *out, *ip;

	if (unlikely(IP4_LEN + UDP_LEN + DP_VXLAN_LEN + (uint32_t)m->data_len > o->eth->mtu)) {
		dp_count(w, DP_DROP_UNDERLAY_MTU);
		rte_pktmbuf_free(m);
		return;
	}
	m->data_off -= DP_OUTER_LEN;
	m->data_len += DP_OUTER_LEN;
	m->pkt_len = m->data_len;
	out = rte_pktmbuf_mtod(m, uint8_t *);
	ip = out + DP_ETH_LEN;
	memcpy(out, o->bytes, DP_OUTER_LEN);
	ip[1] = tos;
	dp_store_be16(ip + 2, total);
	dp_store16(ip + 10, ~dp_csum_fold((uint64_t)o->sum + htons(total) + htons(tos)));
	dp_store_be16(ip + IP4_LEN, SOURCE_FIRST | (dp_flow_hash(f->data, &f->hdrs) & SOURCE_MASK));
	dp_store_be16(ip + IP4_LEN + 4, total - IP4_LEN);
	dp_store_be32(ip + IP4_LEN + UDP_LEN + 4, f->vni << 8);
	dp_eth_queue(w, o->eth, m);
}

static void
encapsulate_copy(struct dp_worker *w, const struct dp_frame *f, const void *outer, struct rte_mbuf *m)
{
	encapsulate(w, f, outer, m);
}

void
dp_eth_send(struct dp_worker *w, struct dp_frame *f, const struct dp_eth_outer *o)
{
	struct rte_mbuf *m;

	if (unlikely(!f->mbuf)) {
		dp_eth_copy(w, f, encapsulate_copy, o);
		return;
	}
	m = *f->mbuf;
	*f->mbuf = NULL;
	encapsulate(w, f, o, m);
}

/* True for UDP over IPv4 to our VXLAN port, in one piece, with nothing wrong; else it is dropped. udp is the UDP header's offset. */
static bool
outer_ok(struct dp_worker *w, const struct dp_eth *eth, const uint8_t *d, uint32_t len, uint32_t *udp)
{
	const uint8_t *ip = d + DP_ETH_LEN;
	uint32_t hdr, total, udp_len;

	if (len < DP_ETH_LEN + IP4_LEN) {
		dp_count(w, len < DP_ETH_LEN || dp_load16(d + 12) == htons(ETHERTYPE_IP) ? DP_DROP_UNDERLAY_MALFORMED : DP_DROP_UNDERLAY_FOREIGN);
		return false;
	}
	if (memcmp(d, eth->mac, 6) || dp_load16(d + 12) != htons(ETHERTYPE_IP)) {
		dp_count(w, DP_DROP_UNDERLAY_FOREIGN);
		return false;
	}
	hdr = (ip[0] & 15) * 4;
	total = dp_load_be16(ip + 2);
	if (ip[0] >> 4 != 4 || hdr < IP4_LEN || total < hdr || total > len - DP_ETH_LEN) {
		dp_count(w, DP_DROP_UNDERLAY_MALFORMED);
		return false;
	}
	if (dp_csum_fold(dp_csum_add(ip, hdr, 0)) != 0xffff) {
		dp_count(w, DP_DROP_UNDERLAY_CHECKSUM);
		return false;
	}
	if (ip[9] != IPPROTO_UDP || memcmp(ip + 16, dp.config.vtep.b + 12, 4) || !dp_addr_is4(&dp.config.vtep)) {
		dp_count(w, DP_DROP_UNDERLAY_FOREIGN);
		return false;
	}
	if (dp_load_be16(ip + 6) & 0x3fff) {
		dp_count(w, DP_DROP_UNDERLAY_FRAGMENT);
		return false;
	}
	if (total < hdr + UDP_LEN) {
		dp_count(w, DP_DROP_UNDERLAY_MALFORMED);
		return false;
	}
	if (dp_load_be16(ip + hdr + 2) != dp.config.port) {
		dp_count(w, DP_DROP_UNDERLAY_FOREIGN);
		return false;
	}
	udp_len = dp_load_be16(ip + hdr + 4);
	if (udp_len < UDP_LEN || udp_len > total - hdr) {
		dp_count(w, DP_DROP_UNDERLAY_MALFORMED);
		return false;
	}
	if (dp_load16(ip + hdr + 6) && dp_csum_fold(dp_csum_add(ip + hdr, udp_len, dp_csum_pseudo4(ip, IPPROTO_UDP, udp_len))) != 0xffff) {
		dp_count(w, DP_DROP_UNDERLAY_CHECKSUM);
		return false;
	}
	*udp = DP_ETH_LEN + hdr;
	return true;
}

void
dp_underlay_eth_take(struct dp_worker *w, struct dp_eth *eth, struct rte_mbuf **mbufs, unsigned n)
{
	struct dp_packet packets[DP_BURST];
	const struct dp_vtep *from = NULL;
	uint32_t last = 0;
	unsigned kept = 0;

	w->underlay.rx_packets += n;
	for (unsigned i = 0; i < n; i++)
		rte_prefetch0(rte_pktmbuf_mtod(mbufs[i], void *));
	for (unsigned i = 0; i < n; i++) {
		uint8_t *d = rte_pktmbuf_mtod(mbufs[i], uint8_t *);
		uint32_t udp, source;

		if (unlikely(mbufs[i]->nb_segs > 1)) {
			dp_count(w, DP_DROP_OVERSIZE);
			continue;
		}
		if (!outer_ok(w, eth, d, mbufs[i]->data_len, &udp))
			continue;
		source = dp_load32(d + DP_ETH_LEN + 12);
		if (!from || source != last) {
			struct dp_addr addr = dp_addr4(d + DP_ETH_LEN + 12);

			from = dp_vtep_lookup(&addr);
			last = source;
		}
		if (!from) {
			dp_count(w, DP_DROP_VTEP_UNKNOWN);
			continue;
		}
		packets[kept] = (struct dp_packet){
			.data = d + udp + UDP_LEN,
			.len = dp_load_be16(d + udp + 4) - UDP_LEN,
			.tos = d[DP_ETH_LEN + 1],
			.from = from,
			.mbuf = &mbufs[i],
		};
		w->underlay.rx_bytes += packets[kept++].len;
	}
	dp_decap(w, packets, kept);
	dp_decap_flush(w);
}

static struct dp_eth_outer *
outer_new(const struct dp_vtep *vtep, struct dp_eth *eth, const uint8_t mac[6])
{
	struct dp_eth_outer *o = aligned_alloc(RTE_CACHE_LINE_SIZE, sizeof(*o));
	uint8_t *ip;

	if (!o)
		return NULL;
	memset(o, 0, sizeof(*o));
	o->eth = eth;
	memcpy(o->bytes, mac, 6);
	memcpy(o->bytes + 6, eth->mac, 6);
	dp_store_be16(o->bytes + 12, ETHERTYPE_IP);
	ip = o->bytes + DP_ETH_LEN;
	ip[0] = 0x45;
	dp_store_be16(ip + 6, IP_DF);
	ip[8] = TTL;
	ip[9] = IPPROTO_UDP;
	memcpy(ip + 12, dp.config.vtep.b + 12, 4);
	memcpy(ip + 16, vtep->addr.b + 12, 4);
	o->sum = dp_csum_fold(dp_csum_add(ip, IP4_LEN, 0));
	dp_store16(ip + IP4_LEN + 2, ((const struct sockaddr_in *)&vtep->to)->sin_port);
	ip[IP4_LEN + UDP_LEN] = 0x08; /* the I flag */
	return o;
}

int
dp_vtep_next_hop(uint32_t id, uint32_t device, const uint8_t mac[6])
{
	struct dp_vtep *vtep = id < DP_MAX_VTEPS ? dp_vtep_get(id) : NULL;
	struct dp_eth *eth = dp_eth_get(device);
	struct dp_eth_outer *new, *old;

	if (!vtep || !eth)
		return -ENOENT;
	if (!dp_addr_is4(&vtep->addr) || !dp_addr_is4(&dp.config.vtep))
		return -EAFNOSUPPORT;
	new = outer_new(vtep, eth, mac);
	if (!new)
		return -ENOMEM;
	eth->users++;
	old = atomic_exchange_explicit(&vtep->outer, new, memory_order_acq_rel);
	dp_synchronize();
	dp_eth_outer_free(old);
	return 0;
}

void
dp_eth_outer_free(struct dp_eth_outer *o)
{
	if (!o)
		return;
	o->eth->users--;
	free(o);
}
