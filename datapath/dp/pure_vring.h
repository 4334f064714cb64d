/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_VRING_H
#define DP_VRING_H

/*
 * Split virtqueues in a container's memory, from the device's side (virtio 1.2 section 2.7, linux/virtio_ring.h). The container
 * writes there whatever it likes, and while it is read: each word is read once and checked as it was read, and what it names is
 * looked up in the memory that the container shares. Chains are given back in order, so that a ring has one index, and an end of
 * the process at any point leaves a ring that the next one goes on with.
 */
#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "pure_ring.h"

#define DP_VRING_REGIONS 8 /* vhost-user's VHOST_MEMORY_BASELINE_NREGIONS */
#define DP_VRING_SIZE_MAX 32768

struct dp_vring_region {
	uint64_t guest; /* address by which descriptors name it */
	uint64_t len;
	uint8_t *host; /* where it is mapped */
};

struct dp_vring_memory {
	unsigned n;
	struct dp_vring_region regions[DP_VRING_REGIONS];
};

struct dp_vring {
	const struct vring_desc *desc;
	const struct vring_avail *avail;
	struct vring_used *used;
	uint16_t size;      /* a power of two */
	uint16_t next;      /* chain */
	uint16_t end;       /* of those that the container has given, when that was looked at last */
	uint16_t published; /* what the container knows to be given back */
	bool quiet;         /* the container need not tell of new chains */
};

/* Where the container knows the ring to be. */
uint16_t dp_vring_at(const struct dp_vring *r);
/* Goes on there. */
void dp_vring_start(struct dp_vring *r);
/* Copies what the next chain holds, at most room bytes, and gives it back. TOO_LONG: it is given back, and lost. */
enum dp_ring_result dp_vring_take(struct dp_vring *r, const struct dp_vring_memory *m, uint8_t *to, uint32_t room, uint32_t *len);
/*
 * Copies pieces of len bytes together into the next chain, or into as many as it takes where merge says so; num_buffers lies in the
 * first piece, and is set to their number before it is copied. Only with OK is anything used up.
 */
enum dp_ring_result dp_vring_put(struct dp_vring *r, const struct dp_vring_memory *m, const struct iovec *iov, uint32_t len, bool merge, uint16_t *num_buffers);
/* Tells the container what was given back. True when it wants to be woken up. */
bool dp_vring_publish(struct dp_vring *r);
/* The container need not tell of new chains, or is to. True when there are some, or the ring is broken: they came before it knew. */
void dp_vring_quiet(struct dp_vring *r);
bool dp_vring_listen(struct dp_vring *r);

#endif
