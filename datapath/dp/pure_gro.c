/* SPDX-License-Identifier: Apache-2.0 */
#include <netinet/in.h>
#include <string.h>

#include "pure_csum.h"
#include "pure_gro.h"
#include "pure_l4.h"

#define PROBES 8
#define IP4_DF 0x4000
#define IP_LEN_MAX 65535

static inline uint8_t *
first_frame(const struct dp_gro_unit *unit)
{
	return unit->iov[1].iov_base;
}

static inline uint64_t
pseudo_sum(const uint8_t *frame, const struct dp_hdrs *h, uint32_t l4_len)
{
	const uint8_t *ip = frame + h->l3;

	return h->version == 4 ? dp_csum_pseudo4(ip, h->proto, l4_len) : dp_csum_pseudo6(ip, h->proto, l4_len);
}

static bool
transport_csum_ok(const uint8_t *frame, const struct dp_hdrs *h)
{
	uint32_t l4_len = h->end - h->l4;
	uint64_t sum = pseudo_sum(frame, h, l4_len);

	return dp_csum_fold(dp_csum_add(frame + h->l4, l4_len, sum)) == 0xffff;
}

/* May the frame be part of a unit at all? The TCP or UDP checksum is left for when there is something to merge. */
static bool
mergeable(const struct dp_gro *gro, const uint8_t *frame, const struct dp_hdrs *h)
{
	const uint8_t *ip = frame + h->l3;
	const uint8_t *l4 = frame + h->l4;

	if (h->payload == h->end)
		return false;
	if (h->version == 4) {
		if (ip[0] != 0x45 || dp_load_be16(ip + 6) & ~IP4_DF || dp_csum_fold(dp_csum_add(ip, 20, 0)) != 0xffff)
			return false;
	} else if (h->l4 != h->l3 + 40) {
		return false;
	}
	if (h->proto == IPPROTO_TCP)
		return !(l4[DP_TCP_FLAGS] & (DP_TCP_SYN | DP_TCP_RST | DP_TCP_URG | DP_TCP_CWR));
	return gro->udp && dp_load16(l4 + DP_UDP_CSUM) && dp_load_be16(l4 + DP_UDP_LEN) == h->end - h->l4;
}

static bool
same_flow(const struct dp_gro_unit *unit, const void *cookie, const uint8_t *frame, const struct dp_hdrs *h)
{
	const struct dp_hdrs *first_h = &unit->hdrs;
	const uint8_t *first = first_frame(unit);

	if (unit->cookie != cookie || first_h->proto != h->proto || memcmp(first, frame, 14) ||
	    dp_load32(first + first_h->l4) != dp_load32(frame + h->l4))
		return false;
	if (h->version == 4)
		return dp_load64(first + h->l3 + 12) == dp_load64(frame + h->l3 + 12);
	return !memcmp(first + h->l3 + 8, frame + h->l3 + 8, 32);
}

/*
 * Type of service, TTL and DF equal, and the id next; or, where DF makes it meaningless (RFC 6864), the same for all.
 * The second packet decides which.
 */
static bool
ip4_follows(struct dp_gro_unit *unit, const uint8_t *first, const uint8_t *ip)
{
	uint16_t step = dp_load_be16(ip + 4) - dp_load_be16(first + 4);

	if (first[1] != ip[1] || first[8] != ip[8] || dp_load16(first + 6) != dp_load16(ip + 6))
		return false;
	if (unit->n_segs == 1)
		unit->fixed_id = !step && dp_load_be16(ip + 6) & IP4_DF;
	return step == (unit->fixed_id ? 0 : unit->n_segs);
}

/* Acknowledgement, header length, flags, window, urgent pointer and options equal; the sequence number next. */
static bool
tcp_follows(const struct dp_gro_unit *unit, const uint8_t *first, const uint8_t *tcp, uint32_t hdr_len)
{
	return dp_load_be32(tcp + DP_TCP_SEQ) == unit->next_seq &&
	       !memcmp(first + DP_TCP_ACK, tcp + DP_TCP_ACK, 5) &&
	       !((first[DP_TCP_FLAGS] ^ tcp[DP_TCP_FLAGS]) & ~(DP_TCP_FIN | DP_TCP_PSH)) &&
	       dp_load16(first + 14) == dp_load16(tcp + 14) && !memcmp(first + 18, tcp + 18, hdr_len - 18);
}

/* Is the frame, of the unit's flow, the unit's next segment? */
static bool
follows(const struct dp_gro *gro, struct dp_gro_unit *unit, const uint8_t *frame, const struct dp_hdrs *h)
{
	const uint8_t *first = first_frame(unit);
	uint32_t size = h->end - h->payload;

	if (!mergeable(gro, frame, h) || size > unit->seg_size || unit->ip_len + size > IP_LEN_MAX)
		return false;
	if (h->version == 4) {
		if (!ip4_follows(unit, first + h->l3, frame + h->l3))
			return false;
	} else if (dp_load32(first + h->l3) != dp_load32(frame + h->l3) || first[h->l3 + 7] != frame[h->l3 + 7]) {
		return false;
	}
	if (h->proto == IPPROTO_TCP && !tcp_follows(unit, first + h->l4, frame + h->l4, h->payload - h->l4))
		return false;
	if (!unit->verified && !transport_csum_ok(first, &unit->hdrs))
		return false;
	unit->verified = true;
	return transport_csum_ok(frame, h);
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
	unit->tcp_flags = 0;
	unit->hdrs = *h;
	unit->iov[0] = (struct iovec){ &unit->vnet, sizeof(unit->vnet) };
	unit->iov[1] = (struct iovec){ frame, len };
	return unit;
}

static uint8_t
last_flags(const uint8_t *frame, const struct dp_hdrs *h)
{
	return h->proto == IPPROTO_TCP ? frame[h->l4 + DP_TCP_FLAGS] & (DP_TCP_FIN | DP_TCP_PSH) : 0;
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
		unit->next_seq = dp_load_be32(frame + h->l4 + DP_TCP_SEQ) + unit->seg_size;
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
dp_gro_add(struct dp_gro *gro, void *cookie, uint8_t *frame, uint32_t len, const struct dp_hdrs *h)
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
	if (unit && follows(gro, unit, frame, h)) {
		if (!join(unit, frame, h))
			*slot = 0;
		return true;
	}
	unit = new_unit(gro, cookie, frame, len, h);
	*slot = open_unit(gro, unit, frame) ? gro->n_units : 0;
	return true;
}

void
dp_gro_finish(struct dp_gro_unit *unit)
{
	const struct dp_hdrs *h = &unit->hdrs;
	uint8_t *frame = first_frame(unit);
	uint8_t *ip = frame + h->l3;
	uint8_t *l4 = frame + h->l4;
	bool tcp = h->proto == IPPROTO_TCP;

	if (unit->n_segs == 1)
		return;

	uint32_t l4_len = unit->ip_len - (h->l4 - h->l3);
	uint16_t csum_offset = tcp ? DP_TCP_CSUM : DP_UDP_CSUM;

	if (h->version == 4) {
		dp_store_be16(ip + 2, unit->ip_len);
		dp_store16(ip + 10, 0);
		dp_store16(ip + 10, ~dp_csum_fold(dp_csum_add(ip, 20, 0)));
	} else {
		dp_store_be16(ip + 4, l4_len);
	}
	if (tcp)
		l4[DP_TCP_FLAGS] |= unit->tcp_flags;
	else
		dp_store_be16(l4 + DP_UDP_LEN, l4_len);
	dp_store16(l4 + csum_offset, dp_csum_fold(pseudo_sum(frame, h, l4_len)));

	unit->iov[1].iov_len = h->end;
	unit->len = h->l3 + unit->ip_len;
	unit->vnet = (struct virtio_net_hdr){
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = !tcp ? VIRTIO_NET_HDR_GSO_UDP_L4 : (h->version == 4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6),
		.hdr_len = h->payload,
		.gso_size = unit->seg_size,
		.csum_start = h->l4,
		.csum_offset = csum_offset,
	};
}
