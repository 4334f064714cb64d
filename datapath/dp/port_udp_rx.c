// SPDX-License-Identifier: Apache-2.0
/* From the underlay: datagrams with the segments that the kernel gathered (UDP_GRO), taken apart for decapsulation. */
#include "pipeline.h"

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
		packets[n++] = (struct dp_packet){ .data = data + at, .len = RTE_MIN(size, len - at), .tos = tos, .from = from };
		if (n == DP_BURST || at + size >= len) {
			dp_decap(w, packets, n);
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
	if (got <= 0) {
		dp_share_settle(&w->share, false, false);
		return false;
	}
	for (int i = 0; i < got; i++) {
		bytes += udp->rx_msgs[i].msg_len;
		take_datagram(w, i);
	}
	dp_decap_flush(w);
	bool more = (unsigned)got == udp->rx_vlen;
	dp_share_settle(&w->share, more, w->share.pressed && dp_udp_half_full(udp));
	udp->rx_vlen = RTE_MAX(1u, RTE_MIN((uint64_t)DP_UDP_MSGS, RECEIVE_BYTES / (bytes / got + 1)));
	return more;
}
