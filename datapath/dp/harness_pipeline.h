/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_HARNESS_PIPELINE_H
#define DP_HARNESS_PIPELINE_H

#include <stdint.h>

/* One frame from a port, virtio-net header first, or one VXLAN packet from a VTEP, in memory of its exact size. */
void dp_harness_encap(uint32_t port, const uint8_t *bytes, uint32_t len);
void dp_harness_decap(uint32_t vtep, uint8_t tos, const uint8_t *bytes, uint32_t len);
/* As if the kernel had refused UDP_SEGMENT. */
void dp_harness_one_by_one(void);
/* All drops that the two have counted. */
uint64_t dp_harness_drops(void);

#endif
