// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <linux/sock_diag.h>
#include <rte_random.h>

#include "bytes.h"
#include "csum.h"
#include "gso.h"
#include "pipeline.h"

#define BUFFER_BYTES (8 << 20)
/* RFC 7348 section 5 wants the source port among the dynamic ones. */
#define SOURCE_FIRST 49152
#define SOURCE_COUNT 16384
#define SOURCE_TRIES 256
/* linux/udp.h: UDP_MAX_SEGMENTS where it is smallest, and what fits behind the larger outer header in 64 KiB. */
#define RUN_SEGMENTS 64
#define RUN_BYTES (65535 - 40 - 8)
/* What is read at once stays in the cache until it is written. */
#define RECEIVE_BYTES (256 * 1024)
#define WAIT_MS 1

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

/* -EAFNOSUPPORT where the host lacks the family. */
static int
send_socket(int family)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	int vtep_family = memcmp(dp.config.vtep.b, mapped, 12) ? AF_INET6 : AF_INET;
	const struct dp_addr *from = family == vtep_family ? &dp.config.vtep : NULL;
	struct sockaddr_storage addr;
	int ret = -EADDRINUSE;
	int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	set_int(fd, SOL_SOCKET, SO_SNDBUFFORCE, BUFFER_BYTES);
	if (family == AF_INET)
		set_int(fd, SOL_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO);
	else
		set_int(fd, SOL_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO);
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
	for (unsigned i = 0; i < DP_UDP_SOURCES; i++) {
		udp->tx4[i] = send_socket(AF_INET);
		udp->tx6[i] = send_socket(AF_INET6);
		if (udp->tx4[i] < 0 && udp->tx6[i] < 0) {
			snprintf(err, DP_ERR_LEN, "cannot send from the VTEP's address: %s", strerror(-udp->tx4[i]));
			return udp->tx4[i];
		}
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

	udp->rx = -1;
	memset(udp->tx4, -1, sizeof(udp->tx4));
	memset(udp->tx6, -1, sizeof(udp->tx6));
	udp->slots = malloc((size_t)DP_UDP_SLOTS * DP_UDP_SLOT_LEN);
	if (!udp->slots || rte_pktmbuf_alloc_bulk(dp.pool, udp->mbufs, DP_UDP_MSGS)) {
		snprintf(err, DP_ERR_LEN, "no memory for packets");
		return -ENOMEM;
	}
	ret = w->id ? 0 : port_free(dp.config.port, err);
	if (ret)
		return ret;
	udp->rx = receive_socket(dp.config.port, true);
	if (udp->rx < 0) {
		snprintf(err, DP_ERR_LEN, "UDP port %u: %s", dp.config.port, strerror(-udp->rx));
		return udp->rx;
	}
	prepare_receive(udp);
	ret = open_sources(udp, err);
	return ret ? ret : dp_worker_watch(w, udp->rx, DP_TAG_UNDERLAY);
}

void
dp_udp_close(struct dp_worker *w)
{
	struct dp_udp *udp = &w->udp;

	close(udp->rx);
	for (unsigned i = 0; i < DP_UDP_SOURCES; i++) {
		close(udp->tx4[i]);
		close(udp->tx6[i]);
	}
	rte_pktmbuf_free_bulk(udp->mbufs, DP_UDP_MSGS);
	free(udp->slots);
}

static enum dp_drop
send_drop(int error)
{
	switch (error) {
	case EMSGSIZE:
	case EINVAL: /* a segment with its headers is longer than the path: udp_send_skb() */
		return DP_DROP_UNDERLAY_MTU;
	case EAGAIN:
	case ENOBUFS:
	case ENOMEM:
		return DP_DROP_UNDERLAY_FULL;
	case ENETUNREACH:
	case EHOSTUNREACH:
	case ENETDOWN:
		return DP_DROP_UNDERLAY_UNREACHABLE;
	default:
		return DP_DROP_UNDERLAY_ERROR;
	}
}

static void
add_control(struct msghdr *msg, int level, int type, const void *value, size_t len)
{
	struct cmsghdr *c = (struct cmsghdr *)((char *)msg->msg_control + msg->msg_controllen);

	c->cmsg_level = level;
	c->cmsg_type = type;
	c->cmsg_len = CMSG_LEN(len);
	memcpy(CMSG_DATA(c), value, len);
	msg->msg_controllen += CMSG_SPACE(len);
}

static void
close_message(struct msghdr *msg, const struct dp_udp_run *run)
{
	bool v4 = run->to->to.ss_family == AF_INET;
	int tos = run->tos;

	if (run->segments > 1)
		add_control(msg, SOL_UDP, UDP_SEGMENT, &run->size, sizeof(run->size));
	if (tos)
		add_control(msg, v4 ? SOL_IP : SOL_IPV6, v4 ? IP_TOS : IPV6_TCLASS, &tos, sizeof(tos));
	if (!msg->msg_controllen)
		msg->msg_control = NULL;
}

/* Sends messages [at, end), all from one socket; what the kernel refuses is counted and passed over. */
static void
send_some(struct dp_worker *w, unsigned at, unsigned end)
{
	struct dp_udp *udp = &w->udp;
	bool waited = false;

	while (at < end) {
		int fd = udp->runs[at].fd;
		int sent = fd < 0 ? -1 : sendmmsg(fd, udp->tx_msgs + at, end - at, MSG_DONTWAIT);
		int error = fd < 0 ? ENETUNREACH : errno;

		for (int i = 0; i < sent; i++, at++) {
			w->underlay.tx_packets += udp->runs[at].segments;
			w->underlay.tx_bytes += udp->runs[at].bytes;
		}
		if (sent > 0)
			continue;
		if (error == EAGAIN && !waited) {
			poll(&(struct pollfd){ .fd = fd, .events = POLLOUT }, 1, WAIT_MS);
			waited = true;
			continue;
		}
		w->drops[send_drop(error)] += udp->runs[at++].segments;
	}
}

void
dp_udp_flush(struct dp_worker *w)
{
	struct dp_udp *udp = &w->udp;
	unsigned at = 0;

	for (unsigned i = 0; i < udp->n_runs; i++)
		close_message(&udp->tx_msgs[i].msg_hdr, &udp->runs[i]);
	for (unsigned i = 1; i <= udp->n_runs; i++) {
		if (i < udp->n_runs && udp->runs[i].fd == udp->runs[at].fd)
			continue;
		send_some(w, at, i);
		at = i;
	}
	udp->n_runs = 0;
	udp->n_iovs = 0;
	udp->n_slots = 0;
}

static struct msghdr *
start_run(struct dp_udp *udp, struct dp_udp_run run)
{
	unsigned i = udp->n_runs++;
	struct msghdr *msg = &udp->tx_msgs[i].msg_hdr;

	udp->runs[i] = run;
	*msg = (struct msghdr){
		.msg_name = (void *)&run.to->to,
		.msg_namelen = run.to->to_len,
		.msg_iov = &udp->iovs[udp->n_iovs],
		.msg_control = udp->tx_control[i],
	};
	return msg;
}

/* Adds one UDP payload of n pieces to the open run if it fits there, else to a new one. There is room: make_room. */
static void
add_packet(struct dp_udp *udp, struct dp_udp_run run, const struct iovec *iov, unsigned n)
{
	struct dp_udp_run *open = udp->n_runs ? &udp->runs[udp->n_runs - 1] : NULL;
	struct msghdr *msg;

	if (open && !open->closed && open->to == run.to && open->fd == run.fd && open->tos == run.tos && run.size <= open->size &&
	    open->segments < RUN_SEGMENTS && open->bytes + run.size <= RUN_BYTES) {
		msg = &udp->tx_msgs[udp->n_runs - 1].msg_hdr;
		open->segments++;
		open->bytes += run.size;
		open->closed = run.size < open->size;
	} else {
		run.segments = 1;
		run.bytes = run.size;
		msg = start_run(udp, run);
	}
	memcpy(&udp->iovs[udp->n_iovs], iov, n * sizeof(*iov));
	udp->n_iovs += n;
	msg->msg_iovlen += n;
}

static void
make_room(struct dp_worker *w)
{
	struct dp_udp *udp = &w->udp;

	if (udp->n_runs == DP_UDP_MSGS || udp->n_iovs + 2 > DP_UDP_IOVS || udp->n_slots == DP_UDP_SLOTS)
		dp_udp_flush(w);
}

static void
put_vxlan(uint8_t *at, uint32_t vni)
{
	dp_store_be32(at, 0x08000000);
	dp_store_be32(at + 4, vni << 8);
}

static void
send_segments(struct dp_worker *w, struct dp_frame *f, struct dp_udp_run run)
{
	struct dp_gso gso;
	int n = dp_gso_plan(&gso, f->data, &f->hdrs, &f->vnet);

	if (n < 0) {
		dp_count(w, DP_DROP_OFFLOAD);
		return;
	}
	for (int i = 0; i < n; i++) {
		const uint8_t *payload;
		uint32_t payload_len;
		uint8_t *slot;

		make_room(w);
		slot = w->udp.slots[w->udp.n_slots++];
		put_vxlan(slot, f->vni);
		dp_gso_segment(&gso, i, slot + DP_VXLAN_LEN, &payload, &payload_len);
		run.size = DP_VXLAN_LEN + gso.hdr_len + payload_len;
		add_packet(&w->udp, run, (struct iovec[]){ { slot, DP_VXLAN_LEN + gso.hdr_len }, { (void *)payload, payload_len } }, 2);
	}
}

static uint8_t
congestion_outwards(const struct dp_frame *f)
{
	const uint8_t *ip = f->data + f->hdrs.l3;

	return f->hdrs.version == 4 ? ip[1] & 3 : f->hdrs.version == 6 ? ip[1] >> 4 & 3 : 0;
}

void
dp_udp_send(struct dp_worker *w, struct dp_frame *f, const struct dp_vtep *to)
{
	unsigned source = dp_flow_hash(f->data, &f->hdrs) % DP_UDP_SOURCES;
	struct dp_udp_run run = {
		.to = to,
		.fd = to->to.ss_family == AF_INET ? w->udp.tx4[source] : w->udp.tx6[source],
		.tos = congestion_outwards(f),
	};

	if (f->vnet.gso_type != VIRTIO_NET_HDR_GSO_NONE) {
		send_segments(w, f, run);
		return;
	}
	if (f->vnet.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
		if (dp_csum_complete(f->data, f->len, f->vnet.csum_start, f->vnet.csum_offset)) {
			dp_count(w, DP_DROP_OFFLOAD);
			return;
		}
		f->vnet.flags = 0; /* done, should the frame go to another VTEP as well */
	}
	if (f->len > RUN_BYTES - DP_VXLAN_LEN) {
		dp_count(w, DP_DROP_UNDERLAY_MTU);
		return;
	}
	make_room(w);
	put_vxlan(f->data - DP_VXLAN_LEN, f->vni);
	run.size = DP_VXLAN_LEN + f->len;
	add_packet(&w->udp, run, &(struct iovec){ f->data - DP_VXLAN_LEN, run.size }, 1);
}

/* What came with a datagram: the size of its segments (its own where it is one packet), and the outer traffic class. */
static void
read_control(struct msghdr *msg, uint32_t *size, uint8_t *tos)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
			int gro;

			memcpy(&gro, CMSG_DATA(c), sizeof(gro));
			*size = gro > 0 ? (uint32_t)gro : *size;
		} else if (c->cmsg_level == SOL_IP && c->cmsg_type == IP_TOS) {
			*tos = *(uint8_t *)CMSG_DATA(c);
		} else if (c->cmsg_level == SOL_IPV6 && c->cmsg_type == IPV6_TCLASS) {
			int class;

			memcpy(&class, CMSG_DATA(c), sizeof(class));
			*tos = class;
		}
	}
}

static const struct dp_vtep *
sender(const struct sockaddr_in6 *from)
{
	struct dp_addr addr;

	if (from->sin6_family == AF_INET)
		addr = dp_addr4((const uint8_t *)&((const struct sockaddr_in *)from)->sin_addr);
	else
		memcpy(addr.b, &from->sin6_addr, 16);
	return dp_vtep_lookup(&addr);
}

static void
take_datagram(struct dp_worker *w, unsigned i)
{
	struct dp_udp *udp = &w->udp;
	struct msghdr *msg = &udp->rx_msgs[i].msg_hdr;
	uint32_t len = udp->rx_msgs[i].msg_len, size = len, n = 0;
	uint8_t *data = udp->rx_iovs[i].iov_base, tos = 0;
	struct dp_packet packets[DP_BURST];
	const struct dp_vtep *from;

	read_control(msg, &size, &tos);
	w->underlay.rx_packets += size ? (len + size - 1) / size : 1;
	w->underlay.rx_bytes += len;
	if (msg->msg_flags & MSG_TRUNC) {
		dp_count(w, DP_DROP_UNDERLAY_TRUNCATED);
		return;
	}
	from = sender(&udp->rx_from[i]);
	if (!from) {
		w->drops[DP_DROP_VTEP_UNKNOWN] += size ? (len + size - 1) / size : 1;
		return;
	}
	if (!len)
		dp_count(w, DP_DROP_RUNT);
	for (uint32_t at = 0; at < len; at += size) {
		packets[n++] = (struct dp_packet){ data + at, RTE_MIN(size, len - at) };
		if (n == DP_BURST || at + size >= len) {
			dp_decap(w, from, tos, packets, n);
			n = 0;
		}
	}
}

bool
dp_udp_receive(struct dp_worker *w)
{
	struct dp_udp *udp = &w->udp;
	uint64_t bytes = 0;
	int got;

	for (unsigned i = 0; i < udp->rx_vlen; i++) {
		udp->rx_msgs[i].msg_hdr.msg_namelen = sizeof(udp->rx_from[i]);
		udp->rx_msgs[i].msg_hdr.msg_controllen = DP_UDP_CONTROL;
	}
	got = recvmmsg(udp->rx, udp->rx_msgs, udp->rx_vlen, MSG_DONTWAIT, NULL);
	if (got <= 0)
		return false;
	for (int i = 0; i < got; i++) {
		bytes += udp->rx_msgs[i].msg_len;
		take_datagram(w, i);
	}
	dp_decap_flush(w);
	bool more = (unsigned)got == udp->rx_vlen;
	udp->rx_vlen = RTE_MAX(1u, RTE_MIN((uint64_t)DP_UDP_MSGS, RECEIVE_BYTES / (bytes / got + 1)));
	return more;
}

uint64_t
dp_udp_overflows(const struct dp_udp *udp)
{
	uint32_t info[SK_MEMINFO_VARS] = { 0 };
	socklen_t len = sizeof(info);

	return getsockopt(udp->rx, SOL_SOCKET, SO_MEMINFO, info, &len) ? 0 : info[SK_MEMINFO_DROPS];
}
