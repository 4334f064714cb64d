/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "pure_csum.h"
#include "pure_gso.h"

static bool
type_fits(const uint8_t *frame, const struct dp_hdrs *h, uint8_t type)
{
	if (!h->transport || h->routing)
		return false;
	switch (type & ~VIRTIO_NET_HDR_GSO_ECN) {
	case VIRTIO_NET_HDR_GSO_TCPV4:
		return h->version == 4 && h->proto == IPPROTO_TCP;
	case VIRTIO_NET_HDR_GSO_TCPV6:
		return h->version == 6 && h->proto == IPPROTO_TCP;
	case VIRTIO_NET_HDR_GSO_UDP_L4:
		return h->proto == IPPROTO_UDP && ntohs(((const dp_udp_hdr *)(frame + h->l4))->dgram_len) == h->end - h->l4;
	default:
		return false;
	}
}

/* Brings the template's headers to what all segments share, the rest zero, and sums them. */
static void
prepare(struct dp_gso *gso)
{
	dp_ipv4_hdr *ip4 = (void *)(gso->hdr + gso->l3);
	dp_tcp_hdr *tcp = (void *)(gso->hdr + gso->l4);
	dp_udp_hdr *udp = (void *)(gso->hdr + gso->l4);

	if (gso->version == 4) {
		gso->ip_id = ntohs(ip4->packet_id);
		ip4->total_length = 0;
		ip4->packet_id = 0;
		ip4->hdr_checksum = 0;
		gso->l3_sum = dp_csum_add(ip4, gso->l4 - gso->l3, 0);
		gso->pseudo_sum = dp_csum_pseudo4(ip4, gso->proto, 0);
	} else {
		gso->pseudo_sum = dp_csum_pseudo6((const void *)(gso->hdr + gso->l3), gso->proto, 0);
	}
	if (gso->proto == IPPROTO_TCP) {
		gso->seq = ntohl(tcp->sent_seq);
		gso->tcp_flags = tcp->tcp_flags;
		tcp->sent_seq = 0;
		tcp->tcp_flags = 0;
		tcp->cksum = 0;
	} else {
		udp->dgram_len = 0;
		udp->dgram_cksum = 0;
	}
	gso->l4_sum = dp_csum_add(gso->hdr + gso->l4, gso->hdr_len - gso->l4, gso->pseudo_sum);
}

int
dp_gso_segments(const uint8_t *frame, const struct dp_hdrs *h, const struct virtio_net_hdr *vnet)
{
	uint32_t payload_len = h->end - h->payload, n_segs;

	if (!vnet->gso_size || h->payload > DP_GSO_HDR_MAX || !type_fits(frame, h, vnet->gso_type))
		return -EINVAL;
	n_segs = payload_len ? (payload_len - 1) / vnet->gso_size + 1 : 1;
	return n_segs > DP_GSO_SEGS_MAX ? -EINVAL : (int)n_segs;
}

int
dp_gso_plan(struct dp_gso *gso, const uint8_t *frame, const struct dp_hdrs *h, const struct virtio_net_hdr *vnet)
{
	int n_segs = dp_gso_segments(frame, h, vnet);

	if (n_segs < 0)
		return n_segs;
	gso->n_segs = n_segs;
	gso->hdr_len = h->payload;
	gso->seg_size = vnet->gso_size;
	gso->payload = frame + h->payload;
	gso->payload_len = h->end - h->payload;
	gso->l3 = h->l3;
	gso->l4 = h->l4;
	gso->version = h->version;
	gso->proto = h->proto;
	memcpy(gso->hdr, frame, gso->hdr_len);
	prepare(gso);
	return n_segs;
}

static void
write_ip4(const struct dp_gso *gso, unsigned i, dp_ipv4_hdr *ip, uint16_t l4_len)
{
	uint16_t total = gso->l4 - gso->l3 + l4_len;
	uint16_t id = gso->ip_id + i;

	ip->total_length = htons(total);
	ip->packet_id = htons(id);
	ip->hdr_checksum = ~dp_csum_fold(gso->l3_sum + htons(total) + htons(id));
}

static void
write_ip6(const struct dp_gso *gso, dp_ipv6_hdr *ip, uint16_t l4_len)
{
	ip->payload_len = htons(gso->l4 - gso->l3 - sizeof(*ip) + l4_len);
}

/* Returns what the segment's own fields add to the sum. */
static uint64_t
write_tcp(const struct dp_gso *gso, unsigned i, dp_tcp_hdr *tcp)
{
	uint32_t seq = gso->seq + i * gso->seg_size;
	uint8_t flags = gso->tcp_flags;

	if (i > 0)
		flags &= ~RTE_TCP_CWR_FLAG;
	if (i < gso->n_segs - 1u)
		flags &= ~(RTE_TCP_FIN_FLAG | RTE_TCP_PSH_FLAG);
	tcp->sent_seq = htonl(seq);
	tcp->tcp_flags = flags;
	return (uint64_t)htonl(seq) + htons(flags);
}

/* All but the checksum. Returns what the segment's own fields of TCP or UDP add to the sum. */
static uint64_t
write_headers(const struct dp_gso *gso, unsigned i, uint8_t *hdr, uint16_t l4_len)
{
	memcpy(hdr, gso->hdr, gso->hdr_len);
	if (gso->version == 4)
		write_ip4(gso, i, (void *)(hdr + gso->l3), l4_len);
	else
		write_ip6(gso, (void *)(hdr + gso->l3), l4_len);
	if (gso->proto == IPPROTO_TCP)
		return write_tcp(gso, i, (void *)(hdr + gso->l4));
	((dp_udp_hdr *)(hdr + gso->l4))->dgram_len = htons(l4_len);
	return htons(l4_len);
}

static uint32_t
find_payload(const struct dp_gso *gso, unsigned i, const uint8_t **payload)
{
	uint32_t from = i * gso->seg_size, rest = gso->payload_len - from;

	*payload = gso->payload + from;
	return rest < gso->seg_size ? rest : gso->seg_size;
}

static void
write_checksum(const struct dp_gso *gso, uint8_t *hdr, uint16_t csum)
{
	if (gso->proto == IPPROTO_TCP)
		((dp_tcp_hdr *)(hdr + gso->l4))->cksum = csum;
	else
		((dp_udp_hdr *)(hdr + gso->l4))->dgram_cksum = csum ? csum : 0xffff;
}

void
dp_gso_segment(const struct dp_gso *gso, unsigned i, uint8_t *hdr, const uint8_t **payload, uint32_t *payload_len)
{
	uint32_t len = find_payload(gso, i, payload);
	uint16_t l4_len = gso->hdr_len - gso->l4 + len;
	uint64_t own = write_headers(gso, i, hdr, l4_len), sum = dp_csum_more(dp_csum_add(*payload, len, gso->l4_sum), htons(l4_len));

	*payload_len = len;
	write_checksum(gso, hdr, ~dp_csum_fold(dp_csum_more(sum, own)));
}

void
dp_gso_segment_partial(const struct dp_gso *gso, unsigned i, uint8_t *hdr, const uint8_t **payload, uint32_t *payload_len)
{
	uint32_t len = find_payload(gso, i, payload);
	uint16_t l4_len = gso->hdr_len - gso->l4 + len;

	*payload_len = len;
	write_headers(gso, i, hdr, l4_len);
	write_checksum(gso, hdr, dp_csum_fold(dp_csum_more(gso->pseudo_sum, htons(l4_len))));
}
