// SPDX-License-Identifier: Apache-2.0
/*
 * The life of DPDK inside a Go process. EAL starts and stays on a thread of its own with the signals blocked: Go's runtime
 * preempts its threads by signal, and rte_eal_init pins its caller; the workers inherit the mask. SIGBUS alone gets through:
 * by it the kernel tells EAL, which has a handler then, that a control group may have no more hugepages.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_malloc.h>

#include "worker.h"

/* A worker's buffers for its ports and for the underlay. */
#define WORKER_MBUFS (DP_BURST + DP_UDP_MSGS)
/* Packet buffers a worker keeps to itself: some bursts. */
#define ETH_CACHE 256
#define TABLE_BYTES (96ull << 20)

static struct {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool done, stop;
	int result;
	char *err;
} eal = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

uint64_t
dp_memory(unsigned n_workers, uint32_t eth_mbufs)
{
	return TABLE_BYTES + (uint64_t)n_workers * (WORKER_MBUFS * (DP_BUF_LEN + 512ull) + (4 << 20) + DP_FLOW_SLOTS * sizeof(struct dp_flow_slot) + DP_SOURCE_SLOTS * sizeof(struct dp_source_slot)) +
	       eth_mbufs * (RTE_MBUF_DEFAULT_BUF_SIZE + 256ull);
}

/* EAL's main thread may run wherever the process may; each worker has a CPU to itself. */
static void
lcore_map(char *map, size_t len)
{
	cpu_set_t set;
	size_t at = snprintf(map, len, "--lcores=0@(");
	const char *comma = "";

	sched_getaffinity(0, sizeof(set), &set);
	for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &set) || at + 16 > len)
			continue;
		at += snprintf(map + at, len - at, "%s%u", comma, cpu);
		comma = ",";
	}
	at += snprintf(map + at, len - at, ")");
	for (unsigned i = 0; i < dp.config.n_workers; i++)
		at += snprintf(map + at, len - at, ",%u@%u", i + 1, dp.config.cpus[i]);
}

/* DPDK's stream carries no level: it is put in front of each line. */
static ssize_t
log_write(void *cookie, const char *text, size_t len)
{
	(void)cookie;
	dprintf(dp.config.log_fd, "%d %.*s", rte_log_cur_msg_loglevel(), (int)len, text);
	return len;
}

/* --in-memory cannot be had without hugepages: there --no-shconf leaves no file behind. */
static int
eal_init(char *err)
{
	char map[CPU_SETSIZE * 5 + DP_MAX_WORKERS * 8], megabytes[16];
	char *argv[16] = { "overlane", "--no-telemetry", map, "-m", megabytes };
	int argc = 5;

	argv[argc++] = dp.config.pci ? "-a" : "--no-pci";
	if (dp.config.pci)
		argv[argc++] = (char *)dp.config.pci;
	argv[argc++] = dp.config.hugepages ? "--in-memory" : "--no-shconf";
	if (!dp.config.hugepages)
		argv[argc++] = "--no-huge";
	lcore_map(map, sizeof(map));
	snprintf(megabytes, sizeof(megabytes), "%llu", (unsigned long long)(dp_memory(dp.config.n_workers, dp.config.eth_mbufs) >> 20));
	rte_openlog_stream(fopencookie(NULL, "w", (cookie_io_functions_t){ .write = log_write }));
	dp.config.pci = NULL; /* its caller's */
	if (rte_eal_init(argc, argv) < 0) {
		snprintf(err, DP_ERR_LEN, "DPDK did not start with%s hugepages: %s; its log says more", dp.config.hugepages ? "" : "out", rte_strerror(rte_errno));
		return -EIO;
	}
	return 0;
}

static int
pipeline_init(char *err)
{
	if (dp_rcu_init(err))
		return -ENOMEM;
	dp.pool = rte_pktmbuf_pool_create("frames", dp.config.n_workers * WORKER_MBUFS, 0, 0, DP_BUF_LEN, SOCKET_ID_ANY);
	if (!dp.pool) {
		snprintf(err, DP_ERR_LEN, "no memory for %u packet buffers: %s", dp.config.n_workers * WORKER_MBUFS, rte_strerror(rte_errno));
		return -ENOMEM;
	}
	if (dp.config.eth_mbufs) {
		dp.eth_pool = rte_pktmbuf_pool_create("packets", dp.config.eth_mbufs, ETH_CACHE, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
		if (!dp.eth_pool) {
			snprintf(err, DP_ERR_LEN, "no memory for %u packet buffers of devices: %s", dp.config.eth_mbufs, rte_strerror(rte_errno));
			return -ENOMEM;
		}
	}
	if (dp_fdb_init(err) || dp_neigh_init(err) || dp_vteps_init(err))
		return -ENOMEM;
	for (unsigned i = 0; i < dp.config.n_workers; i++) {
		dp.workers[i] = dp_worker_new(i, err);
		if (!dp.workers[i])
			return -EIO;
	}
	for (unsigned i = 0; i < dp.config.n_workers; i++)
		rte_eal_remote_launch(dp_worker_main, dp.workers[i], i + 1);
	return 0;
}

static void
started(int result)
{
	pthread_mutex_lock(&eal.lock);
	eal.result = result;
	eal.done = true;
	pthread_cond_broadcast(&eal.changed);
	while (!eal.stop && !result)
		pthread_cond_wait(&eal.changed, &eal.lock);
	pthread_mutex_unlock(&eal.lock);
}

static void *
eal_main(void *arg)
{
	int result = eal_init(eal.err);

	(void)arg;
	if (!result)
		result = pipeline_init(eal.err);
	started(result);
	if (result)
		return NULL;
	atomic_store(&dp_stopping, true);
	for (unsigned i = 0; i < dp.config.n_workers; i++)
		dp_worker_wake(dp.workers[i]);
	rte_eal_mp_wait_lcore();
	for (unsigned i = 0; i < dp.config.n_workers; i++)
		dp_worker_free(dp.workers[i]);
	rte_eal_cleanup();
	rte_openlog_stream(NULL);
	close(dp.config.log_fd);
	return NULL;
}

int
dp_start(const struct dp_config *config, char err[DP_ERR_LEN])
{
	sigset_t all, old;
	int ret;

	dp.config = *config;
	eal.err = err;
	sigfillset(&all);
	sigdelset(&all, SIGBUS);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(&eal.thread, NULL, eal_main, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (ret) {
		snprintf(err, DP_ERR_LEN, "no thread for DPDK: %s", strerror(ret));
		return -ret;
	}
	pthread_mutex_lock(&eal.lock);
	while (!eal.done)
		pthread_cond_wait(&eal.changed, &eal.lock);
	ret = eal.result;
	pthread_mutex_unlock(&eal.lock);
	return ret;
}

void
dp_stop(void)
{
	pthread_mutex_lock(&eal.lock);
	eal.stop = true;
	pthread_cond_broadcast(&eal.changed);
	pthread_mutex_unlock(&eal.lock);
	pthread_join(eal.thread, NULL);
}
