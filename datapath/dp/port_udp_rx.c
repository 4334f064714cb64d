// SPDX-License-Identifier: Apache-2.0
/* From the underlay: datagrams with the segments that the kernel gathered (UDP_GRO), taken apart for decapsulation. */
#include "port.h"
#include "pure_esp.h"
#include "pure_partial.h"

/* The most packets that the kernel gathers in a datagram, or lets be sent as one: linux/udp.h, UDP_MAX_SEGMENTS. */
#define GATHERED_MAX 128

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

static struct dp_addr
address(const struct sockaddr_in6 *from)
{
	return from->sin6_family == AF_INET ? dp_addr4(&((const struct sockaddr_in *)from)->sin_addr) : dp_addr6(&from->sin6_addr);
}

/*
 * The size of segments that the kernel tells may be that of the inner packet: a Linux VTEP has given a UDP super-frame to a card
 * that is none, and it is in one VXLAN packet as long as the datagram. Then the first packet's frame does not end within the size.
 */
static bool
first_overruns(const struct dp_udp_datagram *d)
{
	enum dp_parse_result first;
	struct dp_hdrs h;

	if (d->size < DP_VXLAN_LEN)
		return true;
	if (dp_is_esp(d->data))
		return false; /* nobody but its sender chose its bytes */
	first = dp_parse_fast(d->data + DP_VXLAN_LEN, d->size - DP_VXLAN_LEN, &h);
	return first != DP_PARSE_OK && first != DP_PARSE_NOT_IP;
}

/* Whether it is one that can be delivered as such. Others have a VLAN tag, a tunnel or a routing header inside, and are dropped, cut up. */
static bool
is_whole(const struct dp_udp_datagram *d)
{
	const uint8_t *frame = d->data + DP_VXLAN_LEN;
	uint32_t len = d->len - DP_VXLAN_LEN;
	struct dp_hdrs h;

	return d->len > DP_VXLAN_LEN && dp_parse_fast(frame, len, &h) == DP_PARSE_OK && h.end == len && h.proto == IPPROTO_UDP && dp_is_partial(frame, &h);
}

/* Whether what begins at data may be a packet of the VTEP's. */
static bool
may_be_from(const struct dp_vtep *from, const uint8_t *data, uint32_t len)
{
	const dp_vxlan_hdr *vxlan = (const void *)data;
	const struct dp_vtep *owner;
	struct dp_fdb_entry source;

	if (len < DP_VXLAN_LEN + DP_ETH_LEN || !(vxlan->vx_flags & htonl(DP_VXLAN_FLAG_I)))
		return false;
	source = dp_fdb_lookup_one(ntohl(vxlan->vx_vni) >> 8, (const uint8_t *)&((const dp_ether_hdr *)(vxlan + 1))->src_addr);
	owner = source.kind == DP_KIND_VTEP ? dp_vtep_get(source.index) : NULL;
	return owner && dp_addr_equal(&owner->addr, &from->addr);
}

/*
 * Whether a super-frame is as good as packets that the kernel has gathered. Its sender chose its bytes, or the length in the first
 * packet's header: taken for packets it would speak for others, and as one it would tell of others' packets.
 */
static bool
is_ambiguous(const struct dp_udp_datagram *d, bool whole)
{
	if (whole && d->len > (uint64_t)d->size * GATHERED_MAX)
		return false;
	for (uint32_t at = d->size; at < d->len; at += d->size)
		if (may_be_from(d->from, d->data + at, RTE_MIN(d->size, d->len - at)))
			return true;
	return false;
}

void
dp_udp_take(struct dp_worker *w, struct dp_udp_datagram d)
{
	if (d.size < d.len && unlikely(first_overruns(&d))) {
		bool whole = is_whole(&d);

		if (is_ambiguous(&d, whole)) {
			dp_drop_payload(w, DP_DROP_UNDERLAY_AMBIGUOUS, d.from, d.data, d.len);
			return;
		}
		if (whole) {
			d.gso_size = d.size;
			d.size = d.len;
		}
	}
	w->udp.rx = d;
}

static void
open_datagram(struct dp_worker *w, unsigned i)
{
	struct dp_udp *udp = &w->udp;
	struct msghdr *msg = &udp->rx_msgs[i].msg_hdr;
	struct dp_udp_datagram d = { .data = udp->rx_iovs[i].iov_base, .len = udp->rx_msgs[i].msg_len, .size = udp->rx_msgs[i].msg_len };
	struct dp_addr addr;
	uint32_t packets;

	read_control(msg, &d.size, &d.tos);
	packets = d.size ? (d.len + d.size - 1) / d.size : 1;
	w->underlay.rx_packets += packets;
	w->underlay.rx_bytes += d.len;
	if (msg->msg_flags & MSG_TRUNC) {
		dp_count(w, DP_DROP_UNDERLAY_TRUNCATED);
		return;
	}
	addr = address(&udp->rx_from[i]);
	d.from = dp_vtep_lookup(&addr);
	if (!d.from) {
		w->drops[DP_DROP_VTEP_UNKNOWN] += packets;
		if (unlikely(w->capturing))
			dp_capture_payload(w, DP_DROP_VTEP_UNKNOWN, &addr, d.data, RTE_MIN(d.len, d.size));
		return;
	}
	d.from->worker[w->id].traffic.rx_packets += packets;
	d.from->worker[w->id].traffic.rx_bytes += d.len;
	if (!d.len)
		dp_count(w, DP_DROP_RUNT);
	dp_udp_take(w, d);
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

		packets[n++] = (struct dp_packet){ .data = d.data, .len = len, .tos = d.tos, .gso_size = d.gso_size, .from = d.from };
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
