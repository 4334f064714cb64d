/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "pure_csum.h"
#include "pure_gro.h"
#include "pure_partial.h"

#define PROBES 8
#define IP_LEN_MAX 65535

static inline uint8_t *
first_frame(const struct dp_gro_unit *unit)
{
	return unit->iov[1].iov_base;
}

/* One that was never computed is not wrong. */
static bool
transport_csum_ok(const uint8_t *frame, const struct dp_hdrs *h)
{
	uint32_t l4_len = h->end - h->l4;

	return dp_is_partial(frame, h) || dp_csum_fold(dp_csum_add(frame + h->l4, l4_len, dp_pseudo_sum(frame, h, l4_len))) == 0xffff;
}

/* May the frame be part of a unit at all? The TCP or UDP checksum is left for when there is something to merge. */
static bool
mergeable(const struct dp_gro *gro, const uint8_t *frame, const struct dp_hdrs *h)
{
	const dp_ipv4_hdr *ip = (const void *)(frame + h->l3);
	const dp_tcp_hdr *tcp = (const void *)(frame + h->l4);
	const dp_udp_hdr *udp = (const void *)(frame + h->l4);

	if (h->payload == h->end)
		return false;
	if (h->version == 4) {
		if (ip->version_ihl != RTE_IPV4_VHL_DEF || ip->fragment_offset & ~htons(RTE_IPV4_HDR_DF_FLAG) || dp_csum_fold(dp_csum_add(ip, sizeof(*ip), 0)) != 0xffff)
			return false;
	} else if (h->l4 != h->l3 + sizeof(dp_ipv6_hdr)) {
		return false;
	}
	if (h->proto == IPPROTO_TCP)
		return !(tcp->tcp_flags & (RTE_TCP_SYN_FLAG | RTE_TCP_RST_FLAG | RTE_TCP_URG_FLAG | RTE_TCP_CWR_FLAG));
	return gro->udp && udp->dgram_cksum && ntohs(udp->dgram_len) == h->end - h->l4;
}

static bool
same_addrs4(const dp_ipv4_hdr *a, const dp_ipv4_hdr *b)
{
	return dp_ipv4_addrs(a) == dp_ipv4_addrs(b);
}

static bool
same_addrs6(const dp_ipv6_hdr *a, const dp_ipv6_hdr *b)
{
	return !memcmp(&a->src_addr, &b->src_addr, sizeof(a->src_addr)) && !memcmp(&a->dst_addr, &b->dst_addr, sizeof(a->dst_addr));
}

static bool
same_flow(const struct dp_gro_unit *unit, const void *cookie, const uint8_t *frame, const struct dp_hdrs *h)
{
	const struct dp_hdrs *first_h = &unit->hdrs;
	const uint8_t *first = first_frame(unit);

	if (unit->cookie != cookie || first_h->proto != h->proto || memcmp(first, frame, sizeof(struct rte_ether_hdr)) ||
	    dp_l4_ports(first + first_h->l4) != dp_l4_ports(frame + h->l4))
		return false;
	return h->version == 4 ? same_addrs4((const void *)(first + h->l3), (const void *)(frame + h->l3)) : same_addrs6((const void *)(first + h->l3), (const void *)(frame + h->l3));
}

/*
 * Type of service, TTL and DF equal, and the id next; or, where DF makes it meaningless (RFC 6864), the same for all.
 * The second packet decides which.
 */
static bool
ip4_follows(struct dp_gro_unit *unit, const dp_ipv4_hdr *first, const dp_ipv4_hdr *ip)
{
	uint16_t step = ntohs(ip->packet_id) - ntohs(first->packet_id);

	if (first->type_of_service != ip->type_of_service || first->time_to_live != ip->time_to_live || first->fragment_offset != ip->fragment_offset)
		return false;
	if (unit->n_segs == 1)
		unit->fixed_id = !step && ip->fragment_offset & htons(RTE_IPV4_HDR_DF_FLAG);
	return step == (unit->fixed_id ? 0 : unit->n_segs);
}

/* Traffic class, flow label and hop limit equal. */
static bool
ip6_follows(const dp_ipv6_hdr *first, const dp_ipv6_hdr *ip)
{
	return first->vtc_flow == ip->vtc_flow && first->hop_limits == ip->hop_limits;
}

/* Acknowledgement, header length, flags, window, urgent pointer and options equal; the sequence number next. */
static bool
tcp_follows(const struct dp_gro_unit *unit, const dp_tcp_hdr *first, const dp_tcp_hdr *tcp, uint32_t hdr_len)
{
	return ntohl(tcp->sent_seq) == unit->next_seq &&
	       first->recv_ack == tcp->recv_ack && first->data_off == tcp->data_off &&
	       !((first->tcp_flags ^ tcp->tcp_flags) & ~(RTE_TCP_FIN_FLAG | RTE_TCP_PSH_FLAG)) &&
	       first->rx_win == tcp->rx_win && !memcmp(&first->tcp_urp, &tcp->tcp_urp, hdr_len - offsetof(struct rte_tcp_hdr, tcp_urp));
}

/* Is the frame, of the unit's flow, the unit's next segment? */
static bool
follows(const struct dp_gro *gro, struct dp_gro_unit *unit, const uint8_t *frame, const struct dp_hdrs *h, bool checked)
{
	const uint8_t *first = first_frame(unit);
	uint32_t size = h->end - h->payload;

	if (!mergeable(gro, frame, h) || size > unit->seg_size || unit->ip_len + size > IP_LEN_MAX)
		return false;
	if (h->version == 4 ? !ip4_follows(unit, (const void *)(first + h->l3), (const void *)(frame + h->l3)) : !ip6_follows((const void *)(first + h->l3), (const void *)(frame + h->l3)))
		return false;
	if (h->proto == IPPROTO_TCP && !tcp_follows(unit, (const void *)(first + h->l4), (const void *)(frame + h->l4), h->payload - h->l4))
		return false;
	if (!unit->verified && !transport_csum_ok(first, &unit->hdrs))
		return false;
	unit->verified = true;
	return checked || transport_csum_ok(frame, h);
}

static struct dp_gro_unit *
unit_in(struct dp_gro *gro, const uint16_t *slot)
{
	return *slot ? &gro->units[*slot - 1] : NULL;
}

/* The slot with the flow's open unit, or one that the flow may take. */
static uint16_t *
find_slot(struct dp_gro *gro, const void *cookie, const uint8_t *frame, const struct dp_hdrs *h)
{
	struct dp_gro_unit *last = unit_in(gro, gro->last);

	if (last && same_flow(last, cookie, frame, h))
		return gro->last;

	uint32_t hash = dp_flow_hash_fast(frame, h);
	uint16_t *free = NULL;

	for (unsigned i = 0; i < PROBES; i++) {
		uint16_t *slot = &gro->slots[(hash + i) % DP_GRO_SLOTS];
		struct dp_gro_unit *unit = unit_in(gro, slot);

		if (unit && same_flow(unit, cookie, frame, h))
			return slot;
		if (!unit && !free)
			free = slot;
	}
	if (free)
		return free;
	/* The flow that has the first place loses it: its next frame opens another unit, behind the one it had. */
	gro->slots[hash % DP_GRO_SLOTS] = 0;
	return &gro->slots[hash % DP_GRO_SLOTS];
}

static struct dp_gro_unit *
new_unit(struct dp_gro *gro, void *cookie, uint8_t *frame, uint32_t len, const struct dp_hdrs *h)
{
	struct dp_gro_unit *unit = &gro->units[gro->n_units++];

	unit->cookie = cookie;
	unit->len = len;
	unit->n_segs = 1;
	unit->n_iov = 2;
	unit->vnet = (struct virtio_net_hdr){ 0 };
	unit->verified = false;
	unit->gso_size = 0;
	unit->tcp_flags = 0;
	unit->hdrs = *h;
	unit->iov[0] = (struct iovec){ &unit->vnet, sizeof(unit->vnet) };
	unit->iov[1] = (struct iovec){ frame, len };
	return unit;
}

static uint8_t
last_flags(const uint8_t *frame, const struct dp_hdrs *h)
{
	const dp_tcp_hdr *tcp = (const void *)(frame + h->l4);

	return h->proto == IPPROTO_TCP ? tcp->tcp_flags & (RTE_TCP_FIN_FLAG | RTE_TCP_PSH_FLAG) : 0;
}

/* Makes a unit that others may follow; false when nothing may follow the frame. */
static bool
open_unit(const struct dp_gro *gro, struct dp_gro_unit *unit, const uint8_t *frame)
{
	const struct dp_hdrs *h = &unit->hdrs;

	if (!mergeable(gro, frame, h) || last_flags(frame, h))
		return false;
	unit->seg_size = h->end - h->payload;
	unit->ip_len = h->end - h->l3;
	if (h->proto == IPPROTO_TCP)
		unit->next_seq = ntohl(((const dp_tcp_hdr *)(frame + h->l4))->sent_seq) + unit->seg_size;
	return true;
}

/* Appends the frame's payload; false when nothing may follow it. */
static bool
join(struct dp_gro_unit *unit, uint8_t *frame, const struct dp_hdrs *h)
{
	uint32_t size = h->end - h->payload;

	unit->iov[unit->n_iov++] = (struct iovec){ frame + h->payload, size };
	unit->n_segs++;
	unit->ip_len += size;
	unit->next_seq += size;
	unit->tcp_flags = last_flags(frame, h);
	return !unit->tcp_flags && size == unit->seg_size && unit->n_segs < DP_GRO_SEGS;
}

static void
forget_flows(struct dp_gro *gro)
{
	memset(gro->slots, 0, sizeof(gro->slots));
	gro->last = gro->slots;
}

void
dp_gro_reset(struct dp_gro *gro)
{
	gro->n_units = 0;
	forget_flows(gro);
}

bool
dp_gro_add(struct dp_gro *gro, void *cookie, uint8_t *frame, uint32_t len, const struct dp_hdrs *h, uint16_t gso_size, bool checked)
{
	if (gro->n_units == DP_GRO_UNITS)
		return false;
	if (!h->transport) {
		/* A fragment may be of any flow between its addresses: none may overtake it. */
		if (h->fragment)
			forget_flows(gro);
		new_unit(gro, cookie, frame, len, h);
		return true;
	}

	uint16_t *slot = find_slot(gro, cookie, frame, h);
	struct dp_gro_unit *unit = unit_in(gro, slot);

	gro->last = slot;
	if (unit && !gso_size && follows(gro, unit, frame, h, checked)) {
		if (!join(unit, frame, h))
			*slot = 0;
		return true;
	}
	unit = new_unit(gro, cookie, frame, len, h);
	unit->gso_size = gso_size;
	unit->verified = checked;
	*slot = !gso_size && open_unit(gro, unit, frame) ? gro->n_units : 0;
	return true;
}

static void
finish_single(struct dp_gro_unit *unit)
{
	const struct dp_hdrs *h = &unit->hdrs;
	const uint8_t *frame = first_frame(unit);

	if (!dp_is_partial(frame, h))
		return;
	unit->iov[1].iov_len = h->end;
	unit->len = h->end;
	unit->vnet = dp_partial_vnet(frame, h, unit->gso_size);
}

void
dp_gro_finish(struct dp_gro_unit *unit)
{
	const struct dp_hdrs *h = &unit->hdrs;
	uint8_t *frame = first_frame(unit);
	dp_ipv4_hdr *ip4 = (void *)(frame + h->l3);
	dp_ipv6_hdr *ip6 = (void *)(frame + h->l3);
	dp_tcp_hdr *tcp = (void *)(frame + h->l4);
	dp_udp_hdr *udp = (void *)(frame + h->l4);
	bool is_tcp = h->proto == IPPROTO_TCP;

	if (unit->n_segs == 1) {
		finish_single(unit);
		return;
	}

	uint32_t l4_len = unit->ip_len - (h->l4 - h->l3);
	uint16_t csum = dp_csum_fold(dp_pseudo_sum(frame, h, l4_len));

	if (h->version == 4) {
		ip4->total_length = htons(unit->ip_len);
		ip4->hdr_checksum = 0;
		ip4->hdr_checksum = ~dp_csum_fold(dp_csum_add(ip4, sizeof(*ip4), 0));
	} else {
		ip6->payload_len = htons(l4_len);
	}
	if (is_tcp) {
		tcp->tcp_flags |= unit->tcp_flags;
		tcp->cksum = csum;
	} else {
		udp->dgram_len = htons(l4_len);
		udp->dgram_cksum = csum;
	}

	unit->iov[1].iov_len = h->end;
	unit->len = h->l3 + unit->ip_len;
	unit->vnet = dp_partial_vnet(frame, h, unit->seg_size);
}
