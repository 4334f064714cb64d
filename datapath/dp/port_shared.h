/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_PORT_SHARED_H
#define DP_PORT_SHARED_H

/*
 * Ports whose rings lie in memory that is shared with a container: what their kinds have in common. One worker reads a port; each may
 * write, one at a time.
 */
#include <sys/eventfd.h>

#include <rte_spinlock.h>

#include "port_turn.h"
#include "pure_cycles.h"
#include "pure_ring.h"

/* An empty ring is looked at again for so long, before the container must tell: a system call of its, each time. */
#define DP_SHARED_SPIN_US 50

struct dp_shared;

/* What the kinds do their own way, with the ring to the container, under its lock. */
struct dp_shared_kind {
	enum dp_drop down, full, buffer, broken;
	/* Writes a frame of len bytes behind iov[0], which is the kind's to use. */
	enum dp_ring_result (*put)(struct dp_shared *s, const struct virtio_net_hdr *vnet, struct iovec *iov, uint32_t len);
	/* Tells the container what was put. True when it wants to be woken up. */
	bool (*publish)(struct dp_shared *s);
	/* What is wrong, when put has found the ring broken. */
	const char *(*fault)(const struct dp_shared *s);
};

/* The first member of what a kind has. */
struct dp_shared {
	const struct dp_shared_kind *kind;
	int kick, bell, wake;
	/* What the container takes as a virtio-net header has it. */
	bool sums, ecn;
	uint32_t gso;                /* types, by their bits */
	_Atomic(const char *) fault; /* for which the rings are not looked at any more */
	unsigned n_regions;
	const uint8_t *regions[DP_SHARED_REGIONS];
	atomic_uint losses;                      /* dp_shared_losses when the memory was looked at */
	bool dirty[DP_MAX_WORKERS];              /* in the list of those that the worker tells */
	uint64_t last __rte_cache_aligned;       /* time of the last frame read, in cycles */
	rte_spinlock_t lock __rte_cache_aligned; /* over the ring to the container */
};

/* port_shared_memory.c: how many mappings were ever lost; that is looked at before one of them is. */
extern atomic_uint dp_shared_losses;
/* Whether that at addr, in which it lies, was. */
bool dp_shared_lost(const uint8_t *addr);

/* Nothing on the rings counts from then on, and who has made them is told why. */
void dp_shared_broke(struct dp_worker *w, struct dp_shared *s, const char *fault);
/* A container that has taken memory away is cut off, whatever the zeros in its place look like. */
void dp_shared_memory_gone(struct dp_worker *w, struct dp_shared *s, unsigned losses);

/* Has workers use the rings, which become the port's, until dp_shared_stop; -EBUSY: it has some. */
int dp_shared_start(uint32_t port, struct dp_shared *s, const struct dp_port_ops *ops);

/* Of their struct dp_port_ops. */
int dp_shared_port_start(struct dp_port *port);
void dp_shared_port_stop(struct dp_port *port);
void dp_shared_deliver(struct dp_worker *w, struct dp_port *port, struct dp_frame *f);
void dp_shared_write(struct dp_worker *w, struct dp_port *port, const struct iovec *iov, int n, uint32_t len);

static inline struct dp_shared *
dp_shared_of(const struct dp_port *port)
{
	return atomic_load_explicit(&port->shared, memory_order_acquire);
}

static inline bool
dp_shared_is_broken(const struct dp_shared *s)
{
	return atomic_load_explicit(&s->fault, memory_order_relaxed);
}

static inline void
dp_shared_check_memory(struct dp_worker *w, struct dp_shared *s)
{
	unsigned losses = atomic_load_explicit(&dp_shared_losses, memory_order_relaxed);

	if (unlikely(losses != atomic_load_explicit(&s->losses, memory_order_relaxed)))
		dp_shared_memory_gone(w, s, losses);
}

/* Whether a ring that is empty is to be looked at again soon. */
static inline bool
dp_shared_spin(struct dp_shared *s, bool got)
{
	uint64_t now = rte_rdtsc();

	if (got)
		s->last = now;
	return now - s->last <= dp_cycles(DP_SHARED_SPIN_US);
}

/* Counts a frame that was read, of len bytes at data. */
static inline void
dp_shared_got(struct dp_worker *w, struct dp_port *port, struct dp_frame *f, uint8_t *data, uint32_t len)
{
	struct dp_traffic *traffic = &port->worker[w->id].traffic;

	f->data = data;
	f->mbuf = NULL; /* the worker's own, and used again */
	f->len = len;
	traffic->rx_packets++;
	traffic->rx_bytes += len;
}

#endif
