// SPDX-License-Identifier: Apache-2.0
/*
 * The loop of a worker: read what is ready, take it through the pipeline to its end, look for more; spin for a while
 * when there is nothing, then sleep until something comes. Nothing it holds outlives a turn but its own buffers, and questions by
 * their port's number and generation.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_malloc.h>

#include "pipeline.h"

/* Long enough to bridge the gap to the answer of a peer on the same machine, short enough to leave the CPU to others. */
#define SPIN_US 50
/* An idle worker looks at devices that wake nobody this often: what comes waits no longer than the silence before it, and a nap costs up to 50 us. */
#define NAP_MIN_US 16
#define NAP_MAX_US 32768
/* A driver whose receive ring had run empty is heard of when it is polled, and not before: rarely, and no later than this. */
#define DOZE_MS 100
/* While devices keep the worker busy, every so many turns it looks for events: a system call costs as much as some packets. */
#define LOOK_TURNS 16
#define EVENTS 64

int
dp_worker_watch(struct dp_worker *w, int fd, uint64_t tag)
{
	/* A device's socket is read by its driver, of which another worker may be the one: it tells of what is new alone. */
	struct epoll_event event = { .events = EPOLLIN | (tag == DP_TAG_DEVICE ? EPOLLET : 0), .data.u64 = tag };

	return epoll_ctl(w->epoll, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

void
dp_worker_unwatch(struct dp_worker *w, int fd)
{
	epoll_ctl(w->epoll, EPOLL_CTL_DEL, fd, NULL);
}

struct dp_worker *
dp_worker_new(unsigned id, char *err)
{
	struct dp_worker *w = rte_zmalloc("worker", sizeof(*w), RTE_CACHE_LINE_SIZE);

	if (!w) {
		snprintf(err, DP_ERR_LEN, "no memory for worker %u", id);
		return NULL;
	}
	w->id = id;
	w->epoll = epoll_create1(EPOLL_CLOEXEC);
	w->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	w->memos = rte_zmalloc("memos", DP_FDB_MEMOS * sizeof(*w->memos), sizeof(*w->memos));
	w->gro = rte_zmalloc("gro", sizeof(*w->gro), RTE_CACHE_LINE_SIZE);
	if (w->epoll < 0 || w->wake < 0 || !w->gro || !w->memos || rte_pktmbuf_alloc_bulk(dp.pool, w->mbufs, DP_BURST)) {
		snprintf(err, DP_ERR_LEN, "no memory or file descriptors for worker %u", id);
		return NULL;
	}
	dp_gro_reset(w->gro);
	dp_worker_watch(w, w->wake, DP_TAG_WAKE);
	return dp_udp_open(w, err) ? NULL : w;
}

void
dp_worker_free(struct dp_worker *w)
{
	dp_udp_close(w);
	rte_pktmbuf_free_bulk(w->mbufs, DP_BURST);
	rte_free(w->gro);
	rte_free(w->memos);
	close(w->wake);
	close(w->epoll);
	rte_free(w);
}

static void
flush(struct dp_worker *w)
{
	dp_encap(w, w->frames, w->from, w->n_frames);
	dp_udp_flush(w);
	dp_stage(w, DP_STAGE_SEND, w->n_frames);
	w->n_frames = 0;
}

bool
dp_turn(struct dp_worker *w, struct dp_port *port)
{
	unsigned *unread = &port->worker[w->id].unread;
	bool more = port->ops->read(w, port);

	*unread = more ? *unread + 1 : 0;
	return more;
}

/* One turn for every port that has something; a port leaves the list when it is empty or gone. */
static void
serve_ports(struct dp_worker *w)
{
	unsigned kept = 0, greedy = 0;

	for (unsigned i = 0; i < w->n_ready; i++) {
		uint32_t id = w->ready[i];
		struct dp_port *port = dp_port_get(id);

		if (w->n_frames == DP_BURST)
			flush(w);
		if (port && dp_turn(w, port)) {
			w->ready[kept++] = id;
			greedy += dp_greedy(w, port);
		} else {
			w->is_ready[id] = false;
		}
	}
	w->n_ready = kept;
	w->n_greedy = greedy;
	if (w->n_frames)
		flush(w);
}

static void
note_event(struct dp_worker *w, uint64_t tag)
{
	eventfd_t value;

	switch (tag) {
	case DP_TAG_WAKE:
		eventfd_read(w->wake, &value);
		break;
	case DP_TAG_UNDERLAY:
		w->underlay_ready = true;
		break;
	case DP_TAG_DEVICE: /* each turn polls it */
		break;
	default:
		if (!w->is_ready[tag]) {
			w->is_ready[tag] = true;
			w->ready[w->n_ready++] = tag;
		}
	}
}

static bool
look(struct dp_worker *w, int timeout)
{
	struct epoll_event events[EVENTS];
	int n = epoll_wait(w->epoll, events, EVENTS, timeout);

	for (int i = 0; i < n; i++)
		note_event(w, events[i].data.u64);
	return n > 0;
}

/* Where a device tells nothing, the sleep is a nap, each longer than the one before. True after an event. */
static bool
sleep_until_event(struct dp_worker *w, unsigned *nap_us)
{
	struct timespec nap = { .tv_nsec = *nap_us * 1000l };
	bool silent = dp_eth_silent(), event = true;

	rte_rcu_qsbr_thread_offline(dp.qsbr, w->id);
	if (silent)
		event = ppoll(&(struct pollfd){ .fd = w->epoll, .events = POLLIN }, 1, &nap, NULL) > 0;
	if (event)
		event = look(w, silent ? 0 : atomic_load(&dp.n_eths) ? DOZE_MS : -1);
	else
		*nap_us = RTE_MIN(*nap_us * 2, (unsigned)NAP_MAX_US);
	rte_rcu_qsbr_thread_online(dp.qsbr, w->id);
	w->mark = rte_rdtsc();
	return event;
}

static void
begin_turn(struct dp_worker *w)
{
	bool measuring = atomic_load_explicit(&dp.measuring, memory_order_relaxed);

	if (unlikely(measuring && !w->measuring))
		w->mark = rte_rdtsc();
	w->measuring = measuring;
	w->waited = false;
}

int
dp_worker_main(void *arg)
{
	struct dp_worker *w = arg;
	const uint64_t spin = rte_get_tsc_hz() / 1000000 * SPIN_US;
	uint64_t last = rte_rdtsc();
	unsigned turn = 0, nap_us = NAP_MIN_US;

	rte_rcu_qsbr_thread_register(dp.qsbr, w->id);
	rte_rcu_qsbr_thread_online(dp.qsbr, w->id);
	while (!atomic_load_explicit(&dp.stopping, memory_order_relaxed)) {
		bool polled;

		begin_turn(w);
		if (w->underlay_ready)
			w->underlay_ready = dp_udp_receive(w);
		polled = dp_eth_poll(w);
		serve_ports(w);
		if (unlikely(atomic_load_explicit(&w->news, memory_order_relaxed)))
			dp_answer_late(w);
		dp_eth_flush(w);
		rte_rcu_qsbr_quiescent(dp.qsbr, w->id);
		if (polled && ++turn % LOOK_TURNS)
			continue;
		if (look(w, 0) || polled || w->underlay_ready || w->n_ready) {
			last = rte_rdtsc();
			nap_us = NAP_MIN_US;
		} else if (rte_rdtsc() - last > spin && sleep_until_event(w, &nap_us)) {
			last = rte_rdtsc();
		}
		dp_stage(w, DP_STAGE_LOOK, 0);
	}
	rte_rcu_qsbr_thread_offline(dp.qsbr, w->id);
	rte_rcu_qsbr_thread_unregister(dp.qsbr, w->id);
	return 0;
}
