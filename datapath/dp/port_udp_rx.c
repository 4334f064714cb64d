// SPDX-License-Identifier: Apache-2.0
/* From the underlay: datagrams with the segments that the kernel gathered (UDP_GRO), taken apart for decapsulation. */
#include "port.h"

/* What is read at once stays in the cache until it is written. */
#define RECEIVE_BYTES (256 * 1024)

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
	struct dp_addr addr = from->sin6_family == AF_INET ? dp_addr4(&((const struct sockaddr_in *)from)->sin_addr) : dp_addr6(&from->sin6_addr);

	return dp_vtep_lookup(&addr);
}

/* Its packets are udp->rx then, or it is dropped. */
static void
open_datagram(struct dp_worker *w, unsigned i)
{
	struct dp_udp *udp = &w->udp;
	struct msghdr *msg = &udp->rx_msgs[i].msg_hdr;
	struct dp_udp_datagram d = { .data = udp->rx_iovs[i].iov_base, .len = udp->rx_msgs[i].msg_len, .size = udp->rx_msgs[i].msg_len };
	uint32_t packets;

	read_control(msg, &d.size, &d.tos);
	packets = d.size ? (d.len + d.size - 1) / d.size : 1;
	w->underlay.rx_packets += packets;
	w->underlay.rx_bytes += d.len;
	if (msg->msg_flags & MSG_TRUNC) {
		dp_count(w, DP_DROP_UNDERLAY_TRUNCATED);
		return;
	}
	d.from = sender(&udp->rx_from[i]);
	if (!d.from) {
		w->drops[DP_DROP_VTEP_UNKNOWN] += packets;
		return;
	}
	if (!d.len)
		dp_count(w, DP_DROP_RUNT);
	udp->rx = d;
}

unsigned
dp_udp_packets(struct dp_worker *w, struct dp_packet *packets)
{
	struct dp_udp *udp = &w->udp;
	struct dp_udp_datagram d;
	unsigned n = 0;

	while (!udp->rx.len && udp->rx_opened < udp->rx_read)
		open_datagram(w, udp->rx_opened++);
	d = udp->rx;
	while (d.len && n < DP_BURST) {
		uint32_t len = RTE_MIN(d.size, d.len);

		packets[n++] = (struct dp_packet){ .data = d.data, .len = len, .tos = d.tos, .from = d.from };
		d.data += len;
		d.len -= len;
	}
	udp->rx = d;
	return n;
}

bool
dp_udp_read(struct dp_worker *w)
{
	struct dp_udp *udp = &w->udp;
	uint64_t bytes = 0;
	bool more;
	int got;

	for (unsigned i = 0; i < udp->rx_vlen; i++) {
		udp->rx_msgs[i].msg_hdr.msg_namelen = sizeof(udp->rx_from[i]);
		udp->rx_msgs[i].msg_hdr.msg_controllen = DP_UDP_CONTROL;
	}
	got = recvmmsg(udp->rx_fd, udp->rx_msgs, udp->rx_vlen, MSG_DONTWAIT, NULL);
	udp->rx_read = RTE_MAX(got, 0);
	udp->rx_opened = 0;
	if (!udp->rx_read)
		return false;
	for (int i = 0; i < got; i++)
		bytes += udp->rx_msgs[i].msg_len;
	more = udp->rx_read == udp->rx_vlen;
	udp->rx_vlen = RTE_MAX(1u, RTE_MIN((uint64_t)DP_UDP_MSGS, RECEIVE_BYTES / (bytes / got + 1)));
	return more;
}
