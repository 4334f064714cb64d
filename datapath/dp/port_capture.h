/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_PORT_CAPTURE_H
#define DP_PORT_CAPTURE_H

/*
 * Captures: copies of packets at points of their way, for whoever asked. While nobody captures nothing is looked at: w->capturing says so, and
 * is asked before each call. What finds no room in a worker's ring is counted; no worker waits for a reader.
 */
#include <pcap/pcap.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/uio.h>

#include "dp.h"
#include "pure_sample.h"

struct dp_frame;
struct dp_packet;
struct dp_port;
struct dp_vtep;
struct dp_worker;

/* One bit for each capture: those that want a frame, whatever its way. */
typedef uint8_t dp_captures;
_Static_assert(DP_CAPTURES <= 8, "a bit for each capture");

extern atomic_bool dp_capturing;
/* What the upper half of a packet's dp_sample_hash is less than, if any capture wants it. */
extern _Atomic uint64_t dp_capture_threshold;

/* Frames that a container has sent, as they were read. Each of them keeps who wants it, and the worker whether any does. */
void dp_capture_read(struct dp_worker *w, struct dp_frame *frames, struct dp_port **from, unsigned n);
/* Frames on their way to a VTEP, before they are cut up and encrypted. */
void dp_capture_sent(struct dp_worker *w, struct dp_frame **frames, unsigned n, const struct dp_vtep *to);
/* A VXLAN packet that is none too short; those that want it. */
dp_captures dp_capture_received(struct dp_worker *w, const struct dp_packet *p);

/* Whether any capture may want a frame, by the threshold that was read before. */
static inline bool
dp_capture_may(uint64_t threshold, const uint8_t *frame, uint32_t len)
{
	return dp_sample_hash(frame, len) >> 32 < threshold;
}
/* A frame for a container, in n pieces behind a virtio-net header. */
void dp_capture_delivered(struct dp_worker *w, const struct dp_port *port, const struct iovec *iov, int n);
/* What is not delivered: a frame, from a VTEP or NULL, or what would have gone to a port. */
void dp_capture_dropped(struct dp_worker *w, enum dp_drop reason, const struct dp_frame *f, const struct dp_vtep *from);
void dp_capture_undelivered(struct dp_worker *w, enum dp_drop reason, const struct dp_port *port, const struct iovec *iov, int n);
/* What the kernel does not send to a VTEP: a frame in pieces, behind `skip` bytes. */
void dp_capture_unsent(struct dp_worker *w, enum dp_drop reason, const struct dp_vtep *to, uint32_t vni, const struct iovec *iov, int n, uint32_t skip);
/* UDP payload, from a VTEP or on its way there: the frame in it where it is VXLAN, else as it is. */
void dp_capture_payload(struct dp_worker *w, enum dp_drop reason, const struct dp_addr *vtep, const uint8_t *data, uint32_t len);

struct dp_capture_ring {
	uint8_t *bytes;
	_Alignas(64) _Atomic uint64_t head; /* taken so far */
	_Alignas(64) _Atomic uint64_t tail; /* written so far */
	_Atomic uint64_t lost;
};

/* A record of this point fills the end of a ring, which the next one did not fit into. */
#define DP_POINT_PAD UINT16_MAX

struct dp_capture {
	struct dp_capture_config config;
	uint64_t threshold;         /* the upper half of what dp_sample_hash gives of packets in the sample is less */
	struct bpf_program program; /* without instructions: all packets */
	struct dp_capture_ring rings[DP_MAX_WORKERS];
};

extern _Atomic(struct dp_capture *) dp_capture_slots[DP_CAPTURES];

/* The capture of a number, or NULL. */
static inline struct dp_capture *
dp_capture_get(unsigned number)
{
	return atomic_load_explicit(&dp_capture_slots[number], memory_order_acquire);
}

#endif
