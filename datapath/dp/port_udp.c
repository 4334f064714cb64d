// SPDX-License-Identifier: Apache-2.0
/* The sockets of the udp underlay: one for receiving and a pool of source ports for each worker. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <linux/filter.h>
#include <linux/sock_diag.h>
#include <rte_random.h>

#include "port.h"

#define BUFFER_BYTES (8 << 20)
/* RFC 7348 section 5 wants the source port among the dynamic ones. */
#define SOURCE_FIRST 49152
#define SOURCE_COUNT 16384
#define SOURCE_TRIES 256

static int
set_int(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof(value)) ? -errno : 0;
}

static socklen_t
sockaddr_of(struct sockaddr_storage *to, int family, const struct dp_addr *addr, uint16_t port)
{
	memset(to, 0, sizeof(*to));
	to->ss_family = family;
	if (family == AF_INET) {
		struct sockaddr_in *in = (struct sockaddr_in *)to;

		in->sin_port = htons(port);
		if (addr)
			memcpy(&in->sin_addr, addr->b + 12, 4);
		return sizeof(*in);
	}
	((struct sockaddr_in6 *)to)->sin6_port = htons(port);
	if (addr)
		memcpy(&((struct sockaddr_in6 *)to)->sin6_addr, addr->b, 16);
	return sizeof(struct sockaddr_in6);
}

/* A dual-stack socket, or IPv4 alone on a host without IPv6. */
static int
receive_socket(uint16_t port, bool shared)
{
	struct sockaddr_storage any;
	int family = AF_INET6, ret;
	int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0 && errno == EAFNOSUPPORT) {
		family = AF_INET;
		fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	}
	if (fd < 0)
		return -errno;
	set_int(fd, SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES);
	set_int(fd, SOL_IP, IP_RECVTOS, 1);
	set_int(fd, SOL_UDP, UDP_GRO, 1);
	if (family == AF_INET6) {
		set_int(fd, SOL_IPV6, IPV6_V6ONLY, 0);
		set_int(fd, SOL_IPV6, IPV6_RECVTCLASS, 1);
		set_int(fd, SOL_UDP, UDP_NO_CHECK6_RX, 1);
	}
	ret = shared ? set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1) : 0;
	if (!ret && bind(fd, (struct sockaddr *)&any, sockaddr_of(&any, family, NULL, port)))
		ret = -errno;
	if (ret) {
		close(fd);
		return ret;
	}
	return fd;
}

static int
vtep_family(void)
{
	return dp_addr_is4(&dp.config.vtep) ? AF_INET : AF_INET6;
}

static void
note_port(struct dp_udp *udp, unsigned i)
{
	struct sockaddr_in6 own = { 0 }; /* an IPv4 address has its port there too */
	socklen_t len = sizeof(own);

	getsockname(vtep_family() == AF_INET ? udp->tx4[i] : udp->tx6[i], (struct sockaddr *)&own, &len);
	atomic_store_explicit(&udp->ports[i], own.sin6_port, memory_order_relaxed);
}

/* -EAFNOSUPPORT where the host lacks the family. */
static int
send_socket(int family)
{
	const struct dp_addr *from = family == vtep_family() ? &dp.config.vtep : NULL;
	struct sockaddr_storage addr;
	int ret = -EADDRINUSE;
	int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	set_int(fd, SOL_SOCKET, SO_SNDBUFFORCE, BUFFER_BYTES);
	/* What routers say of the path is looked into before it counts, and then it counts in dp_vtep_mtu: the kernel believes more. */
	if (family == AF_INET) {
		set_int(fd, SOL_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);
	} else {
		set_int(fd, SOL_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE);
		/* Routers may hash the label: a flow's super-frames from the tap have none, as all of the kernel's VXLAN. */
		set_int(fd, SOL_IPV6, IPV6_AUTOFLOWLABEL, 0);
	}
	for (unsigned i = 0; i < SOURCE_TRIES && ret == -EADDRINUSE; i++) {
		socklen_t len = sockaddr_of(&addr, family, from, SOURCE_FIRST + rte_rand_max(SOURCE_COUNT));

		ret = bind(fd, (struct sockaddr *)&addr, len) ? -errno : 0;
	}
	if (ret) {
		close(fd);
		return ret;
	}
	return fd;
}

static int
open_sources(struct dp_udp *udp, char *err)
{
	int own, other;

	for (unsigned i = 0; i < DP_UDP_SOURCES; i++) {
		udp->tx4[i] = send_socket(AF_INET);
		udp->tx6[i] = send_socket(AF_INET6);
		own = vtep_family() == AF_INET ? udp->tx4[i] : udp->tx6[i];
		other = vtep_family() == AF_INET ? udp->tx6[i] : udp->tx4[i];
		note_port(udp, i);
		if (own >= 0 && (other >= 0 || other == -EAFNOSUPPORT || other == -EADDRNOTAVAIL))
			continue;
		snprintf(err, DP_ERR_LEN, "cannot send from the VTEP's address: %s", strerror(own < 0 ? -own : -other));
		return own < 0 ? own : other;
	}
	return 0;
}

static void
prepare_receive(struct dp_udp *udp)
{
	for (unsigned i = 0; i < DP_UDP_MSGS; i++) {
		udp->rx_iovs[i] = (struct iovec){ udp->mbufs[i]->buf_addr, DP_BUF_LEN };
		udp->rx_msgs[i].msg_hdr = (struct msghdr){
			.msg_name = &udp->rx_from[i],
			.msg_iov = &udp->rx_iovs[i],
			.msg_iovlen = 1,
			.msg_control = udp->rx_control[i],
		};
	}
	udp->rx_vlen = DP_UDP_MSGS;
}

/* SO_REUSEPORT would share the port with whoever has it too: the first worker asks whether it is free. */
static int
port_free(uint16_t port, char *err)
{
	int fd = receive_socket(port, false);

	if (fd < 0) {
		snprintf(err, DP_ERR_LEN, "UDP port %u: %s", port, strerror(-fd));
		return fd;
	}
	close(fd);
	return 0;
}

int
dp_udp_open(struct dp_worker *w, char *err)
{
	struct dp_udp *udp = &w->udp;
	int ret;

	udp->rx_fd = -1;
	memset(udp->tx4, -1, sizeof(udp->tx4));
	memset(udp->tx6, -1, sizeof(udp->tx6));
	udp->slots = malloc((size_t)DP_UDP_SLOTS * DP_UDP_SLOT_LEN);
	udp->sealed = malloc(DP_UDP_SEALED_LEN);
	if (!udp->slots || !udp->sealed || rte_pktmbuf_alloc_bulk(dp.pool, udp->mbufs, DP_UDP_MSGS)) {
		snprintf(err, DP_ERR_LEN, "no memory for packets");
		return -ENOMEM;
	}
	ret = w->id ? 0 : port_free(dp.config.port, err);
	if (ret)
		return ret;
	udp->rx_fd = receive_socket(dp.config.port, true);
	if (udp->rx_fd < 0) {
		snprintf(err, DP_ERR_LEN, "UDP port %u: %s", dp.config.port, strerror(-udp->rx_fd));
		return udp->rx_fd;
	}
	prepare_receive(udp);
	ret = open_sources(udp, err);
	return ret ? ret : dp_worker_watch(w, udp->rx_fd, DP_TAG_UNDERLAY);
}

void
dp_udp_close(struct dp_worker *w)
{
	struct dp_udp *udp = &w->udp;

	close(udp->rx_fd);
	for (unsigned i = 0; i < DP_UDP_SOURCES; i++) {
		close(udp->tx4[i]);
		close(udp->tx6[i]);
	}
	rte_pktmbuf_free_bulk(udp->mbufs, DP_UDP_MSGS);
	free(udp->slots);
	free(udp->sealed);
}

int
dp_udp_ignore(uint32_t ifindex)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, SKF_AD_OFF + SKF_AD_IFINDEX),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ifindex, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, SKF_AD_OFF + SKF_AD_PROTOCOL),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, vtep_family() == AF_INET ? ETH_P_IP : ETH_P_IPV6, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
	};
	struct sock_fprog filter = { sizeof(code) / sizeof(code[0]), code };

	for (unsigned i = 0; i < dp.config.n_workers; i++) {
		struct dp_udp *udp = &dp.workers[i]->udp;

		if (setsockopt(udp->rx_fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)))
			return -errno;
		/* A copy of what the kernel has gathered for the socket is longer than the device's buffers. */
		set_int(udp->rx_fd, SOL_UDP, UDP_GRO, 0);
		udp->filtered = true;
	}
	return 0;
}

/* A worker may be sending by the socket's number: it keeps it. */
static int
rebind(int fd)
{
	int fresh = send_socket(vtep_family()), ret;

	if (fresh < 0)
		return fresh;
	ret = dup3(fresh, fd, O_CLOEXEC) < 0 ? -errno : 0;
	close(fresh);
	return ret;
}

int
dp_udp_move(struct dp_addr vtep)
{
	struct dp_addr before = dp.config.vtep;
	int ret = 0;

	if (dp_addr_is4(&vtep) != dp_addr_is4(&before))
		return -EAFNOSUPPORT;
	dp.config.vtep = vtep;
	for (unsigned w = 0; w < dp.config.n_workers; w++) {
		struct dp_udp *udp = &dp.workers[w]->udp;

		for (unsigned i = 0; i < DP_UDP_SOURCES && !ret; i++) {
			ret = rebind(vtep_family() == AF_INET ? udp->tx4[i] : udp->tx6[i]);
			note_port(udp, i);
		}
	}
	if (ret)
		dp.config.vtep = before;
	return ret;
}

static bool
memory_info(const struct dp_udp *udp, uint32_t info[SK_MEMINFO_VARS])
{
	socklen_t len = SK_MEMINFO_VARS * sizeof(*info);

	return !getsockopt(udp->rx_fd, SOL_SOCKET, SO_MEMINFO, info, &len) && len == SK_MEMINFO_VARS * sizeof(*info);
}

double
dp_udp_fill(const struct dp_udp *udp)
{
	uint32_t info[SK_MEMINFO_VARS];

	return memory_info(udp, info) ? (double)info[SK_MEMINFO_RMEM_ALLOC] / info[SK_MEMINFO_RCVBUF] : 0;
}

/* The kernel counts what its filter drops among them: then they cannot be told. */
uint64_t
dp_udp_overflows(const struct dp_udp *udp)
{
	uint32_t info[SK_MEMINFO_VARS];

	return !udp->filtered && memory_info(udp, info) ? info[SK_MEMINFO_DROPS] : 0;
}
