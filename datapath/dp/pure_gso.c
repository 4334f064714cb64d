/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "pure_csum.h"
#include "pure_gso.h"
#include "pure_l4.h"

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
		return h->proto == IPPROTO_UDP && dp_load_be16(frame + h->l4 + DP_UDP_LEN) == h->end - h->l4;
	default:
		return false;
	}
}

/* Brings the template's headers to what all segments share, the rest zero, and sums them. */
static void
prepare(struct dp_gso *gso)
{
	uint8_t *ip = gso->hdr + gso->l3;
	uint8_t *l4 = gso->hdr + gso->l4;

	if (gso->version == 4) {
		gso->ip_id = dp_load_be16(ip + 4);
		memset(ip + 2, 0, 4);
		memset(ip + 10, 0, 2);
		gso->l3_sum = dp_csum_add(ip, gso->l4 - gso->l3, 0);
		gso->l4_sum = dp_csum_pseudo4(ip, gso->proto, 0);
	} else {
		gso->l4_sum = dp_csum_pseudo6(ip, gso->proto, 0);
	}
	if (gso->proto == IPPROTO_TCP) {
		gso->seq = dp_load_be32(l4 + DP_TCP_SEQ);
		gso->tcp_flags = l4[DP_TCP_FLAGS];
		memset(l4 + DP_TCP_SEQ, 0, 4);
		l4[DP_TCP_FLAGS] = 0;
		memset(l4 + DP_TCP_CSUM, 0, 2);
	} else {
		memset(l4 + DP_UDP_LEN, 0, 4);
	}
	gso->l4_sum = dp_csum_add(l4, gso->hdr_len - gso->l4, gso->l4_sum);
}

int
dp_gso_plan(struct dp_gso *gso, const uint8_t *frame, const struct dp_hdrs *h, const struct virtio_net_hdr *vnet)
{
	if (!vnet->gso_size || h->payload > DP_GSO_HDR_MAX || !type_fits(frame, h, vnet->gso_type))
		return -EINVAL;

	uint32_t payload_len = h->end - h->payload;
	uint32_t n_segs = payload_len ? (payload_len - 1) / vnet->gso_size + 1 : 1;

	if (n_segs > DP_GSO_SEGS_MAX)
		return -EINVAL;
	gso->n_segs = n_segs;
	gso->hdr_len = h->payload;
	gso->seg_size = vnet->gso_size;
	gso->payload = frame + h->payload;
	gso->payload_len = payload_len;
	gso->l3 = h->l3;
	gso->l4 = h->l4;
	gso->version = h->version;
	gso->proto = h->proto;
	memcpy(gso->hdr, frame, gso->hdr_len);
	prepare(gso);
	return n_segs;
}

static void
write_ip(const struct dp_gso *gso, unsigned i, uint8_t *ip, uint16_t l4_len)
{
	if (gso->version == 6) {
		dp_store_be16(ip + 4, gso->l4 - gso->l3 - 40 + l4_len);
		return;
	}

	uint16_t total = gso->l4 - gso->l3 + l4_len;
	uint16_t id = gso->ip_id + i;

	dp_store_be16(ip + 2, total);
	dp_store_be16(ip + 4, id);
	dp_store16(ip + 10, ~dp_csum_fold(gso->l3_sum + htons(total) + htons(id)));
}

/* Returns what the segment's own fields add to the sum. */
static uint64_t
write_tcp(const struct dp_gso *gso, unsigned i, uint8_t *tcp)
{
	uint32_t seq = gso->seq + i * gso->seg_size;
	uint8_t flags = gso->tcp_flags;

	if (i > 0)
		flags &= ~DP_TCP_CWR;
	if (i < gso->n_segs - 1u)
		flags &= ~(DP_TCP_FIN | DP_TCP_PSH);
	dp_store_be32(tcp + DP_TCP_SEQ, seq);
	tcp[DP_TCP_FLAGS] = flags;
	return (uint64_t)htonl(seq) + htons(flags);
}

void
dp_gso_segment(const struct dp_gso *gso, unsigned i, uint8_t *hdr, const uint8_t **payload, uint32_t *payload_len)
{
	uint32_t from = i * gso->seg_size;
	uint32_t rest = gso->payload_len - from;
	uint32_t len = rest < gso->seg_size ? rest : gso->seg_size;
	uint16_t l4_len = gso->hdr_len - gso->l4 + len;
	uint8_t *l4 = hdr + gso->l4;

	*payload = gso->payload + from;
	*payload_len = len;
	memcpy(hdr, gso->hdr, gso->hdr_len);
	write_ip(gso, i, hdr + gso->l3, l4_len);

	uint64_t sum = dp_csum_more(dp_csum_add(*payload, len, gso->l4_sum), htons(l4_len));

	if (gso->proto == IPPROTO_TCP) {
		sum = dp_csum_more(sum, write_tcp(gso, i, l4));
		dp_store16(l4 + DP_TCP_CSUM, ~dp_csum_fold(sum));
	} else {
		dp_store_be16(l4 + DP_UDP_LEN, l4_len);
		sum = dp_csum_more(sum, htons(l4_len));

		uint16_t csum = (uint16_t)~dp_csum_fold(sum);

		dp_store16(l4 + DP_UDP_CSUM, csum ? csum : 0xffff);
	}
}
