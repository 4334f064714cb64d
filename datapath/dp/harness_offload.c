//go:build dptest

/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "harness_offload.h"

bool
dp_test_gro_add(struct dp_gro *gro, uintptr_t port, uint8_t *frame, uint32_t len, bool checked)
{
	struct dp_hdrs h;

	dp_parse(frame, len, &h);
	return dp_gro_add(gro, (void *)port, frame, len, &h, 0, checked);
}

uintptr_t
dp_test_gro_port(const struct dp_gro_unit *unit)
{
	return (uintptr_t)unit->cookie;
}

uint64_t
dp_test_csum_loop(const uint8_t *data, uint32_t len, uint32_t rounds)
{
	uint64_t sum = 0;

	while (rounds--)
		sum = dp_csum_add(data, len, sum);
	return sum;
}

uint32_t
dp_test_gso_loop(const uint8_t *frame, uint32_t len, const struct virtio_net_hdr *vnet, uint8_t *segs, uint32_t stride,
		 uint32_t rounds)
{
	struct dp_hdrs h;
	struct dp_gso gso;
	int n = 0;

	while (rounds--) {
		dp_parse(frame, len, &h);
		n = dp_gso_plan(&gso, frame, &h, vnet);
		for (int i = 0; i < n; i++) {
			const uint8_t *payload;
			uint32_t payload_len;

			dp_gso_segment(&gso, i, segs + (uint64_t)i * stride, &payload, &payload_len);
		}
	}
	return n;
}

uint32_t
dp_test_gro_loop(struct dp_gro *gro, uint8_t *const *segs, const uint32_t *lens, uint32_t n, uint32_t rounds)
{
	uint8_t first[DP_GSO_HDR_MAX];
	uint32_t keep = lens[0] < sizeof(first) ? lens[0] : sizeof(first);

	memcpy(first, segs[0], keep);
	while (rounds--) {
		dp_gro_reset(gro);
		for (uint32_t i = 0; i < n; i++)
			dp_test_gro_add(gro, 1, segs[i], lens[i], false);
		for (uint32_t i = 0; i < gro->n_units; i++)
			dp_gro_finish(&gro->units[i]);
		memcpy(segs[0], first, keep);
	}
	return gro->n_units;
}
