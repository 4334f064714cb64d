/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_UDP_H
#define DP_UDP_H

/*
 * The `udp` underlay: kernel UDP sockets with UDP_SEGMENT and UDP_GRO (linux/udp.h). The kernel does routing,
 * neighbours and fragmentation checks; a super-frame's segments, or a run of equal frames to one VTEP, are one message.
 */
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include <rte_mbuf.h>

#include "dp.h"

#define DP_UDP_MSGS 64
#define DP_UDP_IOVS 2048
/* Header slots for segments: VXLAN header and inner headers. */
#define DP_UDP_SLOTS 1024
#define DP_UDP_SLOT_LEN 128
#define DP_UDP_CONTROL 64
/* A burst of super-frames more often than not, and no more than stays in the cache. */
#define DP_UDP_SEALED_LEN (512 << 10)

struct dp_frame;
struct dp_packet;
struct dp_vtep;
struct dp_worker;

/* One sendmsg: segments of `size` bytes each, the last one perhaps shorter. Or one write of a super-frame to the tap. */
struct dp_udp_run {
	struct dp_vtep *to;
	int fd;
	uint8_t tos;
	bool closed;
	bool whole; /* fd is the tap's */
	uint16_t size;
	uint16_t segments;
	uint32_t bytes;
};

/* Packets of `size` bytes each, the last one perhaps shorter. */
struct dp_udp_datagram {
	uint8_t *data;
	uint32_t len, size;
	uint16_t gso_size; /* of a super-frame that came whole, in one packet */
	uint8_t tos;       /* outer */
	struct dp_vtep *from;
};

struct dp_udp {
	int rx_fd;
	bool filtered; /* rx_fd drops what a device has a copy of */
	int tx4[DP_UDP_SOURCES], tx6[DP_UDP_SOURCES];
	atomic_uint ports[DP_UDP_SOURCES]; /* of those in the VTEP's family, in network order */

	struct rte_mbuf *mbufs[DP_UDP_MSGS];
	struct mmsghdr rx_msgs[DP_UDP_MSGS];
	struct iovec rx_iovs[DP_UDP_MSGS];
	struct sockaddr_in6 rx_from[DP_UDP_MSGS];
	char rx_control[DP_UDP_MSGS][DP_UDP_CONTROL] __attribute__((aligned(8)));
	unsigned rx_vlen;
	unsigned rx_read, rx_opened; /* datagrams, and how many of them dp_udp_packets has seen */
	struct dp_udp_datagram rx;   /* of the last one, what it has not given away */

	struct dp_udp_run runs[DP_UDP_MSGS];
	struct mmsghdr tx_msgs[DP_UDP_MSGS];
	char tx_control[DP_UDP_MSGS][DP_UDP_CONTROL] __attribute__((aligned(8)));
	unsigned n_runs;
	struct iovec iovs[DP_UDP_IOVS];
	unsigned n_iovs;
	uint8_t (*slots)[DP_UDP_SLOT_LEN];
	unsigned n_slots;
	uint8_t *sealed; /* DP_UDP_SEALED_LEN bytes for packets of encrypted networks */
	unsigned n_sealed;
};

int dp_udp_open(struct dp_worker *w, char *err);
void dp_udp_close(struct dp_worker *w);
/* Queues the frame, segmented where its virtio header says so; it must stay as it is until dp_udp_flush. */
void dp_udp_send(struct dp_worker *w, struct dp_frame *frame, struct dp_vtep *to);
void dp_udp_flush(struct dp_worker *w);
/* port_udp_whole.c: the way to the VTEP for the super-frame in one piece; NULL: it is cut up. */
const struct dp_whole *dp_udp_whole_way(const struct dp_frame *frame, const struct dp_vtep *to);
/* The file that the worker writes to for a source. */
int dp_udp_whole_tap(const struct dp_whole *way, const struct dp_worker *w, unsigned source);
/* What stands before the frame: a virtio-net header, and the outer ones. Returns their length, DP_UDP_SLOT_LEN at most. */
uint32_t dp_udp_whole_headers(const struct dp_frame *frame, const struct dp_whole *way, uint16_t source, uint8_t *at);

/* Reads datagrams; true when there may be more to read. */
bool dp_udp_read(struct dp_worker *w);
/* A datagram of a VTEP's: its packets are the next ones, or it is dropped. */
void dp_udp_take(struct dp_worker *w, struct dp_udp_datagram d);
/* The next packets of what was read last, DP_BURST at most; 0 when there are no more. */
unsigned dp_udp_packets(struct dp_worker *w, struct dp_packet *packets);
/* How full the queue of what has been received is, from 0 to 1; a datagram may go beyond. The kernel gives back what was read in quarters. */
double dp_udp_fill(const struct dp_udp *udp);
uint64_t dp_udp_overflows(const struct dp_udp *udp);

#endif
