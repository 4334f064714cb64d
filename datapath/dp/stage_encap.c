// SPDX-License-Identifier: Apache-2.0
/*
 * From a container: check who speaks, answer what can be answered here, and send the rest to where the forwarding
 * table says.
 */
#include "stage.h"

/* The ways out. */
enum edge {
	DROP_RUNT = DP_DROP_RUNT,
	DROP_VLAN = DP_DROP_VLAN,
	DROP_MALFORMED = DP_DROP_MALFORMED,
	DROP_SPOOFED_MAC = DP_DROP_SPOOFED_MAC,
	DROP_SPOOFED_IP = DP_DROP_SPOOFED_IP,
	DROP_OFFLOAD = DP_DROP_OFFLOAD,
	DROP_FDB_MISS = DP_DROP_FDB_MISS, /* and its sender hears of a MAC that has changed: stage_neigh.c */
	DROP_PORT_GONE = DP_DROP_PORT_GONE,
	DROP_HAIRPIN = DP_DROP_HAIRPIN,
	DROP_NOBODY = DP_DROP_NOBODY,
	TO_NEIGH = DP_DROP_COUNT, /* ARP and ND: stage_neigh.c answers them, or drops them */
	TO_VTEP,                  /* unless it is too big for the path: stage_too_big.c */
	TO_PORT,                  /* of this host */
	TO_ALL,                   /* ports and VTEPs of the network */
	STAYS,                    /* none yet */
};

/* Inlined, since it is called for every packet from a container. */
static __rte_always_inline bool
source_ip_ok(const struct dp_port *port, const struct dp_frame *f)
{
	static const uint8_t none[16];
	const dp_ipv4_hdr *ip4 = (const void *)(f->data + f->hdrs.l3);
	const dp_ipv6_hdr *ip6 = (const void *)(f->data + f->hdrs.l3);

	if (f->hdrs.version == 4) {
		/* 0.0.0.0: a host that has no address yet, RFC 1122 section 3.2.1.3. */
		return (port->has_ip4 && ip4->src_addr == dp_addr_ip4(&port->ip4)) || !ip4->src_addr;
	}
	return (port->has_ip6 && !memcmp(&ip6->src_addr, port->ip6.b, 16)) || !memcmp(&ip6->src_addr, port->link_local.b, 16) ||
	       !memcmp(&ip6->src_addr, none, 16);
}

static bool
source_ip_trusted(const struct dp_port *port, const struct dp_frame *f)
{
	const uint8_t *source = f->data + f->hdrs.l3;
	struct dp_addr addr = f->hdrs.version == 4 ? dp_addr4(&((const dp_ipv4_hdr *)source)->src_addr) : dp_addr6(&((const dp_ipv6_hdr *)source)->src_addr);
	uint8_t mac[6];

	if (!dp_neigh_lookup(port->vni, &addr, mac))
		return port->trust >= DP_TRUST_ADDRESS;
	return !memcmp(mac, &((const dp_ether_hdr *)f->data)->src_addr, 6);
}

/*
 * A source that is not the port's own is spoofed, unless the tables have it there, or nobody has it and the port is trusted.
 * The first word from a MAC is ARP or neighbour discovery, which stage_neigh.c looks at.
 */
static __rte_noinline enum edge
admit_foreign(struct dp_worker *w, struct dp_port *port, const struct dp_frame *f)
{
	const uint8_t *mac = (const uint8_t *)&((const dp_ether_hdr *)f->data)->src_addr;

	if (memcmp(mac, port->mac, 6)) {
		if (port->trust < DP_TRUST_MAC || mac[0] & 1)
			return DROP_SPOOFED_MAC;
		if (f->hdrs.transport && !dp_port_has_mac(port, mac))
			return DROP_SPOOFED_MAC;
	}
	if (f->hdrs.version && !source_ip_ok(port, f) && !source_ip_trusted(port, f))
		return DROP_SPOOFED_IP;
	port->worker[w->id].traffic.trusted++;
	return STAYS;
}

/*
 * A container chooses where the checksum is written: never over what was checked, that is Ethernet, IP, ARP and
 * neighbour discovery. A super-frame to a group would leave here many thousandfold.
 */
static bool
offload_ok(const struct dp_frame *f)
{
	const struct virtio_net_hdr *v = &f->vnet;
	uint8_t type = v->gso_type & ~VIRTIO_NET_HDR_GSO_ECN;

	if (!(v->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM))
		return v->gso_type == VIRTIO_NET_HDR_GSO_NONE;
	if (!f->hdrs.version || f->hdrs.proto == IPPROTO_ICMPV6)
		return false;
	if ((f->data[0] & 1) && (type == VIRTIO_NET_HDR_GSO_TCPV4 || type == VIRTIO_NET_HDR_GSO_TCPV6))
		return false;
	return v->csum_start >= f->hdrs.l4 && (uint32_t)v->csum_start + v->csum_offset + 2 <= f->len;
}

static inline enum edge
admit(struct dp_worker *w, struct dp_port *port, struct dp_frame *f)
{
	enum dp_parse_result parsed = dp_parse_fast(f->data, f->len, &f->hdrs);
	enum edge edge;

	if (parsed == DP_PARSE_RUNT)
		return DROP_RUNT;
	if (f->hdrs.proto != IPPROTO_TCP)
		dp_note_datagrams(w, port, dp_frame_segments(f));
	if (unlikely(parsed != DP_PARSE_OK && parsed != DP_PARSE_NOT_IP))
		return parsed == DP_PARSE_VLAN ? DROP_VLAN : DROP_MALFORMED;
	if (unlikely(memcmp(&((const dp_ether_hdr *)f->data)->src_addr, port->mac, 6) || (f->hdrs.version && !source_ip_ok(port, f)))) {
		edge = admit_foreign(w, port, f);
		if (edge != STAYS)
			return edge;
	}
	if (!offload_ok(f))
		return DROP_OFFLOAD;
	/* No request comes over TCP or UDP. */
	return f->hdrs.transport ? STAYS : TO_NEIGH;
}

/*
 * The mbuf stays: every receiver writes its own headers, so each takes a copy. Ports first: on the underlay the VXLAN
 * header takes the place of the virtio header, and the checksum is completed.
 */
static void
flood(struct dp_worker *w, struct dp_frame *f, struct dp_port *from)
{
	const struct dp_flood *list = dp_flood_get(f->vni);
	bool nobody = true;

	f->mbuf = NULL;
	if (list)
		from->worker[w->id].work += (list->n_ports + list->n_vteps) * dp_work(1, f->len);
	for (unsigned i = 0; list && i < list->n_ports; i++) {
		struct dp_port *port = dp_port_get(list->ports[i]);

		if (!port || port == from)
			continue;
		dp_port_deliver(w, port, f);
		nobody = false;
	}
	for (unsigned i = 0; list && i < list->n_vteps; i++) {
		struct dp_vtep *vtep = dp_vtep_get(list->vteps[i]);

		if (!vtep)
			continue;
		if (unlikely(dp_is_too_big(f, vtep)))
			dp_too_big(w, from, f, vtep);
		else
			dp_underlay_send(w, &f, 1, vtep);
		nobody = false;
	}
	if (nobody)
		dp_drop(w, (enum dp_drop)DROP_NOBODY, f, from);
}

static enum edge
edge_of(struct dp_fdb_entry entry, const struct dp_port *from, struct dp_port **to)
{
	switch (entry.kind) {
	case DP_KIND_VTEP:
		return TO_VTEP;
	case DP_KIND_PORT:
		*to = dp_port_get(entry.index);
		if (!*to || (*to)->generation != entry.generation)
			return DROP_PORT_GONE;
		return *to == from ? DROP_HAIRPIN : TO_PORT;
	case DP_KIND_FLOOD:
		return TO_ALL;
	default:
		return DROP_FDB_MISS;
	}
}

/* False when the frame stays: no request that is answered here. */
static bool
dispatch(struct dp_worker *w, struct dp_frame *f, struct dp_port *from, enum edge edge, struct dp_port *to)
{
	switch (edge) {
	case STAYS:
		return false;
	case TO_NEIGH:
		return dp_neigh_respond(w, from, f);
	case TO_PORT:
		dp_port_deliver(w, to, f);
		break;
	case TO_ALL:
		flood(w, f, from);
		break;
	case DROP_FDB_MISS:
		dp_neigh_correct(w, from, f);
		/* fallthrough */
	default:
		dp_drop(w, (enum dp_drop)edge, f, from);
	}
	return true;
}

/* Frames that follow each other go to the same VTEP more often than not: sends as many as do, and returns their number. */
static inline unsigned
send_run(struct dp_worker *w, struct dp_frame **frames, struct dp_port *first, const struct dp_fdb_entry *entries, unsigned n)
{
	struct dp_vtep *vtep = dp_vtep_get(entries[0].index);
	unsigned run = 0;

	if (unlikely(!vtep)) {
		dp_drop(w, (enum dp_drop)DROP_FDB_MISS, frames[0], first);
		return 1;
	}
	if (unlikely(dp_is_too_big(frames[0], vtep))) {
		dp_too_big(w, first, frames[0], vtep);
		return 1;
	}
	do
		run++;
	while (run < n && entries[run].kind == DP_KIND_VTEP && entries[run].index == entries[0].index && frames[run]->encrypted == frames[0]->encrypted && likely(!dp_is_too_big(frames[run], vtep)));
	dp_underlay_send(w, frames, run, vtep);
	return run;
}

void
dp_encap(struct dp_worker *w, struct dp_frame *frames, struct dp_port **from, unsigned n)
{
	struct dp_fdb_key keys[DP_BURST];
	struct dp_fdb_entry entries[DP_BURST];
	struct dp_flow_slot *slots[DP_BURST];
	struct dp_frame *admitted[DP_BURST];
	unsigned kept = 0;

	dp_stage(w, DP_STAGE_READ, n);
	if (unlikely(w->capturing))
		dp_capture_read(w, frames, from, n);
	for (unsigned i = 0; i < n; i++) {
		struct dp_frame *f = &frames[i];
		enum edge edge;

		f->vni = from[i]->vni;
		f->encrypted = from[i]->encrypted;
		edge = admit(w, from[i], f);
		if (unlikely(edge != STAYS) && dispatch(w, f, from[i], edge, NULL))
			continue;
		keys[kept] = dp_fdb_key(f->vni, dp_destination(f->data));
		admitted[kept++] = f;
	}
	if (!kept)
		return;
	dp_fdb_lookup(w->flow_cache, keys, kept, entries, slots);
	for (unsigned i = 0; i < kept;) {
		struct dp_port *sender = from[admitted[i] - frames], *to = NULL;
		enum edge edge = edge_of(entries[i], sender, &to);

		if (likely(edge == TO_VTEP)) {
			i += send_run(w, admitted + i, sender, entries + i, kept - i);
			continue;
		}
		dispatch(w, admitted[i++], sender, edge, to);
	}
	dp_stage(w, DP_STAGE_ENCAP, n);
}
