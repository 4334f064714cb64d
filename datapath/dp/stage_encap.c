// SPDX-License-Identifier: Apache-2.0
/*
 * From a container: check who speaks, answer what can be answered here, and send the rest to where the forwarding
 * table says.
 */
#include "stage.h"

static bool
source_ip_ok(const struct dp_port *port, const struct dp_frame *f)
{
	static const uint8_t none[16];
	const uint8_t *ip = f->data + f->hdrs.l3;

	if (f->hdrs.version == 4) {
		/* 0.0.0.0: a host that has no address yet, RFC 1122 section 3.2.1.3. */
		return (port->has_ip4 && !memcmp(ip + 12, port->ip4.b + 12, 4)) || !memcmp(ip + 12, none, 4);
	}
	return (port->has_ip6 && !memcmp(ip + 8, port->ip6.b, 16)) || !memcmp(ip + 8, port->link_local.b, 16) ||
	       !memcmp(ip + 8, none, 16);
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

static bool
admit(struct dp_worker *w, const struct dp_port *port, struct dp_frame *f)
{
	switch (dp_parse_fast(f->data, f->len, &f->hdrs)) {
	case DP_PARSE_OK:
	case DP_PARSE_NOT_IP:
		break;
	case DP_PARSE_VLAN:
		dp_count(w, DP_DROP_VLAN);
		return false;
	case DP_PARSE_RUNT:
		dp_count(w, DP_DROP_RUNT);
		return false;
	default:
		dp_count(w, DP_DROP_MALFORMED);
		return false;
	}
	if (memcmp(f->data + 6, port->mac, 6)) {
		dp_count(w, DP_DROP_SPOOFED_MAC);
		return false;
	}
	if (f->hdrs.version && !source_ip_ok(port, f)) {
		dp_count(w, DP_DROP_SPOOFED_IP);
		return false;
	}
	if (!offload_ok(f)) {
		dp_count(w, DP_DROP_OFFLOAD);
		return false;
	}
	return true;
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
		port->ops->deliver(w, port, f);
		nobody = false;
	}
	for (unsigned i = 0; list && i < list->n_vteps; i++) {
		struct dp_vtep *vtep = dp_vtep_get(list->vteps[i]);

		if (!vtep)
			continue;
		dp_underlay_send(w, &f, 1, vtep);
		nobody = false;
	}
	if (nobody)
		dp_count(w, DP_DROP_NOBODY);
}

static void
forward(struct dp_worker *w, struct dp_frame *f, struct dp_port *from, struct dp_hop hop)
{
	struct dp_port *port;

	switch (hop.kind) {
	case DP_KIND_PORT:
		port = dp_port_get(hop.index);
		if (!port || port->generation != hop.generation)
			dp_count(w, DP_DROP_PORT_GONE);
		else if (port == from)
			dp_count(w, DP_DROP_HAIRPIN);
		else
			port->ops->deliver(w, port, f);
		break;
	case DP_KIND_FLOOD:
		flood(w, f, from);
		break;
	default:
		dp_correct(w, from, f);
		dp_count(w, DP_DROP_FDB_MISS);
	}
}

/* Frames that follow each other go to the same VTEP more often than not: sends as many as do, and returns their number. */
static inline unsigned
send_run(struct dp_worker *w, struct dp_frame **frames, const struct dp_hop *hops, unsigned n)
{
	struct dp_vtep *vtep = dp_vtep_get(hops[0].index);
	unsigned run = 1;

	while (run < n && hops[run].kind == DP_KIND_VTEP && hops[run].index == hops[0].index)
		run++;
	if (likely(vtep != NULL))
		dp_underlay_send(w, frames, run, vtep);
	else
		w->drops[DP_DROP_FDB_MISS] += run;
	return run;
}

void
dp_encap(struct dp_worker *w, struct dp_frame *frames, struct dp_port **from, unsigned n)
{
	struct dp_fdb_key keys[DP_BURST];
	struct dp_hop hops[DP_BURST];
	struct dp_frame *admitted[DP_BURST];
	unsigned kept = 0;

	dp_stage(w, DP_STAGE_READ, n);
	for (unsigned i = 0; i < n; i++) {
		struct dp_frame *f = &frames[i];

		f->vni = from[i]->vni;
		/* No question comes over TCP or UDP. */
		if (!admit(w, from[i], f) || (!f->hdrs.transport && dp_respond(w, from[i], f)))
			continue;
		keys[kept] = dp_fdb_key(f->vni, dp_destination(f->data));
		admitted[kept++] = f;
	}
	if (!kept)
		return;
	dp_fdb_lookup(w->memos, keys, kept, hops);
	for (unsigned i = 0; i < kept;) {
		if (likely(hops[i].kind == DP_KIND_VTEP)) {
			i += send_run(w, admitted + i, hops + i, kept - i);
		} else {
			forward(w, admitted[i], from[admitted[i] - frames], hops[i]);
			i++;
		}
	}
	dp_stage(w, DP_STAGE_ENCAP, n);
}
