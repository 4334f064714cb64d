// SPDX-License-Identifier: Apache-2.0
/*
 * Memory that is shared with containers. One that cuts its file short, or takes its hugepages back, has whoever touches them next hit by
 * SIGBUS (mmap(2)): here the page is then replaced by zeros, and the container's rings count as broken.
 */
#include <errno.h>
#include <linux/magic.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <rte_common.h>

#include "port_shared.h"

#define MAPPINGS (DP_MAX_PORTS * DP_SHARED_REGIONS)

static struct mapping {
	_Atomic(uint8_t *) host; /* NULL: free. Written last */
	atomic_size_t len, page;
	atomic_bool lost;
} mappings[MAPPINGS];
static atomic_uint n_mappings; /* those behind were never used */

atomic_uint dp_shared_losses;

static struct sigaction before;

static struct mapping *
mapping_of(const uint8_t *addr)
{
	for (unsigned i = 0, n = atomic_load(&n_mappings); i < n; i++) {
		uint8_t *host = atomic_load(&mappings[i].host);

		if (host && addr >= host && addr < host + atomic_load(&mappings[i].len))
			return &mappings[i];
	}
	return NULL;
}

/* The page that was hit alone: there may be no room for more. */
static bool
replace(const struct mapping *m, uint8_t *addr)
{
	size_t page = atomic_load(&m->page);
	uint8_t *at = RTE_PTR_ALIGN_FLOOR(addr, page);

	return mmap(at, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != MAP_FAILED;
}

/* On the thread that was hit, which goes on where it was. Other faults are the runtime's, or end the process as they would without it. */
static void
on_bus_error(int signal, siginfo_t *info, void *context)
{
	struct mapping *m = mapping_of(info->si_addr);

	if (m && replace(m, info->si_addr)) {
		atomic_store(&m->lost, true);
		atomic_fetch_add(&dp_shared_losses, 1);
		return;
	}
	if (before.sa_flags & SA_SIGINFO)
		before.sa_sigaction(signal, info, context);
	else if (before.sa_handler == SIG_DFL || before.sa_handler == SIG_IGN)
		sigaction(SIGBUS, &before, NULL);
	else
		before.sa_handler(signal);
}

bool
dp_shared_lost(const uint8_t *addr)
{
	const struct mapping *m = mapping_of(addr);

	return m && atomic_load(&m->lost);
}

/* Go's own handler is behind it: SA_ONSTACK as os/signal wants it of C code. */
static void
guard(void)
{
	struct sigaction action = { .sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART };

	sigfillset(&action.sa_mask);
	sigaction(SIGBUS, &action, &before);
}

static bool
is_memory(int fd, uint64_t len, uint64_t *page)
{
	struct statfs fs;
	struct stat st;

	if (fstat(fd, &st) || fstatfs(fd, &fs) || !S_ISREG(st.st_mode))
		return false;
	*page = st.st_blksize;
	return (fs.f_type == TMPFS_MAGIC || fs.f_type == HUGETLBFS_MAGIC) && len && len <= (uint64_t)st.st_size;
}

int
dp_shared_map(int fd, uint64_t len, uint64_t *host)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static pthread_once_t guarded = PTHREAD_ONCE_INIT;
	struct mapping *m = mappings;
	uint64_t page;
	void *at;

	if (!is_memory(fd, len, &page))
		return -EINVAL;
	pthread_once(&guarded, guard);
	len = RTE_ALIGN_CEIL(len, page);
	at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		return -errno;
	madvise(at, len, MADV_DONTDUMP);
	/* What the container has paged out would be waited for, by the other containers of the worker too. */
	mlock2(at, len, MLOCK_ONFAULT);
	pthread_mutex_lock(&lock);
	while (m < mappings + MAPPINGS && atomic_load(&m->host))
		m++;
	if (m < mappings + MAPPINGS) {
		atomic_store(&m->len, len);
		atomic_store(&m->page, page);
		atomic_store(&m->lost, false);
		atomic_store(&m->host, at);
		if (m == mappings + atomic_load(&n_mappings))
			atomic_fetch_add(&n_mappings, 1);
	}
	pthread_mutex_unlock(&lock);
	if (m == mappings + MAPPINGS) {
		munmap(at, len);
		return -ENOSPC;
	}
	*host = (uintptr_t)at;
	return 0;
}

void
dp_shared_unmap(uint64_t host)
{
	struct mapping *m = mapping_of((const uint8_t *)(uintptr_t)host);
	uint8_t *at = atomic_load(&m->host);
	size_t len = atomic_load(&m->len);

	atomic_store(&m->host, NULL);
	munmap(at, len);
}
