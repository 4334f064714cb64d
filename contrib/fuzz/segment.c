/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes parsing and segmentation. Input: a struct virtio_net_hdr, then the super-frame. Each segment must be a packet
 * whose lengths and checksums hold, and the payloads in a row must be the super-frame's.
 */
#include <stdlib.h>

#include "pure_csum.h"
#include "fuzz.h"
#include "pure_gso.h"

static void
check_segment(const uint8_t *segment, uint32_t len)
{
	const void *ip;
	struct dp_hdrs h;
	uint32_t l4_len;
	uint64_t sum;

	FUZZ_CHECK(dp_parse(segment, len, &h) == DP_PARSE_OK && h.transport && h.end == len);
	l4_len = h.end - h.l4;
	ip = segment + h.l3;
	sum = h.version == 4 ? dp_csum_pseudo4(ip, h.proto, l4_len) : dp_csum_pseudo6(ip, h.proto, l4_len);
	FUZZ_CHECK(dp_csum_fold(dp_csum_add(segment + h.l4, l4_len, sum)) == 0xffff);
	if (h.version == 4)
		FUZZ_CHECK(dp_csum_fold(dp_csum_add(ip, h.l4 - h.l3, 0)) == 0xffff);
}

/* Returns the length of the payload. */
static uint32_t
check_one(const struct dp_gso *gso, unsigned i, const uint8_t *expected)
{
	uint8_t *hdr = fuzz_copy(gso->hdr, gso->hdr_len);
	const uint8_t *payload;
	uint32_t payload_len;
	uint8_t *segment;

	dp_gso_segment(gso, i, hdr, &payload, &payload_len);
	FUZZ_CHECK(payload == expected);
	segment = malloc(gso->hdr_len + payload_len);
	memcpy(segment, hdr, gso->hdr_len);
	memcpy(segment + gso->hdr_len, payload, payload_len);
	check_segment(segment, gso->hdr_len + payload_len);
	free(segment);
	free(hdr);
	return payload_len;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct virtio_net_hdr vnet;
	struct dp_hdrs h;
	struct dp_gso gso;
	uint8_t *frame;
	int n;

	if (size < sizeof(vnet) || size > UINT16_MAX)
		return 0;
	memcpy(&vnet, data, sizeof(vnet));
	frame = fuzz_copy(data + sizeof(vnet), size - sizeof(vnet));
	if (dp_parse(frame, size - sizeof(vnet), &h) == DP_PARSE_OK) {
		uint32_t at = h.payload;

		n = dp_gso_plan(&gso, frame, &h, &vnet);
		for (int i = 0; i < n; i++)
			at += check_one(&gso, i, frame + at);
		FUZZ_CHECK(n < 0 || at == h.end);
	}
	free(frame);
	return 0;
}
