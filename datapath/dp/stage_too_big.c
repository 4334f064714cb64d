// SPDX-License-Identifier: Apache-2.0
/*
 * What the path to a VTEP does not carry. A sender that forbids fragments is told by ICMP how long its packets may be (RFC 1191
 * section 4, RFC 8201 section 3), in the name of the destination: the container's kernel takes it from there. Packets that may be
 * fragmented are (RFC 791), before they are encapsulated.
 */
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>

#include "pure_csum.h"
#include "pure_cycles.h"
#include "pure_fragment.h"
#include "pure_gso.h"
#include "stage.h"

/* IP packets of an answer are no longer than this: RFC 1812 section 4.3.2.3, RFC 4443 section 2.4 (c). */
#define ANSWER4_MAX 576
#define ANSWER6_MAX 1280
/* Type, code, checksum, and what the message is about: RFC 792, RFC 4443 section 3.2. */
#define ICMP_LEN 8
/* A port is told at once of so many frames, and then of one in so many microseconds: RFC 1812 section 4.3.2.8. */
#define ANSWER_BURST 64
#define ANSWER_US 1000
#define TTL 64

/* The ways out. */
enum edge {
	DROP_TOO_BIG = DP_DROP_TOO_BIG, /* and its sender is told */
	DROP_UNTOLD = DP_DROP_UNDERLAY_MTU,
	DROP_OFFLOAD = DP_DROP_OFFLOAD,
	IN_FRAGMENTS = DP_DROP_COUNT,
};

static const dp_ipv4_hdr *
ip4_of(const struct dp_frame *f)
{
	return (const void *)(f->data + f->hdrs.l3);
}

static const dp_ipv6_hdr *
ip6_of(const struct dp_frame *f)
{
	return (const void *)(f->data + f->hdrs.l3);
}

/* No error is told of an error, nor of a piece that does not name its flow: RFC 1122 section 3.2.2, RFC 4443 section 2.4 (e). */
static bool
may_be_told4(const struct dp_frame *f)
{
	const uint8_t *icmp = f->data + f->hdrs.l4;

	if (!ip4_of(f)->src_addr || ip4_of(f)->fragment_offset & htons(RTE_IPV4_HDR_OFFSET_MASK))
		return false;
	return f->hdrs.proto != IPPROTO_ICMP || (f->hdrs.l4 < f->hdrs.end && (*icmp == ICMP_ECHO || *icmp == ICMP_ECHOREPLY));
}

static bool
may_be_told6(const struct dp_frame *f, uint32_t mtu)
{
	static const uint8_t none[16];
	const uint8_t *icmp = f->data + f->hdrs.l4;

	/* Of less than every IPv6 path carries it would not hear: RFC 8201 section 4. */
	if (mtu < ANSWER6_MAX || !memcmp(&ip6_of(f)->src_addr, none, sizeof(none)))
		return false;
	return f->hdrs.proto != IPPROTO_ICMPV6 || f->hdrs.fragment || (f->hdrs.l4 < f->hdrs.end && *icmp & ICMP6_INFOMSG_MASK);
}

static bool
is_its_turn(struct dp_worker *w, struct dp_port *port)
{
	const uint64_t now = rte_rdtsc(), every = dp_cycles(ANSWER_US);
	uint64_t *next = &port->worker[w->id].may_tell;

	*next = RTE_MAX(*next, now - ANSWER_BURST * every);
	if (*next > now)
		return false;
	*next += every;
	return true;
}

static enum edge
edge_of(struct dp_worker *w, struct dp_port *from, const struct dp_frame *f, uint32_t mtu)
{
	bool told;

	if (f->hdrs.version == 4 && !(ip4_of(f)->fragment_offset & htons(RTE_IPV4_HDR_DF_FLAG)))
		return IN_FRAGMENTS;
	/* To a group: the answer would have to come from one of many. */
	if (!f->hdrs.version || f->data[0] & 1)
		return DROP_UNTOLD;
	told = f->hdrs.version == 4 ? may_be_told4(f) : may_be_told6(f, mtu);
	return told && is_its_turn(w, from) ? DROP_TOO_BIG : DROP_UNTOLD;
}

/* The beginning of the packet as it would be on the wire, that is of the first segment; returns its length. */
static uint32_t
quote(const struct dp_frame *f, uint8_t *to, uint32_t most)
{
	uint32_t len = f->hdrs.end - f->hdrs.l3;
	dp_ipv4_hdr *ip4 = (void *)to;
	dp_ipv6_hdr *ip6 = (void *)to;

	if (f->vnet.gso_type != VIRTIO_NET_HDR_GSO_NONE)
		len = RTE_MIN(len, (uint32_t)f->hdrs.payload - f->hdrs.l3 + f->vnet.gso_size);
	memcpy(to, f->data + f->hdrs.l3, RTE_MIN(len, most));
	if (f->hdrs.version == 6) {
		ip6->payload_len = htons(len - sizeof(*ip6));
	} else {
		ip4->total_length = htons(len);
		ip4->hdr_checksum = 0;
		ip4->hdr_checksum = ~dp_csum_fold(dp_csum_add(ip4, f->hdrs.l4 - f->hdrs.l3, 0));
	}
	return RTE_MIN(len, most);
}

static uint32_t
put_answer4(const struct dp_frame *f, uint32_t mtu, uint8_t *at)
{
	dp_ipv4_hdr *ip = (void *)at;
	uint8_t *icmp = (void *)(ip + 1);
	uint32_t len = ICMP_LEN + quote(f, icmp + ICMP_LEN, ANSWER4_MAX - sizeof(*ip) - ICMP_LEN);

	*ip = (dp_ipv4_hdr){
		.version_ihl = RTE_IPV4_VHL_DEF,
		.total_length = htons(sizeof(*ip) + len),
		.time_to_live = TTL,
		.next_proto_id = IPPROTO_ICMP,
		.src_addr = ip4_of(f)->dst_addr,
		.dst_addr = ip4_of(f)->src_addr,
	};
	ip->hdr_checksum = ~dp_csum_fold(dp_csum_add(ip, sizeof(*ip), 0));
	memset(icmp, 0, ICMP_LEN);
	icmp[0] = ICMP_DEST_UNREACH;
	icmp[1] = ICMP_FRAG_NEEDED;
	dp_store16(icmp + 6, htons(mtu));
	dp_store16(icmp + 2, ~dp_csum_fold(dp_csum_add(icmp, len, 0)));
	return sizeof(*ip) + len;
}

static uint32_t
put_answer6(const struct dp_frame *f, uint32_t mtu, uint8_t *at)
{
	dp_ipv6_hdr *ip = (void *)at;
	uint8_t *icmp = (void *)(ip + 1);
	uint32_t len = ICMP_LEN + quote(f, icmp + ICMP_LEN, ANSWER6_MAX - sizeof(*ip) - ICMP_LEN);

	*ip = (dp_ipv6_hdr){ .vtc_flow = htonl(DP_IPV6_VERSION), .payload_len = htons(len), .proto = IPPROTO_ICMPV6, .hop_limits = TTL };
	memcpy(&ip->src_addr, &ip6_of(f)->dst_addr, 16);
	memcpy(&ip->dst_addr, &ip6_of(f)->src_addr, 16);
	memset(icmp, 0, ICMP_LEN);
	icmp[0] = ICMP6_PACKET_TOO_BIG;
	dp_store16(icmp + 6, htons(mtu)); /* the upper half of 32 bits is 0 */
	dp_store16(icmp + 2, ~dp_csum_fold(dp_csum_add(icmp, len, dp_csum_pseudo6(ip, IPPROTO_ICMPV6, len))));
	return sizeof(*ip) + len;
}

static void
tell(struct dp_worker *w, struct dp_port *from, const struct dp_frame *f, uint32_t mtu)
{
	uint8_t answer[DP_ETH_LEN + ANSWER6_MAX];
	const dp_ether_hdr *asked = (const void *)f->data;
	dp_ether_hdr *eth = (void *)answer;
	struct virtio_net_hdr none = { 0 };
	struct iovec iov[2] = { { &none, sizeof(none) }, { answer, DP_ETH_LEN } };

	eth->dst_addr = asked->src_addr;
	eth->src_addr = asked->dst_addr;
	eth->ether_type = asked->ether_type;
	iov[1].iov_len += f->hdrs.version == 4 ? put_answer4(f, mtu, answer + DP_ETH_LEN) : put_answer6(f, mtu, answer + DP_ETH_LEN);
	dp_port_write(w, from, iov, 2, iov[1].iov_len);
}

/* Sends the packet in fragments, which lie at `used` and behind; returns where there is room again. */
static uint32_t
send_fragments(struct dp_worker *w, const struct dp_frame *packet, struct dp_vtep *to, uint32_t longest, uint32_t used)
{
	const uint32_t size = dp_fragment_size(&packet->hdrs, longest), room = DP_HEADROOM + packet->hdrs.l4 + size;

	if (!size) {
		dp_drop(w, (enum dp_drop)DROP_UNTOLD, packet, NULL);
		return used;
	}
	for (uint32_t at = 0, all = packet->hdrs.end - packet->hdrs.l4; !at || at < all; at += size) {
		struct dp_frame fragment = { .hdrs = packet->hdrs, .vni = packet->vni, .encrypted = packet->encrypted, .captures = packet->captures }, *one = &fragment;

		if (used + room > DP_FRAGMENTS_LEN) {
			dp_udp_flush(w);
			used = 0;
		}
		fragment.data = w->fragments + used + DP_HEADROOM;
		fragment.len = dp_fragment(packet->data, &packet->hdrs, size, at, fragment.data);
		fragment.hdrs.fragment = true; /* all go the same way */
		fragment.hdrs.transport = false;
		dp_underlay_send(w, &one, 1, to);
		used += DP_HEADROOM + fragment.len;
	}
	return used;
}

/* A segment is a packet of its own. */
static enum edge
fragment_segments(struct dp_worker *w, const struct dp_frame *f, struct dp_vtep *to, uint32_t longest)
{
	struct dp_gso gso;
	int n = dp_gso_plan(&gso, f->data, &f->hdrs, &f->vnet);
	uint8_t packet[DP_GSO_HDR_MAX + UINT16_MAX];
	uint32_t used = 0;

	if (n < 0)
		return DROP_OFFLOAD;
	for (int i = 0; i < n; i++) {
		struct dp_frame segment = { .data = packet, .hdrs = f->hdrs, .vni = f->vni, .encrypted = f->encrypted, .captures = f->captures };
		const uint8_t *payload;
		uint32_t payload_len;

		dp_gso_segment(&gso, i, packet, &payload, &payload_len);
		memcpy(packet + gso.hdr_len, payload, payload_len);
		segment.hdrs.end = gso.hdr_len + payload_len;
		used = send_fragments(w, &segment, to, longest, used);
	}
	return IN_FRAGMENTS;
}

static enum edge
fragment(struct dp_worker *w, struct dp_frame *f, struct dp_vtep *to, uint32_t longest)
{
	if (f->vnet.gso_type != VIRTIO_NET_HDR_GSO_NONE)
		return fragment_segments(w, f, to, longest);
	if ((f->vnet.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) && dp_csum_complete(f->data, f->len, f->vnet.csum_start, f->vnet.csum_offset))
		return DROP_OFFLOAD;
	f->vnet.flags = 0; /* done, should the frame go to another VTEP as well */
	send_fragments(w, f, to, longest, 0);
	return IN_FRAGMENTS;
}

void
dp_too_big(struct dp_worker *w, struct dp_port *from, struct dp_frame *f, struct dp_vtep *to)
{
	uint32_t longest = dp_longest(f, to), mtu = longest - DP_ETH_LEN;
	enum edge edge = longest > DP_ETH_LEN ? edge_of(w, from, f, mtu) : DROP_UNTOLD;

	if (edge == IN_FRAGMENTS) {
		edge = fragment(w, f, to, longest);
		dp_udp_flush(w); /* the next one's come to lie in their place */
	}
	if (edge == IN_FRAGMENTS)
		return;
	if (edge == DROP_TOO_BIG)
		tell(w, from, f, mtu);
	dp_drop(w, (enum dp_drop)edge, f, from);
}
