// SPDX-License-Identifier: Apache-2.0
/* The descriptors on which a worker sleeps. */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "port.h"

static int
watch(struct dp_worker *w, int fd, uint64_t tag, uint32_t how)
{
	struct epoll_event event = { .events = EPOLLIN | how, .data.u64 = tag };

	return epoll_ctl(w->epoll, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

int
dp_worker_watch(struct dp_worker *w, int fd, uint64_t tag)
{
	/* A device's socket is read by its driver, of which another worker may be the one, its interrupt by nobody. */
	return watch(w, fd, tag, tag == DP_TAG_DEVICE ? EPOLLET : 0);
}

int
dp_worker_watch_edge(struct dp_worker *w, int fd, uint64_t tag)
{
	return watch(w, fd, tag, EPOLLET);
}

void
dp_worker_unwatch(struct dp_worker *w, int fd)
{
	epoll_ctl(w->epoll, EPOLL_CTL_DEL, fd, NULL);
}

void
dp_worker_mask(struct dp_worker *w, int fd, uint64_t tag, bool masked)
{
	struct epoll_event event = { .events = masked ? 0 : EPOLLIN, .data.u64 = tag };

	epoll_ctl(w->epoll, EPOLL_CTL_MOD, fd, &event);
}

void
dp_port_mask(struct dp_worker *w, struct dp_port *port, bool masked)
{
	if (port->worker[w->id].masked == masked)
		return;
	port->worker[w->id].masked = masked;
	dp_worker_mask(w, port->fds[w->id], port->id, masked);
}

void
dp_worker_wake(struct dp_worker *w)
{
	eventfd_write(w->wake, 1);
}
