/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_OUTER_H
#define DP_OUTER_H

/* The outer headers of a packet that a device has received: what is checked before its payload is taken for VXLAN. */
#include <smmintrin.h>

#include "pure_csum.h"
#include "port.h"

#define DP_IP4_HDR 20
#define DP_IP6_HDR 40
#define DP_UDP_HDR 8
#define DP_OUTER4_PLAIN 48

/* What the packets of a burst are held against. */
struct dp_outer {
	uint8_t plain[DP_OUTER4_PLAIN] __rte_aligned(16); /* what dp_outer_mask leaves of a plain packet */
	const struct dp_eth *eth;
	/* Packets that follow each other come from the same VTEP more often than not. */
	const struct dp_vtep *sender;
	uint32_t sender_ip;
};

extern const uint8_t dp_outer_mask[DP_OUTER4_PLAIN];

void dp_outer_begin(struct dp_outer *o, const struct dp_eth *eth);

/* Fills p. DP_DROP_COUNT: nothing is wrong with the headers. */
enum dp_drop dp_outer_open(struct dp_outer *o, struct rte_mbuf **m, struct dp_packet *p);

static inline const struct dp_vtep *
dp_outer_sender4(struct dp_outer *o, const uint8_t *ip)
{
	uint32_t addr = dp_load32(ip);

	if (unlikely(!o->sender || addr != o->sender_ip)) {
		struct dp_addr full = dp_addr4(ip);

		o->sender = dp_vtep_lookup(&full);
		o->sender_ip = addr;
	}
	return o->sender;
}

/*
 * Whether an IPv4 header, nearly always one without options, sums up to all ones. A sum that is not 0, which the version
 * sees to, does so when 0xffff divides it: one multiplication in place of the folds.
 */
static inline bool
dp_outer_sum_ok(const uint8_t *ip, uint32_t len)
{
	uint64_t sum;

	if (unlikely(len != DP_IP4_HDR))
		return dp_csum_fold(dp_csum_add(ip, len, 0)) == 0xffff;
	sum = (uint64_t)dp_load32(ip) + dp_load32(ip + 4) + dp_load32(ip + 8) + dp_load32(ip + 12) + dp_load32(ip + 16);
	return sum % 0xffff == 0;
}

static inline __m128i
dp_outer_differs(const struct dp_outer *o, const uint8_t *data, unsigned at)
{
	__m128i mask = _mm_load_si128((const __m128i *)(dp_outer_mask + at));

	return _mm_xor_si128(_mm_and_si128(_mm_loadu_si128((const __m128i *)(data + at)), mask), _mm_load_si128((const __m128i *)(o->plain + at)));
}

/*
 * What most packets are: IPv4 without options, in one piece, without UDP checksum, from a VTEP to us, and nothing behind.
 * Fills p, or else false, and dp_outer_open is to look.
 */
static inline bool
dp_outer_plain(struct dp_outer *o, struct rte_mbuf **m, struct dp_packet *p)
{
	uint8_t *d = rte_pktmbuf_mtod(*m, uint8_t *);
	uint32_t len = (*m)->data_len;
	__m128i differs;

	if ((*m)->nb_segs > 1 || len < DP_OUTER4_LEN)
		return false;
	differs = _mm_or_si128(_mm_or_si128(dp_outer_differs(o, d, 0), dp_outer_differs(o, d, 16)), dp_outer_differs(o, d, 32));
	if (!_mm_testz_si128(differs, differs) || dp_load_be16(d + 16) != len - DP_ETH_LEN || dp_load_be16(d + 38) != len - DP_ETH_LEN - DP_IP4_HDR ||
	    !dp_outer_sum_ok(d + DP_ETH_LEN, DP_IP4_HDR))
		return false;
	p->data = d + DP_OUTER4_LEN - DP_VXLAN_LEN;
	p->len = len - (DP_OUTER4_LEN - DP_VXLAN_LEN);
	p->tos = d[15];
	p->from = dp_outer_sender4(o, d + 26);
	p->mbuf = m;
	return p->from;
}

#endif
