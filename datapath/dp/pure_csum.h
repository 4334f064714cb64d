/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_CSUM_H
#define DP_CSUM_H

/*
 * Internet checksum (RFC 1071), in the machine's own byte order: the ones'-complement sum of swapped bytes is the
 * swapped sum, so bytes are loaded and stored as they lie in memory, and only numbers go through htons.
 */
#include <stddef.h>

#include "pure_bytes.h"
#include "pure_hdr.h"

/* Adds v, 16-bit words as they lie in memory, to a sum. */
static inline uint64_t
dp_csum_more(uint64_t sum, uint64_t v)
{
	sum += v;
	return sum + (sum < v);
}

/* Adds len bytes to a sum. They must start at an even offset of what is summed as a whole. */
uint64_t dp_csum_add(const void *data, size_t len, uint64_t sum);

/*
 * Brings a sum down to 16 bits, NOT complemented. A range that includes its right checksum folds to 0xffff; the
 * checksum of a range summed without it is the complement; the fold of a pseudo-header's sum is, as it is, the partial
 * checksum that VIRTIO_NET_HDR_F_NEEDS_CSUM wants in the field.
 */
static inline uint16_t
dp_csum_fold(uint64_t sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

/*
 * Sums of the pseudo-header of a TCP or UDP packet (RFC 9293 section 3.1, RFC 8200 section 8.1). len is the
 * length of the TCP or UDP header and its payload, at most 65535.
 */
static inline uint64_t
dp_csum_pseudo4(const dp_ipv4_hdr *ip, uint8_t proto, uint32_t len)
{
	return (uint64_t)ip->src_addr + ip->dst_addr + htons(proto) + htons((uint16_t)len);
}

static inline uint64_t
dp_csum_pseudo6(const dp_ipv6_hdr *ip, uint8_t proto, uint32_t len)
{
	uint64_t sum = (uint64_t)htons(proto) + htons((uint16_t)len);

	for (int i = 0; i < 16; i += 4)
		sum += (uint64_t)dp_load32((const uint8_t *)&ip->src_addr + i) + dp_load32((const uint8_t *)&ip->dst_addr + i);
	return sum;
}

/*
 * Finishes a frame with VIRTIO_NET_HDR_F_NEEDS_CSUM: sums frame[start, len), where the field at start + offset holds
 * the pseudo-header's sum, and writes the checksum there. In UDP's field 0 is written as 0xffff, since 0 means "none";
 * in TCP's it stays, as a receiver that computes it anew wants it. Returns -1, nothing written, when the field lies outside of the frame or in its Ethernet header.
 * start and offset are a container's word, and the field may lie on an IP address: it is for the caller to refuse that.
 */
int dp_csum_complete(uint8_t *frame, uint32_t len, uint16_t start, uint16_t offset);

#endif
