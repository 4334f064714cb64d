// SPDX-License-Identifier: Apache-2.0
/*
 * A container's tap (linux/if_tun.h): one system call moves a frame of up to 64 KiB with its virtio-net header. Taps
 * are persistent, so that they outlive the daemon.
 */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "port_turn.h"

/* A frame and its virtio-net header, and a byte by which a longer one shows: the kernel cuts it off silently. */
#define READ_LEN (DP_VNET_LEN + DP_FRAME_MAX + 1)

static int
queue_open(const char *name, short multi_queue)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | multi_queue };
	unsigned offload = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	int ret;

	if (fd < 0)
		return -errno;
	snprintf(ifr.ifr_name, IFNAMSIZ, "%s", name);
	if (!ioctl(fd, TUNSETIFF, &ifr)) {
		if (!ioctl(fd, TUNSETOFFLOAD, offload | TUN_F_USO4 | TUN_F_USO6)) {
			atomic_store_explicit(&dp.uso, true, memory_order_relaxed);
			return fd;
		}
		if (!ioctl(fd, TUNSETOFFLOAD, offload))
			return fd;
	}
	ret = -errno;
	close(fd);
	return ret;
}

/*
 * The kernel sets up 256 queues for a tap of several, some megabytes in all: one worker has a tap of one. What a tap is it
 * stays, though, and workers may be more or fewer when it is attached to again.
 */
static int
first_queue(const char *name, unsigned n_queues, short *multi_queue)
{
	int fd;

	*multi_queue = n_queues > 1 ? IFF_MULTI_QUEUE : 0;
	fd = queue_open(name, *multi_queue);
	if (fd != -EINVAL)
		return fd;
	*multi_queue ^= IFF_MULTI_QUEUE;
	return queue_open(name, *multi_queue);
}

int
dp_tap_open(const char *name, unsigned n_queues, int *fds)
{
	short multi_queue;
	int ret = 0;

	fds[0] = first_queue(name, n_queues, &multi_queue);
	if (fds[0] < 0)
		return fds[0];
	for (unsigned i = 1; i < n_queues; i++) {
		fds[i] = multi_queue ? queue_open(name, multi_queue) : fds[0];
		if (fds[i] < 0) {
			ret = fds[i];
			dp_tap_close(i, fds, true);
			return ret;
		}
	}
	/* Last, so that a tap that could not be made whole goes with its queues. */
	if (ioctl(fds[0], TUNSETPERSIST, 1)) {
		ret = -errno;
		dp_tap_close(n_queues, fds, true);
	}
	return ret;
}

void
dp_tap_close(unsigned n_queues, const int *fds, bool keep)
{
	if (!keep && n_queues)
		ioctl(fds[0], TUNSETPERSIST, 0);
	for (unsigned i = 0; i < n_queues; i++)
		if (!i || fds[i] != fds[0])
			close(fds[i]);
}

enum dp_read
dp_tap_read(struct dp_worker *w, struct dp_port *port, struct rte_mbuf *buffer, struct dp_frame *f)
{
	uint8_t *data = (uint8_t *)buffer->buf_addr + DP_HEADROOM;
	ssize_t got = read(port->fds[w->id], data - DP_VNET_LEN, READ_LEN);

	if (got < 0) {
		/* The container's side is gone, and epoll would tell for ever. */
		if (errno == EBADFD)
			dp_worker_unwatch(w, port->fds[w->id]);
		return DP_READ_EMPTY;
	}
	if ((size_t)got < DP_VNET_LEN) {
		dp_port_count(w, DP_DROP_RUNT, port);
		return DP_READ_DROPPED;
	}
	if (got == READ_LEN) {
		dp_port_count(w, DP_DROP_OVERSIZE, port);
		return DP_READ_DROPPED;
	}
	f->data = data;
	f->mbuf = NULL; /* the worker's own, and used again */
	f->len = got - DP_VNET_LEN;
	memcpy(&f->vnet, data - DP_VNET_LEN, DP_VNET_LEN);
	port->worker[w->id].traffic.rx_packets++;
	port->worker[w->id].traffic.rx_bytes += f->len;
	return DP_READ_FRAME;
}

static bool
tap_read(struct dp_worker *w, struct dp_port *port)
{
	return dp_port_turn(w, port, dp_tap_read);
}

static void
tap_write(struct dp_worker *w, struct dp_port *port, const struct iovec *iov, int n, uint32_t len)
{
	struct dp_traffic *traffic = &port->worker[w->id].traffic;

	if (writev(port->fds[w->id], iov, n) < 0) {
		dp_port_refused(w, errno == EIO || errno == EBADFD ? DP_DROP_TAP_DOWN : DP_DROP_TAP_WRITE, port, iov, n);
		return;
	}
	traffic->tx_packets++;
	traffic->tx_bytes += len;
}

static void
tap_deliver(struct dp_worker *w, struct dp_port *port, struct dp_frame *f)
{
	struct iovec iov = { f->data - DP_VNET_LEN, DP_VNET_LEN + f->len };

	memcpy(iov.iov_base, &f->vnet, DP_VNET_LEN);
	tap_write(w, port, &iov, 1, f->len);
}

void
dp_tap_stop(struct dp_port *port)
{
	for (unsigned i = 0; i < dp.config.n_workers; i++)
		dp_worker_unwatch(dp.workers[i], port->fds[i]);
}

/* A queue that all share has one reader: two would let a flow's frames overtake each other. */
static bool
reads(const struct dp_port *port, unsigned worker)
{
	bool shared = dp.config.n_workers > 1 && port->fds[0] == port->fds[1];

	return !shared || worker == port->id % dp.config.n_workers;
}

int
dp_tap_start(struct dp_port *port)
{
	for (unsigned i = 0; i < dp.config.n_workers; i++) {
		int ret = reads(port, i) ? dp_worker_watch(dp.workers[i], port->fds[i], port->id) : 0;

		if (ret) {
			dp_tap_stop(port);
			return ret;
		}
	}
	return 0;
}

const struct dp_port_ops dp_tap_ops = {
	.merges = true,
	.start = dp_tap_start,
	.stop = dp_tap_stop,
	.read = tap_read,
	.write = tap_write,
	.deliver = tap_deliver,
};
