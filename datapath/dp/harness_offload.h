/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_HARNESS_OFFLOAD_H
#define DP_HARNESS_OFFLOAD_H

/* What harness_offload.go can't say in Go: integers as cookies, and loops to measure without a call from Go a round. */
#include "pure_csum.h"
#include "pure_gro.h"
#include "pure_gso.h"

bool dp_test_gro_add(struct dp_gro *gro, uintptr_t port, uint8_t *frame, uint32_t len, bool checked);
uintptr_t dp_test_gro_port(const struct dp_gro_unit *unit);

uint64_t dp_test_csum_loop(const uint8_t *data, uint32_t len, uint32_t rounds);
/* The headers of segment i are written at segs + i * stride. Returns the number of segments. */
uint32_t dp_test_gso_loop(const uint8_t *frame, uint32_t len, const struct virtio_net_hdr *vnet, uint8_t *segs,
			  uint32_t stride, uint32_t rounds);
/* Returns the number of units. */
uint32_t dp_test_gro_loop(struct dp_gro *gro, uint8_t *const *segs, const uint32_t *lens, uint32_t n, uint32_t rounds);

#endif
