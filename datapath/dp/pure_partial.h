/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_PARTIAL_H
#define DP_PARTIAL_H

/*
 * A Linux VTEP leaves checksums, and the cutting of super-frames, to its card. Where there is none, as on a veth or between
 * virtual machines of one host, frames arrive as they left its kernel: the checksum field holds the pseudo header's sum
 * (CHECKSUM_PARTIAL, include/linux/skbuff.h). A right checksum has that value once in 65536 frames: completed it stays the
 * same. So such a field is never taken for a wrong checksum, and nothing but such a field for one that is yet to be computed.
 */
#include <linux/virtio_net.h>

#include "pure_compat.h"
#include "pure_csum.h"
#include "pure_parse.h"

/* Smallest gso_size: TCP's options leave 8 bytes of the smallest segment. */
#define DP_PARTIAL_GSO_MIN 8

/* Sum of the pseudo header of a TCP or UDP packet whose header and payload have so many bytes. */
static inline uint64_t
dp_pseudo_sum(const uint8_t *frame, const struct dp_hdrs *h, uint32_t l4_len)
{
	const void *ip = frame + h->l3;

	return h->version == 4 ? dp_csum_pseudo4(ip, h->proto, l4_len) : dp_csum_pseudo6(ip, h->proto, l4_len);
}

/* Where the checksum lies in a TCP or UDP header. */
static inline uint16_t
dp_csum_offset(const struct dp_hdrs *h)
{
	return h->proto == IPPROTO_TCP ? offsetof(struct rte_tcp_hdr, cksum) : offsetof(struct rte_udp_hdr, dgram_cksum);
}

/* Whether the frame's TCP or UDP checksum was never computed. */
static inline bool
dp_is_partial(const uint8_t *frame, const struct dp_hdrs *h)
{
	const dp_udp_hdr *udp = (const void *)(frame + h->l4);
	uint32_t l4_len = h->end - h->l4;
	uint16_t field;

	if (!h->transport || h->routing)
		return false;
	field = dp_load16(frame + h->l4 + dp_csum_offset(h));
	if (!field || field != dp_csum_fold(dp_pseudo_sum(frame, h, l4_len)))
		return false;
	return h->proto == IPPROTO_TCP || ntohs(udp->dgram_len) == l4_len;
}

static inline uint8_t
dp_gso_type(const uint8_t *frame, const struct dp_hdrs *h)
{
	const dp_tcp_hdr *tcp = (const void *)(frame + h->l4);

	if (h->proto == IPPROTO_UDP)
		return VIRTIO_NET_HDR_GSO_UDP_L4;
	return (h->version == 4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6) | (tcp->tcp_flags & RTE_TCP_CWR_FLAG ? VIRTIO_NET_HDR_GSO_ECN : 0);
}

/* The virtio-net header of a frame whose checksum is yet to be computed; gso_size is 0 unless it is a super-frame. */
static inline struct virtio_net_hdr
dp_partial_vnet(const uint8_t *frame, const struct dp_hdrs *h, uint16_t gso_size)
{
	return (struct virtio_net_hdr){
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = gso_size ? dp_gso_type(frame, h) : VIRTIO_NET_HDR_GSO_NONE,
		.hdr_len = gso_size ? h->payload : 0,
		.gso_size = gso_size,
		.csum_start = h->l4,
		.csum_offset = dp_csum_offset(h),
	};
}

#endif
