// SPDX-License-Identifier: Apache-2.0
/* Which captures want a packet, and its copy in a worker's ring. */
#include <pcap/pcap.h>

#include "port.h"
#include "pure_esp.h"

atomic_bool dp_capturing;
_Atomic uint64_t dp_capture_threshold;
_Atomic(struct dp_capture *) dp_capture_slots[DP_CAPTURES];

/* In bytes. */
#define ICMP_HEADER 8

/* How far a frame's headers go: what is behind them is nobody's business who gets headers alone. */
static uint32_t
headers_len(const uint8_t *frame, uint32_t len)
{
	struct dp_hdrs h;

	if (dp_parse_fast(frame, len, &h) > DP_PARSE_NOT_IP)
		return RTE_MIN(len, (uint32_t)DP_ETH_LEN);
	if (!h.version)
		return h.ethertype == ETH_P_ARP ? len : DP_ETH_LEN;
	if (h.transport)
		return h.payload;
	return !h.fragment && (h.proto == IPPROTO_ICMP || h.proto == IPPROTO_ICMPV6) ? RTE_MIN(h.end, h.l4 + (uint32_t)ICMP_HEADER) : h.l4;
}

static bool
matches(const struct dp_capture *c, const uint8_t *frame, uint32_t len, uint32_t whole)
{
	struct pcap_pkthdr packet = { .len = whole };

	if (!c->program.bf_insns)
		return true;
	packet.caplen = c->config.headers ? headers_len(frame, len) : len;
	return pcap_offline_filter(&c->program, &packet, frame);
}

/*
 * Of the first len bytes of a frame, which is longer where it lies in pieces. Port is the one it came from or goes to, or NULL: what is for a
 * group has no other MAC of the container.
 */
static bool
wants(const struct dp_capture *c, uint32_t vni, const uint8_t *frame, uint32_t len, uint32_t whole, const struct dp_port *port)
{
	const struct dp_capture_config *config = &c->config;

	if (config->vni && config->vni != vni)
		return false;
	if (c->threshold <= UINT32_MAX && dp_sample_hash(frame, len) >> 32 >= c->threshold)
		return false;
	if (config->has_mac && (!port || memcmp(port->mac, config->mac, 6)) && (len < DP_ETH_LEN || (memcmp(frame, config->mac, 6) && memcmp(frame + 6, config->mac, 6))))
		return false;
	return matches(c, frame, len, whole);
}

static dp_captures
choose(uint32_t vni, const uint8_t *frame, uint32_t len, uint32_t whole, const struct dp_port *port)
{
	dp_captures chosen = 0;

	for (unsigned i = 0; i < DP_CAPTURES; i++) {
		const struct dp_capture *c = dp_capture_get(i);

		if (c && wants(c, vni, frame, len, whole, port))
			chosen |= 1u << i;
	}
	return chosen;
}

/* Where a record of so many bytes is to be written; NULL: there is no room. */
static uint8_t *
reserve(struct dp_capture_ring *ring, uint32_t room, uint32_t size)
{
	uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed), head = atomic_load_explicit(&ring->head, memory_order_acquire);
	uint32_t at = tail & (room - 1), left = room - at;

	if (size > room - (tail - head) || (size > left && left + size > room - (tail - head)))
		return NULL;
	if (size <= left)
		return ring->bytes + at;
	*(struct dp_captured_start *)(ring->bytes + at) = (struct dp_captured_start){ .size = left, .point = DP_POINT_PAD };
	atomic_store_explicit(&ring->tail, tail + left, memory_order_release);
	return ring->bytes;
}

/* Copies from the pieces, without the first `skip` bytes; how many. */
static uint32_t
gather(uint8_t *to, uint32_t most, const struct iovec *iov, int n, uint32_t skip)
{
	uint32_t len = 0;

	for (int i = 0; i < n && len < most; i++) {
		const uint32_t part = iov[i].iov_len - RTE_MIN((uint32_t)iov[i].iov_len, skip), copied = RTE_MIN(part, most - len);

		memcpy(to + len, (const uint8_t *)iov[i].iov_base + iov[i].iov_len - part, copied);
		len += copied;
		skip -= iov[i].iov_len - part;
	}
	return len;
}

static void
record(const struct dp_worker *w, struct dp_capture *c, struct dp_captured head, const struct iovec *iov, int n, uint32_t skip)
{
	struct dp_capture_ring *ring = &c->rings[w->id];
	uint8_t *at;

	if (!(c->config.points & 1u << head.start.point) || (c->config.has_vtep && !dp_addr_equal(&c->config.vtep, &head.vtep)))
		return;
	head.kept = RTE_MIN(head.len, c->config.snap);
	head.start.size = RTE_ALIGN_CEIL(sizeof(head) + head.kept, 8);
	at = reserve(ring, c->config.room, head.start.size);
	if (!at) {
		atomic_fetch_add_explicit(&ring->lost, 1, memory_order_relaxed);
		return;
	}
	memcpy(at, &head, sizeof(head));
	gather(at + sizeof(head), head.kept, iov, n, skip);
	atomic_store_explicit(&ring->tail, atomic_load_explicit(&ring->tail, memory_order_relaxed) + head.start.size, memory_order_release);
}

static void
record_all(const struct dp_worker *w, dp_captures chosen, struct dp_captured head, const struct iovec *iov, int n, uint32_t skip)
{
	head.time = rte_rdtsc();
	for (; chosen; chosen &= chosen - 1) {
		struct dp_capture *c = dp_capture_get(__builtin_ctz(chosen));

		if (c)
			record(w, c, head, iov, n, skip);
	}
}

static struct dp_captured
head_of(enum dp_point point, uint32_t vni, uint32_t len, const struct dp_port *port, const struct dp_vtep *vtep)
{
	struct dp_captured head = { .start.point = point, .vni = vni, .len = len };

	if (port)
		memcpy(head.mac, port->mac, 6);
	if (vtep) {
		head.vtep = vtep->addr;
		head.vtep_port = ntohs(vtep->to.ss_family == AF_INET ? ((const struct sockaddr_in *)&vtep->to)->sin_port : ((const struct sockaddr_in6 *)&vtep->to)->sin6_port);
	}
	return head;
}

static __rte_noinline void
read_one(struct dp_worker *w, struct dp_frame *f, const struct dp_port *from)
{
	struct dp_captured head;

	f->captures = choose(from->vni, f->data, f->len, f->len, from);
	if (!f->captures)
		return;
	w->chosen = true;
	head = head_of(DP_POINT_READ, from->vni, f->len, from, NULL);
	head.gso_size = f->vnet.gso_size;
	record_all(w, f->captures, head, &(struct iovec){ f->data, f->len }, 1, 0);
}

void
dp_capture_read(struct dp_worker *w, struct dp_frame *frames, struct dp_port **from, unsigned n)
{
	const uint64_t threshold = atomic_load_explicit(&dp_capture_threshold, memory_order_relaxed);

	w->chosen = false;
	for (unsigned i = 0; i < n; i++) {
		frames[i].captures = 0;
		if (unlikely(dp_capture_may(threshold, frames[i].data, frames[i].len)))
			read_one(w, &frames[i], from[i]);
	}
}

void
dp_capture_sent(struct dp_worker *w, struct dp_frame **frames, unsigned n, const struct dp_vtep *to)
{
	for (unsigned i = 0; i < n; i++) {
		struct dp_frame *f = frames[i];
		struct dp_captured head;

		if (likely(!f->captures))
			continue;
		head = head_of(DP_POINT_SENT, f->vni, f->len, NULL, to);
		head.gso_size = f->vnet.gso_size;
		head.encrypted = f->encrypted;
		record_all(w, f->captures, head, &(struct iovec){ f->data, f->len }, 1, 0);
	}
}

dp_captures
dp_capture_received(struct dp_worker *w, const struct dp_packet *p)
{
	const uint32_t vni = ntohl(((const dp_vxlan_hdr *)p->data)->vx_vni) >> 8;
	const dp_captures chosen = choose(vni, p->data + DP_VXLAN_LEN, p->len - DP_VXLAN_LEN, p->len - DP_VXLAN_LEN, NULL);
	struct dp_captured head;

	if (likely(!chosen))
		return 0;
	head = head_of(DP_POINT_RECEIVED, vni, p->len - DP_VXLAN_LEN, NULL, p->from);
	head.gso_size = p->gso_size;
	head.encrypted = p->esp;
	record_all(w, chosen, head, &(struct iovec){ p->data + DP_VXLAN_LEN, p->len - DP_VXLAN_LEN }, 1, 0);
	return chosen;
}

/* A filter sees what is in the piece with the frame's headers. */
static void
record_pieces(const struct dp_worker *w, struct dp_captured head, const struct dp_port *port, const struct iovec *iov, int n, uint32_t skip)
{
	const bool apart = n > 1 && iov[0].iov_len == skip;
	const uint8_t *frame = apart ? iov[1].iov_base : (const uint8_t *)iov[0].iov_base + skip;
	const uint32_t first = apart ? iov[1].iov_len : iov[0].iov_len - skip;
	dp_captures chosen;

	for (int i = 0; i < n; i++)
		head.len += iov[i].iov_len;
	head.len -= skip;
	chosen = choose(head.vni, frame, first, head.len, port);
	if (chosen)
		record_all(w, chosen, head, iov, n, skip);
}

static void
to_port(const struct dp_worker *w, struct dp_captured head, const struct dp_port *port, const struct iovec *iov, int n)
{
	const struct virtio_net_hdr *vnet = iov[0].iov_base;

	head.gso_size = vnet->gso_size;
	record_pieces(w, head, port, iov, n, DP_VNET_LEN);
}

void
dp_capture_delivered(struct dp_worker *w, const struct dp_port *port, const struct iovec *iov, int n)
{
	to_port(w, head_of(DP_POINT_DELIVERED, port->vni, 0, port, NULL), port, iov, n);
}

void
dp_capture_undelivered(struct dp_worker *w, enum dp_drop reason, const struct dp_port *port, const struct iovec *iov, int n)
{
	struct dp_captured head = head_of(DP_POINT_DROPPED, port->vni, 0, port, NULL);

	if (!port->vni) /* it is the host's own traffic, and no container's */
		return;
	head.start.drop = reason;
	to_port(w, head, port, iov, n);
}

void
dp_capture_dropped(struct dp_worker *w, enum dp_drop reason, const struct dp_frame *f, const struct dp_vtep *from)
{
	struct dp_captured head = head_of(DP_POINT_DROPPED, f->vni, f->len, NULL, from);

	head.start.drop = reason;
	record_all(w, choose(f->vni, f->data, f->len, f->len, NULL), head, &(struct iovec){ f->data, f->len }, 1, 0);
}

void
dp_capture_unsent(struct dp_worker *w, enum dp_drop reason, const struct dp_vtep *to, uint32_t vni, const struct iovec *iov, int n, uint32_t skip)
{
	struct dp_captured head = head_of(DP_POINT_DROPPED, vni, 0, NULL, to);

	head.start.drop = reason;
	record_pieces(w, head, NULL, iov, n, skip);
}

void
dp_capture_payload(struct dp_worker *w, enum dp_drop reason, const struct dp_addr *vtep, const uint8_t *data, uint32_t len)
{
	struct dp_captured head = head_of(DP_POINT_DROPPED, 0, 0, NULL, NULL);
	struct iovec iov = { (void *)data, len };
	dp_captures chosen = 0;

	head.start.drop = reason;
	head.vtep = *vtep;
	if (len >= DP_VXLAN_LEN + DP_ETH_LEN && !dp_is_esp(data)) {
		head.vni = ntohl(((const dp_vxlan_hdr *)data)->vx_vni) >> 8;
		iov = (struct iovec){ (void *)(data + DP_VXLAN_LEN), len - DP_VXLAN_LEN };
		record_pieces(w, head, NULL, &iov, 1, 0);
		return;
	}
	for (unsigned i = 0; i < DP_CAPTURES; i++) {
		const struct dp_capture *c = dp_capture_get(i);

		if (c && (c->config.opaque || (!c->config.vni && !c->config.has_mac && !c->program.bf_insns)))
			chosen |= 1u << i;
	}
	head.payload = true;
	head.len = len;
	record_all(w, chosen, head, &iov, 1, 0);
}
