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
#define IP_FRAGMENT 0x3fff /* more fragments, or an offset */
#define TTL 64
/* Dynamic ports: RFC 7348 section 5, RFC 6335 section 6. */
#define SOURCE_FIRST 0xc000
#define SOURCE_MASK 0x3fff

static inline void
encapsulate(struct dp_worker *w, const struct dp_frame *f, const struct dp_eth_outer *o, struct rte_mbuf *m)
{
	uint16_t total = IP4_LEN + UDP_LEN + DP_VXLAN_LEN + m->data_len;
	uint8_t tos = dp_ecn(f);
	uint8_t *out, *ip;
	uint32_t sum;

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
	sum = o->sum + htons(total) + htons(tos);
	sum = (sum & 0xffff) + (sum >> 16);
	dp_store16(ip + 10, ~(sum + (sum >> 16)));
	dp_store_be16(ip + IP4_LEN, SOURCE_FIRST | (dp_flow_hash_fast(f->data, &f->hdrs) & SOURCE_MASK));
	dp_store_be16(ip + IP4_LEN + 4, total - IP4_LEN);
	dp_store_be32(ip + IP4_LEN + UDP_LEN + 4, f->vni << 8);
	dp_eth_queue(w, o->eth, NULL, m);
}

static void
encapsulate_copy(struct dp_worker *w, const struct dp_frame *f, void *outer, struct rte_mbuf *m)
{
	encapsulate(w, f, outer, m);
}

void
dp_eth_send(struct dp_worker *w, struct dp_frame *f, struct dp_eth_outer *o)
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

/* The folded sum of an IPv4 header, nearly always one without options. */
static inline uint16_t
header_sum(const uint8_t *ip, uint32_t len)
{
	if (unlikely(len != IP4_LEN))
		return dp_csum_fold(dp_csum_add(ip, len, 0));
	return dp_csum_fold((uint64_t)dp_load32(ip) + dp_load32(ip + 4) + dp_load32(ip + 8) + dp_load32(ip + 12) + dp_load32(ip + 16));
}

/* Why a packet with these bytes is not taken; DP_DROP_COUNT: it is UDP over IPv4 to our VXLAN port, and nothing is wrong. */
static enum dp_drop
outer_drop(const struct dp_eth *eth, const uint8_t *d, uint32_t len)
{
	const uint8_t *ip = d + DP_ETH_LEN, *udp;
	uint32_t hdr, total, udp_len;

	if (len < DP_ETH_LEN)
		return DP_DROP_UNDERLAY_MALFORMED;
	if (memcmp(d, eth->mac, 6) || dp_load16(d + 12) != htons(ETHERTYPE_IP))
		return DP_DROP_UNDERLAY_FOREIGN;
	if (len < DP_ETH_LEN + IP4_LEN)
		return DP_DROP_UNDERLAY_MALFORMED;
	hdr = (ip[0] & 15) * 4;
	total = dp_load_be16(ip + 2);
	if (ip[0] >> 4 != 4 || hdr < IP4_LEN || total < hdr || total > len - DP_ETH_LEN)
		return DP_DROP_UNDERLAY_MALFORMED;
	if (header_sum(ip, hdr) != 0xffff)
		return DP_DROP_UNDERLAY_CHECKSUM;
	if (ip[9] != IPPROTO_UDP || dp_load32(ip + 16) != dp_load32(dp.config.vtep.b + 12))
		return DP_DROP_UNDERLAY_FOREIGN;
	if (dp_load16(ip + 6) & htons(IP_FRAGMENT))
		return DP_DROP_UNDERLAY_FRAGMENT;
	if (total < hdr + UDP_LEN)
		return DP_DROP_UNDERLAY_MALFORMED;
	udp = ip + hdr;
	if (dp_load_be16(udp + 2) != dp.config.port)
		return DP_DROP_UNDERLAY_FOREIGN;
	udp_len = dp_load_be16(udp + 4);
	if (udp_len < UDP_LEN || udp_len > total - hdr)
		return DP_DROP_UNDERLAY_MALFORMED;
	if (dp_load16(udp + 6) && dp_csum_fold(dp_csum_add(udp, udp_len, dp_csum_pseudo4(ip, IPPROTO_UDP, udp_len))) != 0xffff)
		return DP_DROP_UNDERLAY_CHECKSUM;
	return DP_DROP_COUNT;
}

/* Packets that follow each other come from the same VTEP more often than not. */
struct sender {
	uint32_t addr;
	const struct dp_vtep *vtep;
};

static inline const struct dp_vtep *
sender_of(struct sender *last, const uint8_t *ip4)
{
	uint32_t addr = dp_load32(ip4);

	if (unlikely(!last->vtep || addr != last->addr)) {
		struct dp_addr full = dp_addr4(ip4);

		*last = (struct sender){ addr, dp_vtep_lookup(&full) };
	}
	return last->vtep;
}

/* Takes the outer headers off; false when the packet was dropped. */
static inline bool
open_outer(struct dp_worker *w, const struct dp_eth *eth, struct rte_mbuf **m, struct sender *last, struct dp_packet *p)
{
	uint8_t *d = rte_pktmbuf_mtod(*m, uint8_t *), *ip = d + DP_ETH_LEN, *udp;
	enum dp_drop drop = (*m)->nb_segs > 1 ? DP_DROP_OVERSIZE : outer_drop(eth, d, (*m)->data_len);

	if (unlikely(drop != DP_DROP_COUNT)) {
		dp_count(w, drop);
		return false;
	}
	p->from = sender_of(last, ip + 12);
	if (unlikely(!p->from)) {
		dp_count(w, DP_DROP_VTEP_UNKNOWN);
		return false;
	}
	udp = ip + (ip[0] & 15) * 4;
	p->data = udp + UDP_LEN;
	p->len = dp_load_be16(udp + 4) - UDP_LEN;
	p->tos = ip[1];
	p->mbuf = m;
	return true;
}

void
dp_underlay_eth_take(struct dp_worker *w, struct dp_eth *eth, struct rte_mbuf **mbufs, unsigned n)
{
	struct dp_packet packets[DP_BURST];
	struct sender last = { 0 };
	unsigned kept = 0;
	uint64_t bytes = 0;

	for (unsigned i = 0; i < n; i++)
		rte_prefetch0(rte_pktmbuf_mtod(mbufs[i], void *));
	for (unsigned i = 0; i < n; i++)
		if (open_outer(w, eth, &mbufs[i], &last, &packets[kept]))
			bytes += packets[kept++].len;
	w->underlay.rx_packets += n;
	w->underlay.rx_bytes += bytes;
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
	if (atomic_load(&eth->port))
		return -EBUSY;
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
