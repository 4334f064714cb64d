/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_WORKER_H
#define DP_WORKER_H

/* Workers: what they do in which order, and when they sleep. */
#include "stage.h"

/* worker_sched.c: whose turn it is among the ports that have something to read. */
struct dp_sched {
	uint32_t *ports; /* those of this part of the turn */
	unsigned n, at;  /* how many, and how many have had their turn */
	unsigned kept;   /* of those, how many may have more */
	unsigned normal, normal_kept;
	uint64_t start; /* of this part, in cycles */
};

/* The turns of the normal ports come first, then those of the flooding ones, unless these pause. */
void dp_sched_normal(struct dp_worker *w, struct dp_sched *s);
void dp_sched_flooding(struct dp_worker *w, struct dp_sched *s);
/* Reads frames into the worker's burst; false when all have had their turn, and nothing was read. */
bool dp_sched_read(struct dp_worker *w, struct dp_sched *s);
/* True when there may be more to read. */
bool dp_sched_end(struct dp_worker *w, struct dp_sched *s);

/* worker_moderation.c: what a thread needs once. */
void dp_moderation_start(void);
/* Where there was nothing to do: the worker sleeps until its rest ends, or somebody else has something; false: it has none. */
bool dp_moderate(struct dp_worker *w);
/* After each turn: who was not listened to is heard again when the rest is over. */
void dp_moderation_end(struct dp_worker *w);

/* worker_turn.c */
struct dp_turn {
	bool polled; /* a device had something */
	bool more;   /* a port may have more */
};
struct dp_turn dp_turn(struct dp_worker *w);
/* Its parts: ports that are read, and bursts of a device that is a port, or an underlay. */
bool dp_turn_ports(struct dp_worker *w);
void dp_turn_native(struct dp_worker *w, struct dp_port *port, struct rte_mbuf **mbufs, unsigned n);
void dp_turn_underlay(struct dp_worker *w, struct dp_eth *eth, struct rte_mbuf **mbufs, unsigned n);

/* worker.c */
extern atomic_bool dp_stopping;
extern atomic_bool dp_measuring; /* cycles by stage: somebody has asked */
struct dp_worker *dp_worker_new(unsigned id, char *err);
void dp_worker_free(struct dp_worker *w);
int dp_worker_main(void *arg);

#endif
