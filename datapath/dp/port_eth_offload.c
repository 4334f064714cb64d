// SPDX-License-Identifier: Apache-2.0
/*
 * What a device does of the work on VXLAN packets: checksums, and the cutting of TCP super-frames (rte_mbuf_core.h
 * RTE_MBUF_F_TX_TUNNEL_VXLAN, rte_ethdev.h). A driver that has a tunnel's outer IPv4 checksum among its offloads knows that a packet
 * has inner headers; one that has not takes the checksums for the outer ones.
 */
#include <rte_ethdev.h>

#include "port.h"
#include "pure_gso.h"
#include "pure_partial.h"

#define TX_CSUM (RTE_ETH_TX_OFFLOAD_OUTER_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM)
#define TSO (RTE_ETH_TX_OFFLOAD_TCP_TSO | RTE_ETH_TX_OFFLOAD_VXLAN_TNL_TSO | RTE_ETH_TX_OFFLOAD_MULTI_SEGS)
#define RX_CSUM (RTE_ETH_RX_OFFLOAD_OUTER_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_TCP_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM)

struct dp_eth_offloads
dp_eth_choose_offloads(const struct rte_eth_dev_info *info, struct rte_eth_conf *conf)
{
	struct dp_eth_offloads o = { .max_segs = info->tx_desc_lim.nb_seg_max ? info->tx_desc_lim.nb_seg_max : UINT16_MAX };
	uint64_t tx = info->tx_offload_capa, rx = info->rx_offload_capa;

	o.tx_csum = (tx & TX_CSUM) == TX_CSUM;
	o.tx_outer_udp = o.tx_csum && tx & RTE_ETH_TX_OFFLOAD_OUTER_UDP_CKSUM;
	o.tso = o.tx_csum && (tx & TSO) == TSO;
	o.rx_csum = (rx & RX_CSUM) == RX_CSUM;
	/* All that is sent comes from one pool and is held by nobody else; but only without super-frames is it in one piece. */
	if (!o.tso)
		conf->txmode.offloads |= tx & RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
	if (o.tx_csum)
		conf->txmode.offloads |= TX_CSUM;
	if (o.tx_outer_udp)
		conf->txmode.offloads |= RTE_ETH_TX_OFFLOAD_OUTER_UDP_CKSUM;
	if (o.tso)
		conf->txmode.offloads |= TSO;
	if (o.rx_csum)
		conf->rxmode.offloads |= RX_CSUM | (rx & RTE_ETH_RX_OFFLOAD_OUTER_UDP_CKSUM);
	return o;
}

/* Some drivers know it, or can't be told. */
void
dp_eth_offload_vxlan(uint16_t dev)
{
	struct rte_eth_udp_tunnel tunnel = { .udp_port = dp.config.port, .prot_type = RTE_ETH_TUNNEL_TYPE_VXLAN };

	rte_eth_dev_udp_tunnel_port_add(dev, &tunnel);
}

/* A virtio-net header is the container's word: what it says must be the TCP or UDP checksum, and nothing may lie behind it. */
static bool
wants_checksum(const struct dp_frame *f)
{
	const struct dp_hdrs *h = &f->hdrs;

	return f->vnet.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM && h->transport && !h->routing && h->end == f->len && f->vnet.csum_start == h->l4 &&
	       f->vnet.csum_offset == dp_csum_offset(h) && (h->version == 4 || h->l4 == h->l3 + sizeof(dp_ipv6_hdr));
}

/* Drivers refuse shorter segments: i40e and iavf have 256. */
#define TSO_SEGMENT_MIN 256

/* Cards differ in what they make of CWR. */
static bool
wants_segments(const struct dp_frame *f)
{
	const dp_tcp_hdr *tcp = (const void *)(f->data + f->hdrs.l4);

	return f->hdrs.proto == IPPROTO_TCP && f->vnet.gso_size >= TSO_SEGMENT_MIN && !(tcp->tcp_flags & RTE_TCP_CWR_FLAG) && dp_gso_segments(f->data, &f->hdrs, &f->vnet) > 1;
}

bool
dp_eth_offload_takes(const struct dp_eth_outer *outer, const struct dp_frame *f)
{
	const struct dp_eth_offloads *has = &outer->eth->offloads;
	uint32_t before = (outer->is4 ? DP_OUTER4_LEN : DP_OUTER6_LEN) - DP_ETH_LEN;
	uint32_t room = rte_pktmbuf_data_room_size(dp.eth_pool) - RTE_PKTMBUF_HEADROOM;

	if (!has->tx_csum || (!outer->is4 && !has->tx_outer_udp) || !wants_checksum(f))
		return false;
	if (f->vnet.gso_type == VIRTIO_NET_HDR_GSO_NONE)
		return f->len <= room && before + f->len <= outer->eth->mtu;
	return has->tso && wants_segments(f) && before + f->len <= UINT16_MAX && before + f->hdrs.payload + f->vnet.gso_size <= outer->eth->mtu &&
	       (f->len + room - 1) / room <= has->max_segs;
}

/* A device wants the pseudo header's sum in the checksum's place, of a super-frame without its length. */
static void
wish(const struct dp_frame *f, struct rte_mbuf *m)
{
	const struct dp_hdrs *h = &f->hdrs;
	uint8_t *frame = rte_pktmbuf_mtod(m, uint8_t *);
	bool cut = f->vnet.gso_type != VIRTIO_NET_HDR_GSO_NONE;

	dp_store16(frame + h->l4 + dp_csum_offset(h), dp_csum_fold(dp_pseudo_sum(frame, h, cut ? 0 : h->end - h->l4)));
	m->ol_flags = RTE_MBUF_F_TX_TUNNEL_VXLAN | (h->version == 4 ? RTE_MBUF_F_TX_IPV4 : RTE_MBUF_F_TX_IPV6) |
		      (h->proto == IPPROTO_TCP ? RTE_MBUF_F_TX_TCP_CKSUM : RTE_MBUF_F_TX_UDP_CKSUM);
	m->l2_len = sizeof(dp_udp_hdr) + DP_VXLAN_LEN + h->l3;
	m->l3_len = h->l4 - h->l3;
	m->l4_len = h->payload - h->l4;
	if (!cut)
		return;
	m->ol_flags |= RTE_MBUF_F_TX_TCP_SEG;
	m->tso_segsz = f->vnet.gso_size;
	if (h->version == 4) {
		m->ol_flags |= RTE_MBUF_F_TX_IP_CKSUM;
		((dp_ipv4_hdr *)(frame + h->l3))->hdr_checksum = 0;
	}
}

struct rte_mbuf *
dp_eth_offload_copy(struct dp_worker *w, const struct dp_frame *f)
{
	uint32_t done = 0;
	struct rte_mbuf *first = NULL, **next = &first, *m;

	do {
		m = *next = rte_pktmbuf_alloc(dp.eth_pool);
		if (!m) {
			dp_count(w, DP_DROP_NO_MBUF);
			rte_pktmbuf_free(first);
			return NULL;
		}
		m->data_len = RTE_MIN(f->len - done, (uint32_t)rte_pktmbuf_tailroom(m));
		memcpy(rte_pktmbuf_mtod(m, uint8_t *), f->data + done, m->data_len);
		done += m->data_len;
		first->nb_segs += m != first;
		next = &m->next;
	} while (done < f->len);
	first->pkt_len = f->len;
	wish(f, first);
	return first;
}

void
dp_eth_offload_outer(struct rte_mbuf *m, bool is4)
{
	m->ol_flags |= is4 ? RTE_MBUF_F_TX_OUTER_IPV4 | RTE_MBUF_F_TX_OUTER_IP_CKSUM : RTE_MBUF_F_TX_OUTER_IPV6 | RTE_MBUF_F_TX_OUTER_UDP_CKSUM;
	m->outer_l2_len = DP_ETH_LEN;
	m->outer_l3_len = is4 ? sizeof(dp_ipv4_hdr) : sizeof(dp_ipv6_hdr);
}
