/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_GRO_H
#define DP_GRO_H

/*
 * Merging of the segments that arrive from the underlay into units of which each is one write to a container's tap.
 * What Linux merges, and no more (net/ipv4/tcp_offload.c tcp_gro_receive, udp_offload.c udp_gro_receive_segment,
 * include/net/gro.h gro_receive_network_flush, net/ipv4/af_inet.c inet_gro_receive, net/ipv6/ip6_offload.c
 * ipv6_gro_receive): same flow, next sequence number, everything else equal; a shorter segment, FIN or PSH is the
 * last. Both checksums of every merged segment are verified, but for one that was never computed: see pure_partial.h. A unit
 * of one frame goes out as it came, unverified and not vouched for: the container's kernel verifies, drops and counts.
 *
 * What Linux merges and here stays apart: packets with IPv6 extension headers; with CWR, of which the virtio-net header
 * can't say whether it is RFC 3168's, of the first segment alone, or AccECN's counter (RFC 9768); with other urgent
 * pointers; with a constant IPv4 id and without DF (since Linux 6.18); and those around one that stays apart.
 */
#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "pure_compat.h"
#include "pure_parse.h"

#define DP_GRO_UNITS 256 /* a dp_gro holds */
#define DP_GRO_SEGS 64   /* a unit holds: as many as a UDP_GRO datagram brings */
#define DP_GRO_SLOTS 512

/* A finished unit is written by writev(iov, n_iov). */
struct dp_gro_unit {
	void *cookie;
	uint32_t len;    /* of the frame in iov[1] and following, without the virtio-net header in iov[0] */
	uint16_t n_segs; /* frames in it */
	uint16_t n_iov;
	struct virtio_net_hdr vnet;
	/* private */
	bool verified, fixed_id;
	uint8_t tcp_flags; /* FIN and PSH of the last segment */
	uint16_t seg_size; /* payload of the first segment */
	uint16_t gso_size; /* of a super-frame that came whole */
	uint32_t ip_len;   /* of the merged packet */
	uint32_t next_seq;
	struct dp_hdrs hdrs; /* of the first frame */
	struct iovec iov[1 + DP_GRO_SEGS];
};

/* Units in the order in which their first frames came. About 300 KiB: not for the stack. */
struct dp_gro {
	bool udp; /* merge UDP too: the kernel takes VIRTIO_NET_HDR_GSO_UDP_L4 (TUN_F_USO4, TUN_F_USO6). Set by the caller */
	unsigned n_units;
	struct dp_gro_unit units[DP_GRO_UNITS];
	/* private */
	uint16_t slots[DP_GRO_SLOTS]; /* by hash of flow: number of its open unit, from 1; 0: none */
	uint16_t *last;               /* slot of the last frame: the next is often of the same flow */
};

/* Empties it, before first use and after the units were written. */
void dp_gro_reset(struct dp_gro *gro);

/*
 * Adds a frame with its headers h, as dp_parse found them, to a unit of its flow and cookie (the port it goes to), or
 * to a new one. False when the units are used up: nothing was added, write and reset first. The frame stays where it is
 * until its unit is written, and belongs to one unit alone, since finishing patches the headers of a first frame.
 * Frames of a flow never change their order. gso_size is that of a super-frame that came whole, which stays a unit of its
 * own; 0: it is none. checked: its TCP or UDP checksum has been found right.
 */
bool dp_gro_add(struct dp_gro *gro, void *cookie, uint8_t *frame, uint32_t len, const struct dp_hdrs *h, uint16_t gso_size, bool checked);

/* Patches the headers of a merged unit and fills its virtio-net header. Once for each unit, before it is written. */
void dp_gro_finish(struct dp_gro_unit *unit);

#endif
