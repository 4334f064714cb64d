// SPDX-License-Identifier: Apache-2.0
/*
 * The loop of a worker: read what is ready, take it through the pipeline to its end, look for more; spin for a while
 * when there is nothing, giving way to whoever wants the CPU, then sleep until something comes. Nothing it holds
 * outlives a turn but its own buffers, and pending requests by their port's number and generation.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <rte_log.h>
#include <rte_malloc.h>

#include "pure_cycles.h"
#include "worker.h"

/* Long enough to bridge the gap to the answer of a peer on the same machine; a packet now and then costs this much of a CPU. */
#define SPIN_US 50
/* Packets come before the processes of the same CPU that compute: in the kernel's own overlay they are a softirq's. */
#define NICE (-10)
/*
 * No device goes unseen for longer than this: not one that wakes nobody, nor a driver whose receive ring had run empty,
 * which is heard of when it is polled, and not before.
 */
#define SLEEP_MAX_MS 100
/*
 * An idle worker looks at devices that wake nobody this often: what comes waits no longer than three times the silence
 * before it, an answer from such a device up to twice SLEEP_MAX_MS. A virtual machine was seen to sleep 35 us longer than that.
 */
#define BACKOFF_MIN_US 16
#define BACKOFF_GROWTH 4
#define BACKOFF_MAX_US (SLEEP_MAX_MS * 1000)
/* While devices keep the worker busy, every so many turns it looks for events: a system call costs as much as some packets. */
#define EPOLL_TURNS 16
#define EVENTS 64

atomic_bool dp_stopping, dp_measuring;

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
	w->flow_cache = rte_zmalloc("flow cache", DP_FLOW_SLOTS * sizeof(*w->flow_cache), sizeof(*w->flow_cache));
	w->source.cache = rte_zmalloc("sources", DP_SOURCE_SLOTS * sizeof(*w->source.cache), sizeof(*w->source.cache));
	w->pending = rte_zmalloc("pending", sizeof(*w->pending), RTE_CACHE_LINE_SIZE);
	w->claims = rte_zmalloc("claims", sizeof(*w->claims), RTE_CACHE_LINE_SIZE);
	w->fragments = rte_malloc("fragments", DP_FRAGMENTS_LEN, RTE_CACHE_LINE_SIZE);
	w->gro = rte_zmalloc("gro", sizeof(*w->gro), RTE_CACHE_LINE_SIZE);
	if (w->epoll < 0 || w->wake < 0 || !w->gro || !w->flow_cache || !w->source.cache || !w->pending || !w->claims || !w->fragments || rte_pktmbuf_alloc_bulk(dp.pool, w->mbufs, DP_BURST)) {
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
	rte_free(w->flow_cache);
	rte_free(w->source.cache);
	rte_free(w->pending);
	rte_free(w->claims);
	rte_free(w->fragments);
	close(w->wake);
	close(w->epoll);
	rte_free(w);
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
poll_events(struct dp_worker *w, int timeout)
{
	struct epoll_event events[EVENTS];
	int n = epoll_wait(w->epoll, events, EVENTS, timeout);

	for (int i = 0; i < n; i++)
		note_event(w, events[i].data.u64);
	return n > 0;
}

/*
 * Where a device must be polled, each sleep is longer than the one before, up to a limit; where a port is throttled, it ends with
 * the pause. True after an event.
 */
static bool
sleep_until_event(struct dp_worker *w, unsigned *backoff_us)
{
	bool poll_only = dp_eth_poll_only(), timed = poll_only || w->throttled, event = true;
	unsigned us = poll_only ? *backoff_us : BACKOFF_MAX_US;
	struct timespec timeout = { .tv_nsec = (w->throttled ? RTE_MIN(us, dp_throttle_left(&w->throttle, rte_rdtsc())) : us) * 1000l };

	rte_rcu_qsbr_thread_offline(dp_qsbr, w->id);
	if (timed)
		event = ppoll(&(struct pollfd){ .fd = w->epoll, .events = POLLIN }, 1, &timeout, NULL) > 0;
	if (event)
		event = poll_events(w, timed ? 0 : (atomic_load(&dp.n_eths) ? SLEEP_MAX_MS : -1));
	else if (!w->throttled)
		*backoff_us = RTE_MIN(*backoff_us * BACKOFF_GROWTH, (unsigned)BACKOFF_MAX_US);
	rte_rcu_qsbr_thread_online(dp_qsbr, w->id);
	dp_eth_disarm(w);
	w->mark = rte_rdtsc();
	return event;
}

static void
begin_turn(struct dp_worker *w)
{
	bool measuring = atomic_load_explicit(&dp_measuring, memory_order_relaxed);

	if (unlikely(measuring && !w->measuring))
		w->mark = rte_rdtsc();
	w->measuring = measuring;
	w->capturing = atomic_load_explicit(&dp_capturing, memory_order_relaxed);
	w->chosen = false;
	w->waited = false;
}

/* Of the calling thread alone: setpriority(2), "C library/kernel differences". */
static void
raise_priority(const struct dp_worker *w)
{
	if (setpriority(PRIO_PROCESS, 0, NICE))
		rte_log(RTE_LOG_WARNING, RTE_LOGTYPE_USER1, "worker %u waits for the CPU like any process, so that a busy container slows down the others more than need be: give the daemon CAP_SYS_NICE (%s)\n",
			w->id, strerror(errno));
}

int
dp_worker_main(void *arg)
{
	struct dp_worker *w = arg;
	const uint64_t spin = dp_cycles(SPIN_US);
	uint64_t last = rte_rdtsc();
	unsigned turns = 0, backoff_us = BACKOFF_MIN_US;

	raise_priority(w);
	dp_moderation_start();
	if (!pthread_getcpuclockid(pthread_self(), &w->clock))
		atomic_store_explicit(&w->running, true, memory_order_release);
	rte_rcu_qsbr_thread_register(dp_qsbr, w->id);
	rte_rcu_qsbr_thread_online(dp_qsbr, w->id);
	while (!atomic_load_explicit(&dp_stopping, memory_order_relaxed)) {
		struct dp_turn turn;

		begin_turn(w);
		turn = dp_turn(w);
		rte_rcu_qsbr_quiescent(dp_qsbr, w->id);
		dp_moderation_end(w);
		if (turn.polled && ++turns % EPOLL_TURNS)
			continue;
		if (poll_events(w, 0) || turn.polled || w->underlay_ready || turn.more) {
			last = rte_rdtsc();
			backoff_us = BACKOFF_MIN_US;
			dp_eth_disarm(w);
		} else if (dp_moderate(w)) {
			last = rte_rdtsc();
		} else if (!dp_throttle_recent(&w->throttle, rte_rdtsc()) && rte_rdtsc() - last <= spin) {
			sched_yield();
		} else if (!dp_eth_arm(w) && sleep_until_event(w, &backoff_us)) {
			last = rte_rdtsc();
		}
		dp_stage(w, DP_STAGE_POLL, 0);
	}
	rte_rcu_qsbr_thread_offline(dp_qsbr, w->id);
	rte_rcu_qsbr_thread_unregister(dp_qsbr, w->id);
	atomic_store(&w->running, false);
	return 0;
}
