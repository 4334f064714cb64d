// SPDX-License-Identifier: Apache-2.0
/*
 * To the underlay: packets are gathered in runs of equal size to one VTEP, each one sendmsg with UDP_SEGMENT, and sent
 * together at the end of a burst. A super-frame that leaves in one piece is a run by itself.
 */
#include <errno.h>
#include <poll.h>

#include "pure_csum.h"
#include "pure_gso.h"
#include "port.h"
#include "port_esp.h"

/* linux/udp.h: UDP_MAX_SEGMENTS where it is smallest, and what fits behind the larger outer header in 64 KiB. */
#define RUN_SEGMENTS 64
#define RUN_BYTES (65535 - 40 - 8)
/* How long a full send buffer is waited for, once a turn: a card empties it at line rate, a slow path must not hold up the others. */
#define WAIT_MS 1

static enum dp_drop
send_drop(int error, const struct dp_udp_run *run)
{
	switch (error) {
	case EMSGSIZE:
		return DP_DROP_UNDERLAY_MTU;
	case EINVAL: /* a segment with its headers is longer than the path: udp_send_skb() */
		return run->segments > 1 && !run->whole ? DP_DROP_UNDERLAY_MTU : DP_DROP_UNDERLAY_ERROR;
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

/* As sendmmsg, of messages [at, end) that are all for one descriptor. */
static int
send_messages(struct dp_udp *udp, unsigned at, unsigned end)
{
	const struct dp_udp_run *run = &udp->runs[at];
	const struct msghdr *msg = &udp->tx_msgs[at].msg_hdr;

	if (run->whole)
		return writev(run->fd, msg->msg_iov, msg->msg_iovlen) < 0 ? -1 : 1;
	return sendmmsg(run->fd, udp->tx_msgs + at, end - at, MSG_DONTWAIT);
}

static void
count_sent(struct dp_worker *w, const struct dp_udp_run *run)
{
	struct dp_traffic *to = &run->to->worker[w->id].traffic;

	w->underlay.tx_packets += run->segments;
	w->underlay.tx_bytes += run->bytes;
	to->tx_packets += run->segments;
	to->tx_bytes += run->bytes;
}

/* Of a run that the kernel refused: its first packet. */
static void
capture_unsent(struct dp_worker *w, enum dp_drop drop, const struct dp_udp_run *run, const struct iovec *iov)
{
	const uint32_t before = run->whole ? iov[0].iov_len : DP_VXLAN_LEN;
	const dp_vxlan_hdr *vxlan = (const void *)((const uint8_t *)iov[0].iov_base + before - DP_VXLAN_LEN);
	const int pieces = run->whole || iov[0].iov_len < run->size ? 2 : 1;

	if (dp_is_esp((const uint8_t *)vxlan))
		dp_capture_payload(w, drop, &run->to->addr, iov[0].iov_base, run->size);
	else
		dp_capture_unsent(w, drop, run->to, ntohl(vxlan->vx_vni) >> 8, iov, pieces, before);
}

/* Sends messages [at, end), all from one socket or to the tap; what the kernel refuses is counted and passed over. */
static void
send_some(struct dp_worker *w, unsigned at, unsigned end)
{
	struct dp_udp *udp = &w->udp;

	while (at < end) {
		int fd = udp->runs[at].fd;
		int sent = fd < 0 ? -1 : send_messages(udp, at, end);
		int error = fd < 0 ? ENETUNREACH : errno;
		enum dp_drop drop;

		for (int i = 0; i < sent; i++, at++) {
			count_sent(w, &udp->runs[at]);
			w->whole += udp->runs[at].whole;
		}
		if (sent > 0)
			continue;
		/* IPsec on the path, or before Linux 6.11 a device that leaves checksums to the kernel: no UDP_SEGMENT. */
		if (error == EIO && udp->runs[at].segments > 1 && !udp->runs[at].whole)
			atomic_store_explicit(&udp->runs[at].to->one_by_one, true, memory_order_relaxed);
		if (error == EAGAIN && !w->waited) {
			poll(&(struct pollfd){ .fd = fd, .events = POLLOUT }, 1, WAIT_MS);
			w->waited = true;
			continue;
		}
		drop = send_drop(error, &udp->runs[at]);
		if (drop == DP_DROP_UNDERLAY_MTU || (udp->runs[at].whole && drop != DP_DROP_UNDERLAY_FULL))
			dp_vtep_doubt(udp->runs[at].to);
		w->drops[drop] += udp->runs[at].segments;
		if (unlikely(w->capturing))
			capture_unsent(w, drop, &udp->runs[at], udp->tx_msgs[at].msg_hdr.msg_iov);
		at++;
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
	udp->n_sealed = 0;
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

/* The message that a UDP payload goes into: that of the open run if it fits there, else of a new one. There is room: make_room. */
static inline struct msghdr *
message_for(struct dp_udp *udp, struct dp_udp_run run)
{
	struct dp_udp_run *open = udp->n_runs ? &udp->runs[udp->n_runs - 1] : NULL;

	if (open && !open->closed && !atomic_load_explicit(&run.to->one_by_one, memory_order_relaxed) && open->to == run.to && open->fd == run.fd && open->tos == run.tos && run.size <= open->size &&
	    open->segments < RUN_SEGMENTS && open->bytes + run.size <= RUN_BYTES) {
		open->segments++;
		open->bytes += run.size;
		open->closed = run.size < open->size;
		return &udp->tx_msgs[udp->n_runs - 1].msg_hdr;
	}
	run.segments = 1;
	run.bytes = run.size;
	return start_run(udp, run);
}

/* Adds a UDP payload of n pieces. */
static inline void
add_packet(struct dp_udp *udp, struct dp_udp_run run, const struct iovec *iov, unsigned n)
{
	struct msghdr *msg = message_for(udp, run);

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
	dp_vxlan_hdr *vxlan = (void *)at;

	vxlan->vx_flags = htonl(DP_VXLAN_FLAG_I);
	vxlan->vx_vni = htonl(vni << 8);
}

/* Computes the checksum that its container has left out, if it must; false: there is no place for it, and the frame was dropped. */
static inline bool
complete(struct dp_worker *w, struct dp_frame *f, bool takes_partial)
{
	if (!(f->vnet.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) || (takes_partial && dp_leave_partial(f)))
		return true;
	if (dp_csum_complete(f->data, f->len, f->vnet.csum_start, f->vnet.csum_offset)) {
		dp_drop(w, DP_DROP_OFFLOAD, f, NULL);
		return false;
	}
	f->vnet.flags = 0; /* done, should the frame go to another VTEP as well */
	return true;
}

static void
send_segments(struct dp_worker *w, struct dp_frame *f, struct dp_udp_run run)
{
	struct dp_gso gso;
	int n = dp_gso_plan(&gso, f->data, &f->hdrs, &f->vnet);

	if (n < 0) {
		dp_drop(w, DP_DROP_OFFLOAD, f, NULL);
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

/* Room for a frame of so many bytes and what is put around it. */
static uint8_t *
room_to_seal(struct dp_worker *w, uint32_t frame_len)
{
	make_room(w);
	if (unlikely(w->udp.n_sealed + dp_esp_len(frame_len) > DP_UDP_SEALED_LEN))
		dp_udp_flush(w);
	return w->udp.sealed + w->udp.n_sealed;
}

/* Seals the frame there and adds it. One behind the other they are one piece of a run. */
static void
add_sealed(struct dp_worker *w, struct dp_udp_run run, struct dp_esp_run *esp, uint32_t vni, uint8_t *packet, uint32_t frame_len)
{
	struct dp_udp *udp = &w->udp;
	struct msghdr *msg;
	struct iovec *last;

	run.size = dp_esp_seal(esp, vni, packet, frame_len);
	udp->n_sealed += run.size;
	msg = message_for(udp, run);
	last = msg->msg_iov + msg->msg_iovlen - 1;
	if (msg->msg_iovlen && (uint8_t *)last->iov_base + last->iov_len == packet) {
		last->iov_len += run.size;
		return;
	}
	udp->iovs[udp->n_iovs++] = (struct iovec){ packet, run.size };
	msg->msg_iovlen++;
}

static inline bool
takes_partial(const struct dp_vtep *to)
{
	return atomic_load_explicit(&to->takes_partial, memory_order_relaxed);
}

static void
seal_segments(struct dp_worker *w, struct dp_frame *f, struct dp_udp_run run)
{
	typeof(&dp_gso_segment) segment = takes_partial(run.to) ? dp_gso_segment_partial : dp_gso_segment;
	struct dp_esp_run esp;
	struct dp_gso gso;
	int n = dp_gso_plan(&gso, f->data, &f->hdrs, &f->vnet);

	if (n < 0) {
		dp_drop(w, DP_DROP_OFFLOAD, f, NULL);
		return;
	}
	if (!dp_esp_begin(w, f, run.to, n, &esp))
		return;
	for (int i = 0; i < n; i++) {
		const uint8_t *payload;
		uint32_t payload_len;
		uint8_t *packet = room_to_seal(w, gso.hdr_len + gso.seg_size), *frame = packet + DP_ESP_FRONT;

		segment(&gso, i, frame, &payload, &payload_len);
		memcpy(frame + gso.hdr_len, payload, payload_len);
		add_sealed(w, run, &esp, f->vni, packet, gso.hdr_len + payload_len);
	}
}

static void
send_sealed(struct dp_worker *w, struct dp_frame *f, struct dp_udp_run run)
{
	struct dp_esp_run esp;
	uint8_t *packet;

	if (f->vnet.gso_type != VIRTIO_NET_HDR_GSO_NONE) {
		seal_segments(w, f, run);
		return;
	}
	if (!complete(w, f, takes_partial(run.to)) || !dp_esp_begin(w, f, run.to, 1, &esp))
		return;
	packet = room_to_seal(w, f->len);
	memcpy(packet + DP_ESP_FRONT, f->data, f->len);
	add_sealed(w, run, &esp, f->vni, packet, f->len);
}

/* In its place among the packets before and behind it, from the port that they come from: it is of their flow. */
static void
send_whole(struct dp_worker *w, struct dp_frame *f, struct dp_udp_run run, const struct dp_whole *way, unsigned source)
{
	struct dp_udp *udp = &w->udp;
	uint16_t port = atomic_load_explicit(&udp->ports[source], memory_order_relaxed);
	struct msghdr *msg;
	uint8_t *slot;

	make_room(w);
	slot = udp->slots[udp->n_slots++];
	run.fd = dp_udp_whole_tap(way, w, source);
	run.whole = run.closed = true;
	run.segments = dp_gso_segments(f->data, &f->hdrs, &f->vnet);
	run.bytes = f->len + run.segments * DP_VXLAN_LEN + (run.segments - 1) * f->hdrs.payload;
	msg = start_run(udp, run);
	udp->iovs[udp->n_iovs++] = (struct iovec){ slot, dp_udp_whole_headers(f, way, port, slot) };
	udp->iovs[udp->n_iovs++] = (struct iovec){ f->data, f->len };
	msg->msg_iovlen = 2;
}

void
dp_udp_send(struct dp_worker *w, struct dp_frame *f, struct dp_vtep *to)
{
	unsigned source = dp_flow_hash_fast(f->data, &f->hdrs) % DP_UDP_SOURCES;
	struct dp_udp_run run = {
		.to = to,
		.fd = to->to.ss_family == AF_INET ? w->udp.tx4[source] : w->udp.tx6[source],
		.tos = dp_ecn(f),
	};

	if (f->encrypted) {
		send_sealed(w, f, run);
		return;
	}
	if (f->vnet.gso_type != VIRTIO_NET_HDR_GSO_NONE) {
		const struct dp_whole *way = dp_udp_whole_way(f, to);

		if (way)
			send_whole(w, f, run, way, source);
		else
			send_segments(w, f, run);
		return;
	}
	if (!complete(w, f, false))
		return;
	make_room(w);
	put_vxlan(f->data - DP_VXLAN_LEN, f->vni);
	run.size = DP_VXLAN_LEN + f->len;
	add_packet(&w->udp, run, &(struct iovec){ f->data - DP_VXLAN_LEN, run.size }, 1);
}
