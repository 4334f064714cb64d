/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_GSO_H
#define DP_GSO_H

/*
 * Segmentation of the super-frames that a container's kernel hands over (TCP and UDP, IPv4 and IPv6). A plan is made
 * once a frame and keeps the headers that all segments share with their sums, so that a segment costs a copy of the
 * headers and the sum of its payload. The payload is never copied.
 */
#include <linux/virtio_net.h>
#include <stdint.h>

#include "pure_compat.h"
#include "pure_parse.h"

/* Longest headers, Ethernet included, of which segments are made: IPv6 with TCP and all of its options are 114. */
#define DP_GSO_HDR_MAX 120
/* Most segments a frame is cut into: TCP's smallest, 8 bytes of payload, at full length. */
#define DP_GSO_SEGS_MAX 8192

struct dp_gso {
	uint16_t n_segs;
	uint16_t hdr_len;  /* of every segment, its Ethernet header included */
	uint16_t seg_size; /* payload of every segment but the last */
	const uint8_t *payload;
	uint32_t payload_len;
	/* private */
	uint64_t l3_sum, l4_sum; /* of what segments share, IPv4 header and pseudo-header with TCP or UDP header */
	uint64_t pseudo_sum;
	uint32_t seq;
	uint16_t l3, l4, ip_id;
	uint8_t version, proto, tcp_flags;
	uint8_t hdr[DP_GSO_HDR_MAX];
};

/*
 * How many segments a super-frame with its headers h and its virtio-net header, which is a container's word, is cut into. At least
 * 1, or -EINVAL when the virtio-net header does not fit the frame: no type or an unknown one, type of another protocol, fragment,
 * IPv6 routing header, gso_size 0, headers longer than DP_GSO_HDR_MAX, more segments than DP_GSO_SEGS_MAX.
 */
int dp_gso_segments(const uint8_t *frame, const struct dp_hdrs *h, const struct virtio_net_hdr *vnet);

/* Plans them, and returns what dp_gso_segments does. The plan points into the frame. */
int dp_gso_plan(struct dp_gso *gso, const uint8_t *frame, const struct dp_hdrs *h, const struct virtio_net_hdr *vnet);

/*
 * Segment i of the plan: writes gso->hdr_len bytes of headers, with right checksums, and points at the payload. As
 * Linux does (net/ipv4/tcp_offload.c tcp_gso_segment, net/ipv4/af_inet.c inet_gso_segment): the IPv4 id counts up with
 * DF or without, FIN and PSH are on the last segment alone, CWR on the first alone.
 */
void dp_gso_segment(const struct dp_gso *gso, unsigned i, uint8_t *hdr, const uint8_t **payload, uint32_t *payload_len);
/* The same with the pseudo header's sum in the checksum's place: see pure_partial.h. */
void dp_gso_segment_partial(const struct dp_gso *gso, unsigned i, uint8_t *hdr, const uint8_t **payload, uint32_t *payload_len);

#endif
