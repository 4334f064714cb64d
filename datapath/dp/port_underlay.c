// SPDX-License-Identifier: Apache-2.0
/*
 * The underlay on an ethdev: outer headers are put in front of frames here, and looked at on packets (RFC 7348 section 5).
 */
#include <rte_prefetch.h>

#include "pure_csum.h"
#include "port_outer.h"
#include "port.h"
#include "port_esp.h"

/* Dynamic ports: RFC 7348 section 5, RFC 6335 section 6. */
#define SOURCE_FIRST 0xc000
#define SOURCE_MASK 0x3fff

/* A copy of the template in front of the mbuf's frame. hdr_len is the template's. */
static inline uint8_t *
put_template(const struct dp_eth_outer *o, uint32_t hdr_len, struct rte_mbuf *m)
{
	uint8_t *out;

	m->data_off -= hdr_len;
	m->data_len += hdr_len;
	m->pkt_len += hdr_len;
	out = rte_pktmbuf_mtod(m, uint8_t *);
	memcpy(out, o->bytes, hdr_len);
	return out;
}

/* False, and it was dropped, when the packet is longer than the device carries. */
static inline bool
fits(struct dp_worker *w, const struct dp_eth_outer *o, uint32_t hdr_len, struct rte_mbuf *m)
{
	if (likely(hdr_len - DP_ETH_LEN + m->data_len <= o->eth->mtu))
		return true;
	dp_count(w, DP_DROP_UNDERLAY_MTU);
	rte_pktmbuf_free(m);
	return false;
}

/* What the outer headers have of the frame: read before it is encrypted. */
struct fields {
	uint32_t vxlan_len; /* 0: the packet has its VXLAN header already, encrypted */
	uint32_t vni;
	uint16_t source; /* port, in network order */
	uint8_t tos;
};

static inline struct fields
fields_of(const struct dp_frame *f)
{
	return (struct fields){
		.vxlan_len = DP_VXLAN_LEN,
		.vni = f->vni,
		.source = htons(SOURCE_FIRST | (dp_flow_hash_fast(f->data, &f->hdrs) & SOURCE_MASK)),
		.tos = dp_ecn(f),
	};
}

/* So many packets, as UDP payload, on their way. */
static inline void
count_sent(struct dp_worker *w, struct dp_vtep *to, uint32_t packets, uint32_t bytes)
{
	struct dp_traffic *traffic = &to->worker[w->id].traffic;

	traffic->tx_packets += packets;
	traffic->tx_bytes += bytes;
}

static inline void
put_udp(dp_udp_hdr *udp, const struct fields *f, uint16_t len)
{
	dp_vxlan_hdr *vxlan = (void *)(udp + 1);

	udp->src_port = f->source;
	udp->dgram_len = htons(len);
	if (f->vxlan_len)
		vxlan->vx_vni = htonl(f->vni << 8);
}

static inline void
encapsulate4(struct dp_worker *w, const struct fields *f, const struct dp_eth_outer *o, struct rte_mbuf *m)
{
	const uint32_t hdr_len = DP_OUTER4_LEN - DP_VXLAN_LEN + f->vxlan_len;
	uint16_t total = hdr_len - DP_ETH_LEN + m->data_len;
	uint32_t sum = o->sum + htons(total) + htons(f->tos);
	dp_ipv4_hdr *ip;

	if (unlikely(!fits(w, o, hdr_len, m)))
		return;
	ip = (void *)(put_template(o, hdr_len, m) + DP_ETH_LEN);
	ip->type_of_service = f->tos;
	ip->total_length = htons(total);
	sum = (sum & 0xffff) + (sum >> 16);
	ip->hdr_checksum = ~(sum + (sum >> 16));
	put_udp((void *)(ip + 1), f, total - sizeof(*ip));
	dp_eth_queue(w, o->eth, NULL, m);
}

static void
encapsulate6(struct dp_worker *w, const struct fields *f, const struct dp_eth_outer *o, struct rte_mbuf *m)
{
	const uint32_t hdr_len = DP_OUTER6_LEN - DP_VXLAN_LEN + f->vxlan_len;
	uint16_t len = hdr_len - DP_ETH_LEN - sizeof(dp_ipv6_hdr) + m->data_len, sum;
	dp_ipv6_hdr *ip;
	dp_udp_hdr *udp;

	if (!fits(w, o, hdr_len, m))
		return;
	ip = (void *)(put_template(o, hdr_len, m) + DP_ETH_LEN);
	udp = (void *)(ip + 1);
	ip->vtc_flow = htonl(DP_IPV6_VERSION | (uint32_t)f->tos << RTE_IPV6_HDR_TC_SHIFT);
	ip->payload_len = htons(len);
	put_udp(udp, f, len);
	sum = ~dp_csum_fold(dp_csum_add(udp, len, (uint64_t)o->sum + htons(len)));
	udp->dgram_cksum = sum ? sum : 0xffff;
	dp_eth_queue(w, o->eth, NULL, m);
}

static inline void
encapsulate(struct dp_worker *w, const struct fields *f, const struct dp_eth_outer *o, struct rte_mbuf *m)
{
	if (likely(o->is4))
		encapsulate4(w, f, o, m);
	else
		encapsulate6(w, f, o, m);
}

static inline void
encapsulate_frame(struct dp_worker *w, const struct dp_frame *f, const struct dp_eth_outer *o, struct rte_mbuf *m)
{
	struct fields fields = fields_of(f);

	encapsulate(w, &fields, o, m);
}

_Static_assert(DP_OUTER6_LEN - DP_VXLAN_LEN + DP_ESP_FRONT <= RTE_PKTMBUF_HEADROOM, "what goes in front of a frame has room");

static void
encapsulate_sealed(struct dp_worker *w, const struct dp_frame *f, void *outer, struct rte_mbuf *m)
{
	const struct dp_eth_outer *o = outer;
	const uint32_t len = m->data_len;
	struct fields fields = fields_of(f);
	struct dp_esp_run esp;

	if (!dp_esp_begin(w, f, o->to, 1, &esp)) {
		rte_pktmbuf_free(m);
		return;
	}
	if (!rte_pktmbuf_append(m, dp_esp_len(len) - DP_ESP_FRONT - len)) {
		dp_count(w, DP_DROP_OVERSIZE);
		rte_pktmbuf_free(m);
		return;
	}
	dp_esp_seal(&esp, f->vni, (uint8_t *)rte_pktmbuf_prepend(m, DP_ESP_FRONT), len);
	fields.vxlan_len = 0;
	count_sent(w, o->to, 1, m->data_len);
	encapsulate(w, &fields, o, m);
}

/* The device has no use for a length that counts all of a super-frame, nor a sum with it: it writes both into each packet. */
static void
encapsulate_offloaded(struct dp_worker *w, const struct dp_frame *f, const struct dp_eth_outer *o, struct rte_mbuf *m)
{
	bool cut = m->ol_flags & RTE_MBUF_F_TX_TCP_SEG;
	struct fields fields = fields_of(f);
	uint16_t udp_len = m->pkt_len + sizeof(dp_udp_hdr) + DP_VXLAN_LEN;
	uint8_t *ip = put_template(o, o->is4 ? DP_OUTER4_LEN : DP_OUTER6_LEN, m) + DP_ETH_LEN;
	dp_udp_hdr *udp;

	if (o->is4) {
		dp_ipv4_hdr *ip4 = (void *)ip;

		ip4->type_of_service = fields.tos;
		ip4->total_length = htons(sizeof(*ip4) + udp_len);
		udp = (void *)(ip4 + 1);
	} else {
		dp_ipv6_hdr *ip6 = (void *)ip;

		ip6->vtc_flow = htonl(DP_IPV6_VERSION | (uint32_t)fields.tos << RTE_IPV6_HDR_TC_SHIFT);
		ip6->payload_len = htons(udp_len);
		udp = (void *)(ip6 + 1);
		udp->dgram_cksum = dp_csum_fold((uint64_t)o->sum + (cut ? 0 : htons(udp_len)));
	}
	put_udp(udp, &fields, udp_len);
	dp_eth_offload_outer(m, o->is4);
	dp_eth_queue(w, o->eth, NULL, m);
}

static void
encapsulate_copy(struct dp_worker *w, const struct dp_frame *f, void *outer, struct rte_mbuf *m)
{
	const struct dp_eth_outer *o = outer;

	count_sent(w, o->to, 1, DP_VXLAN_LEN + m->data_len);
	encapsulate_frame(w, f, o, m);
}

static void
send_copy(struct dp_worker *w, struct dp_frame *f, struct dp_eth_outer *o)
{
	struct rte_mbuf *m;

	if (!dp_eth_offload_takes(o, f)) {
		dp_eth_copy(w, f, false, encapsulate_copy, o);
		return;
	}
	m = dp_eth_offload_copy(w, f);
	if (!m)
		return;
	count_sent(w, o->to, 1, DP_VXLAN_LEN + m->pkt_len);
	encapsulate_offloaded(w, f, o, m);
}

void
dp_eth_send(struct dp_worker *w, struct dp_frame **frames, unsigned n, struct dp_eth_outer *o)
{
	uint32_t packets = 0, bytes = 0;

	for (unsigned i = 0; i < n; i++) {
		struct dp_frame *f = frames[i];
		struct rte_mbuf *m;

		if (unlikely(!f->mbuf)) {
			send_copy(w, f, o);
			continue;
		}
		m = *f->mbuf;
		*f->mbuf = NULL;
		packets++;
		bytes += DP_VXLAN_LEN + m->data_len;
		encapsulate_frame(w, f, o, m);
	}
	count_sent(w, o->to, packets, bytes);
}

void
dp_eth_send_sealed(struct dp_worker *w, struct dp_frame **frames, unsigned n, struct dp_eth_outer *o)
{
	for (unsigned i = 0; i < n; i++) {
		struct dp_frame *f = frames[i];
		struct rte_mbuf *m;

		if (!f->mbuf || rte_pktmbuf_tailroom(*f->mbuf) < DP_ESP_BEHIND) {
			dp_eth_copy(w, f, atomic_load_explicit(&o->to->takes_partial, memory_order_relaxed), encapsulate_sealed, o);
			continue;
		}
		m = *f->mbuf;
		*f->mbuf = NULL;
		encapsulate_sealed(w, f, o, m);
	}
}

static void
capture_stranger(struct dp_worker *w, const struct rte_mbuf *m, const struct dp_packet *p)
{
	const dp_ether_hdr *eth = rte_pktmbuf_mtod(m, const void *);
	const dp_ipv4_hdr *ip4 = (const void *)(eth + 1);
	const dp_ipv6_hdr *ip6 = (const void *)(eth + 1);
	const struct dp_addr addr = eth->ether_type == htons(ETH_P_IP) ? dp_addr4(&ip4->src_addr) : dp_addr6(&ip6->src_addr);

	dp_capture_payload(w, DP_DROP_VTEP_UNKNOWN, &addr, p->data, p->len);
}

/* A packet that is not taken is dropped, or the kernel's: it puts fragments together, and gives VXLAN in them to our sockets. */
static void
reject(struct dp_worker *w, struct dp_eth *eth, struct rte_mbuf *m, const struct dp_packet *p, enum dp_drop drop)
{
	struct dp_port *host = atomic_load_explicit(&eth->host, memory_order_acquire);

	if (host && (drop == DP_DROP_UNDERLAY_FOREIGN || drop == DP_DROP_UNDERLAY_FRAGMENT)) {
		dp_host_give(w, host, rte_pktmbuf_mtod(m, uint8_t *), m->data_len);
		return;
	}
	dp_count(w, drop);
	if (unlikely(w->capturing && drop == DP_DROP_VTEP_UNKNOWN))
		capture_stranger(w, m, p);
}

/* Packets that follow each other come from the same VTEP more often than not. */
static inline void
count_received(struct dp_worker *w, const struct dp_packet *packets, unsigned n)
{
	for (unsigned i = 0, first = 0; i < n; first = i) {
		struct dp_traffic *from = &packets[i].from->worker[w->id].traffic;
		uint64_t bytes = 0;

		for (; i < n && packets[i].from == packets[first].from; i++)
			bytes += packets[i].len;
		from->rx_packets += i - first;
		from->rx_bytes += bytes;
	}
}

unsigned
dp_underlay_read(struct dp_worker *w, struct dp_eth *eth, struct rte_mbuf **mbufs, unsigned n, struct dp_packet *packets)
{
	struct dp_outer outer;
	unsigned kept = 0;
	uint64_t bytes = 0;

	dp_outer_begin(&outer, eth);
	for (unsigned i = 0; i < n; i++)
		rte_prefetch0(rte_pktmbuf_mtod(mbufs[i], void *));
	for (unsigned i = 0; i < n; i++) {
		struct dp_packet *p = &packets[kept];
		enum dp_drop drop = likely(dp_outer_plain(&outer, &mbufs[i], p)) ? DP_DROP_COUNT : dp_outer_parse(&outer, &mbufs[i], p);

		if (unlikely(drop != DP_DROP_COUNT)) {
			reject(w, eth, mbufs[i], p, drop);
			continue;
		}
		bytes += p->len;
		kept++;
	}
	count_received(w, packets, kept);
	w->underlay.rx_packets += kept;
	w->underlay.rx_bytes += bytes;
	return kept;
}
