// SPDX-License-Identifier: Apache-2.0
/* Frames from taps and replicas on their way to an ethdev: copied into mbufs, finished in software. */
#include "pure_csum.h"
#include "pure_gso.h"
#include "port.h"

static struct rte_mbuf *
new_mbuf(struct dp_worker *w, uint32_t len)
{
	struct rte_mbuf *m = dp.eth_pool ? rte_pktmbuf_alloc(dp.eth_pool) : NULL;

	if (!m) {
		dp_count(w, DP_DROP_NO_MBUF);
		return NULL;
	}
	if (!rte_pktmbuf_append(m, RTE_MIN(len, (uint32_t)UINT16_MAX))) {
		dp_count(w, DP_DROP_OVERSIZE);
		rte_pktmbuf_free(m);
		return NULL;
	}
	return m;
}

static void
copy_segments(struct dp_worker *w, const struct dp_frame *f, bool partial, dp_eth_sink sink, void *to)
{
	typeof(&dp_gso_segment) segment = partial ? dp_gso_segment_partial : dp_gso_segment;
	struct dp_gso gso;
	int n = dp_gso_plan(&gso, f->data, &f->hdrs, &f->vnet);

	if (n < 0) {
		dp_count(w, DP_DROP_OFFLOAD);
		return;
	}
	for (int i = 0; i < n; i++) {
		uint8_t hdr[DP_GSO_HDR_MAX];
		const uint8_t *payload;
		uint32_t payload_len;
		struct rte_mbuf *m;

		segment(&gso, i, hdr, &payload, &payload_len);
		m = new_mbuf(w, gso.hdr_len + payload_len);
		if (!m)
			continue;
		memcpy(rte_pktmbuf_mtod(m, uint8_t *), hdr, gso.hdr_len);
		memcpy(rte_pktmbuf_mtod(m, uint8_t *) + gso.hdr_len, payload, payload_len);
		sink(w, f, to, m);
	}
}

void
dp_eth_copy(struct dp_worker *w, struct dp_frame *f, bool partial, dp_eth_sink sink, void *to)
{
	struct rte_mbuf *m;

	if (f->vnet.gso_type != VIRTIO_NET_HDR_GSO_NONE) {
		copy_segments(w, f, partial, sink, to);
		return;
	}
	m = new_mbuf(w, f->len);
	if (!m)
		return;
	memcpy(rte_pktmbuf_mtod(m, uint8_t *), f->data, f->len);
	if ((f->vnet.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) && !(partial && dp_leave_partial(f)) && dp_csum_complete(rte_pktmbuf_mtod(m, uint8_t *), f->len, f->vnet.csum_start, f->vnet.csum_offset)) {
		dp_count(w, DP_DROP_OFFLOAD);
		rte_pktmbuf_free(m);
		return;
	}
	sink(w, f, to, m);
}
