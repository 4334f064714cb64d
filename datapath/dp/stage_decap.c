// SPDX-License-Identifier: Apache-2.0
/*
 * From the underlay: take the VXLAN header off (RFC 7348 section 5), check that the sender may speak for the inner
 * source (what that says of itself: stage_source.c), carry congestion marks inwards (RFC 6040), and deliver, merged where frames follow each other. What the sender left
 * to a card that never came, a tap leaves to whoever passes it on; for others it is done here.
 */
#include "pure_gso.h"
#include "pure_partial.h"
#include "stage.h"

/* RFC 3168 section 5 */
#define ECN_MASK RTE_IPV4_HDR_ECN_MASK
#define ECN_NOT_ECT 0
#define ECN_ECT1 1
#define ECN_ECT0 2
#define ECN_CE 3

/* The ways out. */
enum edge {
	DROP_RUNT = DP_DROP_RUNT,
	DROP_VXLAN_FLAGS = DP_DROP_VXLAN_FLAGS,
	DROP_OVERLOAD = DP_DROP_OVERLOAD,
	DROP_VLAN = DP_DROP_VLAN,
	DROP_MALFORMED = DP_DROP_MALFORMED,
	DROP_SPOOFED_MAC = DP_DROP_SPOOFED_MAC, /* this, or SPOOFED_IP, ROUTER, ROUTER_SOLICITED, MALFORMED: stage_source.c */
	DROP_SRC_UNKNOWN = DP_DROP_SRC_UNKNOWN,
	DROP_VNI_UNKNOWN = DP_DROP_VNI_UNKNOWN,
	DROP_PLAIN = DP_DROP_PLAIN,
	DROP_ESP_UNWANTED = DP_DROP_ESP_UNWANTED,
	DROP_ECN = DP_DROP_ECN,
	DROP_PORT_GONE = DP_DROP_PORT_GONE,
	DROP_NOT_LOCAL = DP_DROP_NOT_LOCAL,
	DROP_FDB_MISS = DP_DROP_FDB_MISS,
	DROP_NOBODY = DP_DROP_NOBODY,
	TO_GRO = DP_DROP_COUNT, /* merged with others for a tap; dp_decap_flush writes them */
	TO_PORT,                /* as it is: to one on a device */
	TO_ALL,                 /* ports of the network */
	STAYS,                  /* none yet */
};

/* Reserved bits are ignored, as section 5 tells. */
static inline enum edge
admit(struct dp_worker *w, const struct dp_packet *p)
{
	const dp_vxlan_hdr *vxlan = (const void *)p->data;

	if (p->len < DP_VXLAN_LEN + DP_ETH_LEN)
		return DROP_RUNT;
	if (!(vxlan->vx_flags & htonl(DP_VXLAN_FLAG_I)))
		return DROP_VXLAN_FLAGS;
	if (unlikely(w->fairness.congested) && dp_rx_fairness_over(&w->fairness, dp_source(p->data + DP_VXLAN_LEN)))
		return DROP_OVERLOAD;
	return STAYS;
}

/* The frame in a packet. */
static inline enum edge
parse_inner(const struct dp_packet *p, uint32_t vni, struct dp_frame *f)
{
	f->data = p->data + DP_VXLAN_LEN;
	f->len = p->len - DP_VXLAN_LEN;
	f->vni = vni;
	f->vnet = (struct virtio_net_hdr){ 0 };
	f->mbuf = p->mbuf;
	switch (dp_parse_fast(f->data, f->len, &f->hdrs)) {
	case DP_PARSE_OK:
	case DP_PARSE_NOT_IP:
		return STAYS;
	case DP_PARSE_VLAN:
		return DROP_VLAN;
	default:
		return DROP_MALFORMED;
	}
}

static void
mark4(dp_ipv4_hdr *ip, uint8_t ecn)
{
	uint16_t before = dp_load16(ip), sum = ~ip->hdr_checksum;

	ip->type_of_service = (ip->type_of_service & ~ECN_MASK) | ecn;
	/* RFC 1624 equation 3, over the header's first word. */
	ip->hdr_checksum = ~dp_csum_fold((uint64_t)sum + (uint16_t)~before + dp_load16(ip));
}

static void
mark6(dp_ipv6_hdr *ip, uint8_t ecn)
{
	ip->vtc_flow = (ip->vtc_flow & htonl(~RTE_IPV6_HDR_ECN_MASK)) | htonl((uint32_t)ecn << RTE_IPV6_HDR_TC_SHIFT);
}

/*
 * RFC 6040 figure 4: congestion outside is congestion inside, or a drop where the inner packet can't say so; ECT(1)
 * outside makes ECT(0) inside ECT(1).
 */
static enum edge
congestion_inwards(struct dp_frame *f, uint8_t outer)
{
	uint8_t inner;

	if (outer == ECN_NOT_ECT || !f->hdrs.version)
		return STAYS;
	inner = dp_ecn(f);
	if (outer == ECN_CE && inner == ECN_NOT_ECT)
		return DROP_ECN;
	if (outer != ECN_CE && !(outer == ECN_ECT1 && inner == ECN_ECT0))
		return STAYS;
	if (f->hdrs.version == 4)
		mark4((void *)(f->data + f->hdrs.l3), outer);
	else
		mark6((void *)(f->data + f->hdrs.l3), outer);
	return STAYS;
}

/* Why the forwarding table does not confirm that `f` comes from where its source lives. */
static enum edge
source_drop(const struct dp_frame *f, struct dp_fdb_entry source)
{
	static const uint8_t group[6] = { 1 };

	if (source.kind != DP_KIND_NONE)
		return DROP_SPOOFED_MAC;
	return dp_fdb_lookup_one(f->vni, group).kind ? DROP_SRC_UNKNOWN : DROP_VNI_UNKNOWN;
}

static void
flood_local(struct dp_worker *w, struct dp_frame *f)
{
	const struct dp_flood *list = dp_flood_get(f->vni);
	struct iovec iov[2] = { { &f->vnet, sizeof(f->vnet) }, { f->data, f->len } };
	bool nobody = true;

	for (unsigned i = 0; list && i < list->n_ports; i++) {
		struct dp_port *port = dp_port_get(list->ports[i]);

		if (!port)
			continue;
		dp_port_write(w, port, iov, 2, f->len);
		nobody = false;
	}
	if (nobody)
		dp_drop(w, (enum dp_drop)DROP_NOBODY, f, NULL);
}

static void
merge(struct dp_worker *w, struct dp_port *port, struct dp_frame *f, uint16_t gso_size, bool checked)
{
	if (dp_gro_add(w->gro, port, f->data, f->len, &f->hdrs, gso_size, checked))
		return;
	dp_decap_flush(w);
	dp_gro_add(w->gro, port, f->data, f->len, &f->hdrs, gso_size, checked);
}

/*
 * What a super-frame that came whole is to be cut at, should its receiver pass it on; 0: it is none. The kernel tells of UDP. A
 * TCP segment can't be longer than the MTU, and what its sender would have cut it at does not matter to who takes it whole.
 */
static inline uint16_t
whole_size(const struct dp_packet *p, const struct dp_frame *f, const struct dp_port *port)
{
	uint32_t hdrs = f->hdrs.payload - f->hdrs.l3;

	if (likely(!p->gso_size && f->hdrs.end - f->hdrs.l3 <= port->mtu))
		return 0;
	if (p->gso_size || f->hdrs.proto != IPPROTO_TCP || !dp_is_partial(f->data, &f->hdrs))
		return p->gso_size;
	return port->mtu > hdrs + DP_PARTIAL_GSO_MIN ? port->mtu - hdrs : DP_PARTIAL_GSO_MIN;
}

/* Delivers the frame, finished, to a port that does not merge; NULL: to all of the network. */
static void
deliver(struct dp_worker *w, struct dp_port *port, struct dp_frame *f)
{
	if (dp_is_partial(f->data, &f->hdrs))
		dp_csum_complete(f->data, f->hdrs.end, f->hdrs.l4, dp_csum_offset(&f->hdrs));
	if (port)
		dp_port_deliver(w, port, f);
	else
		flood_local(w, f);
}

/* Delivers a super-frame in segments: each gets its headers in front of its payload, where the one before has gone already. */
static __rte_noinline void
cut(struct dp_worker *w, struct dp_port *port, struct dp_frame *f, uint16_t gso_size)
{
	struct virtio_net_hdr vnet = dp_partial_vnet(f->data, &f->hdrs, gso_size);
	struct iovec iov[2] = { { &f->vnet, sizeof(f->vnet) } };
	struct dp_gso gso;
	int n = dp_gso_plan(&gso, f->data, &f->hdrs, &vnet);

	if (n < 0) {
		dp_drop(w, DP_DROP_OFFLOAD, f, port);
		return;
	}
	for (int i = 0; i < n; i++) {
		const uint8_t *payload;
		uint32_t payload_len;

		f->data = (uint8_t *)gso.payload + i * gso_size - gso.hdr_len;
		dp_gso_segment(&gso, i, f->data, &payload, &payload_len);
		f->len = gso.hdr_len + payload_len;
		iov[1] = (struct iovec){ f->data, f->len };
		if (port)
			dp_port_write(w, port, iov, 2, f->len);
		else
			flood_local(w, f);
	}
}

/* The port that a forwarding entry names, unless it is gone. */
static inline struct dp_port *
port_of(struct dp_fdb_entry entry)
{
	struct dp_port *port = entry.kind == DP_KIND_PORT ? dp_port_get(entry.index) : NULL;

	return port && port->generation == entry.generation ? port : NULL;
}

/* Two VTEPs may share an address, with other ports: packets tell the address alone. */
static bool
source_vtep_ok(const struct dp_vtep *from, struct dp_fdb_entry source)
{
	struct dp_vtep *owner;

	if (source.kind != DP_KIND_VTEP)
		return false;
	owner = dp_vtep_get(source.index);
	return owner == from || (owner && dp_addr_equal(&owner->addr, &from->addr));
}

/* Of what comes by sockets: is the packet one of those for which others wait too long? */
static inline bool
stands(struct dp_worker *w, const struct dp_packet *p, const struct dp_frame *f)
{
	return unlikely(w->standing.is_long) && !p->mbuf && dp_rx_standing_over(&w->standing, dp_source(f->data), f->hdrs.proto == IPPROTO_UDP, dp_work(dp_segments(p->len, p->gso_size), p->len));
}

/* Port is the one that the destination's entry names, or NULL. */
static inline enum edge
edge_of(struct dp_worker *w, const struct dp_packet *p, const struct dp_fdb_key *from, struct dp_flow_slot *slot, struct dp_fdb_entry source, struct dp_fdb_entry to, const struct dp_port *port, struct dp_frame *f)
{
	enum edge edge = parse_inner(p, from->vni, f);
	enum dp_drop told;

	if (edge != STAYS)
		return edge;
	if (f->hdrs.proto != IPPROTO_TCP)
		dp_note_datagrams(w, NULL, dp_segments(p->len, p->gso_size));
	if (!source_vtep_ok(p->from, source))
		return source_drop(f, source);
	if (to.kind != DP_KIND_NONE && p->esp != (port ? port->encrypted : dp_net_encrypted(from->vni)))
		return p->esp ? DROP_ESP_UNWANTED : DROP_PLAIN;
	told = dp_source_told(w, f, from, slot);
	if (unlikely(told != DP_DROP_COUNT))
		return (enum edge)told;
	if (stands(w, p, f))
		return DROP_OVERLOAD;
	edge = congestion_inwards(f, p->tos & ECN_MASK);
	if (edge != STAYS)
		return edge;
	switch (to.kind) {
	case DP_KIND_PORT:
		return !port ? DROP_PORT_GONE : (port->ops->merges ? TO_GRO : TO_PORT);
	case DP_KIND_FLOOD:
		return TO_ALL;
	case DP_KIND_VTEP:
		return DROP_NOT_LOCAL;
	default:
		return DROP_FDB_MISS;
	}
}

static void
dispatch(struct dp_worker *w, const struct dp_packet *p, const struct dp_fdb_key *from, struct dp_flow_slot *slot, struct dp_fdb_entry source, struct dp_fdb_entry to, struct dp_port *port)
{
	struct dp_frame f;
	enum edge edge = edge_of(w, p, from, slot, source, to, port, &f);
	uint16_t gso_size = edge == TO_GRO || edge == TO_PORT ? whole_size(p, &f, port) : p->gso_size;

	switch (edge) {
	case TO_GRO:
		if (unlikely(p->gso_size && !w->gro->udp)) {
			dp_decap_flush(w);
			cut(w, port, &f, gso_size);
		} else {
			merge(w, port, &f, gso_size, p->checked);
		}
		break;
	case TO_PORT:
	case TO_ALL:
		if (unlikely(gso_size))
			cut(w, edge == TO_PORT ? port : NULL, &f, gso_size);
		else
			deliver(w, edge == TO_PORT ? port : NULL, &f);
		break;
	default:
		dp_count(w, (enum dp_drop)edge);
		if (port)
			port->drops[w->id][edge]++;
		if (unlikely(w->capturing))
			dp_capture_dropped(w, (enum dp_drop)edge, &f, p->from);
	}
}

/* Does what dispatch does with most packets for a port on a device: their mbuf goes on as it is. Else false, and nothing was done. */
static inline bool
forward(struct dp_worker *w, const struct dp_packet *p, const struct dp_fdb_key *from, struct dp_flow_slot *slot, struct dp_fdb_entry source, struct dp_port *port)
{
	uint8_t *frame = p->data + DP_VXLAN_LEN;
	const dp_ipv4_hdr *ip = (const void *)(frame + DP_ETH_LEN);
	uint32_t len = p->len - DP_VXLAN_LEN;
	struct dp_hdrs hdrs;

	if (!p->mbuf || p->esp != port->encrypted || (p->tos & ECN_MASK) != ECN_NOT_ECT || !dp_parse_plain(frame, len, &hdrs) || dp_is_partial(frame, &hdrs) || !source_vtep_ok(p->from, source) || !dp_source_ok4(&w->source, slot, from, ip->src_addr))
		return false;
	dp_eth_forward(w, port, p->mbuf, frame, len);
	return true;
}

/* Packets that follow each other go to the same destination more often than not: each run of them is looked up once. */
struct burst {
	const struct dp_packet *packets[DP_BURST];
	struct dp_fdb_key source[DP_BURST], to[DP_BURST];
	uint8_t first[DP_BURST + 1]; /* of each run, and where the last one ends */
	unsigned n, runs;
	uint64_t captured; /* a bit a packet */
};

_Static_assert(DP_BURST <= 64, "a burst has a bit for each packet");

static inline void
group_runs(struct dp_worker *w, const struct dp_packet *packets, unsigned n, struct burst *b)
{
	uint64_t last_mac = 0;
	uint32_t last_vni = 0;
	const uint64_t threshold = w->capturing ? atomic_load_explicit(&dp_capture_threshold, memory_order_relaxed) : 0;
	unsigned kept = 0, runs = 0;

	b->captured = 0;
	for (unsigned i = 0; i < n; i++) {
		const uint8_t *frame = packets[i].data + DP_VXLAN_LEN;
		enum edge edge = admit(w, &packets[i]);
		uint64_t mac;
		uint32_t vni;

		if (unlikely(edge != STAYS)) {
			dp_drop_payload(w, (enum dp_drop)edge, packets[i].from, packets[i].data, packets[i].len);
			continue;
		}
		vni = ntohl(((const dp_vxlan_hdr *)packets[i].data)->vx_vni) >> 8;
		mac = dp_destination(frame);
		if (unlikely(!runs || mac != last_mac || vni != last_vni)) {
			last_mac = mac;
			last_vni = vni;
			b->first[runs] = kept;
			b->to[runs++] = dp_fdb_key(vni, mac);
		}
		if (unlikely(threshold) && unlikely(dp_capture_may(threshold, frame, packets[i].len - DP_VXLAN_LEN)) && dp_capture_received(w, &packets[i]))
			b->captured |= UINT64_C(1) << kept;
		b->source[kept] = dp_fdb_key(vni, dp_source(frame));
		b->packets[kept++] = &packets[i];
	}
	b->first[runs] = kept;
	b->n = kept;
	b->runs = runs;
}

void
dp_decap(struct dp_worker *w, const struct dp_packet *packets, unsigned n)
{
	struct dp_fdb_entry source[DP_BURST], to[DP_BURST];
	struct dp_flow_slot *slots[DP_BURST];
	struct burst b;

	w->gro->udp = atomic_load_explicit(&dp.uso, memory_order_relaxed);
	group_runs(w, packets, n, &b);
	if (!b.n)
		return;
	w->source.version = atomic_load_explicit(&dp_neigh_version, memory_order_acquire);
	dp_fdb_lookup(w->flow_cache, b.to, b.runs, to, slots);
	dp_fdb_lookup(w->flow_cache, b.source, b.n, source, slots);
	for (unsigned run = 0; run < b.runs; run++) {
		struct dp_port *port = port_of(to[run]);
		bool zero_copy = port && !port->ops->merges && port->eth;

		for (unsigned i = b.first[run]; i < b.first[run + 1]; i++)
			if (!zero_copy || unlikely((b.captured >> i & 1) || !forward(w, b.packets[i], &b.source[i], slots[i], source[i], port)))
				dispatch(w, b.packets[i], &b.source[i], slots[i], source[i], to[run], port);
	}
	dp_stage(w, DP_STAGE_DECAP, n);
}

static void
write_unit(struct dp_worker *w, struct dp_port *port, const struct dp_gro_unit *unit)
{
	uint64_t start = w->fairness.congested ? rte_rdtsc() : 0;

	dp_port_write(w, port, unit->iov, unit->n_iov, unit->len);
	if (w->fairness.congested)
		dp_rx_fairness_charge(&w->fairness, dp_source(unit->iov[1].iov_base), rte_rdtsc() - start);
}

/* Writes what was merged since the last call; the packets it lies in may be overwritten afterwards. */
void
dp_decap_flush(struct dp_worker *w)
{
	if (!w->gro->n_units)
		return;
	for (unsigned i = 0; i < w->gro->n_units; i++) {
		struct dp_gro_unit *unit = &w->gro->units[i];
		struct dp_port *port = unit->cookie;

		dp_gro_finish(unit);
		write_unit(w, port, unit);
	}
	dp_stage(w, DP_STAGE_DELIVER, w->gro->n_units);
	dp_gro_reset(w->gro);
}
