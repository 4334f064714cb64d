/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_HARNESS_ETH_H
#define DP_HARNESS_ETH_H

#include <stdbool.h>
#include <stdint.h>

#include "dp.h"

/* What leaves through a device after one frame came in; len is 0 when nothing did. */
struct dp_harness_sent {
	uint32_t len;
	bool zero_copy; /* in the mbuf that came in */
	uint8_t bytes[2048];
};

/* One frame from a port that is a device, or from the underlay's device, in memory of its exact size. */
void dp_harness_eth_port(uint32_t port, const uint8_t *bytes, uint32_t len, uint32_t tail, uint32_t out, struct dp_harness_sent *sent);
void dp_harness_eth_underlay(uint32_t device, const uint8_t *bytes, uint32_t len, uint32_t out, struct dp_harness_sent *sent);
/* A burst of less than a full queue from the underlay's device, one packet behind the other. Returns how many leave. */
unsigned dp_harness_eth_burst(uint32_t device, const uint8_t *bytes, const uint32_t *lens, unsigned n, uint32_t out, struct dp_harness_sent *sent);
/* One VXLAN packet from a VTEP, of which the receiver on a device gets a copy. */
void dp_harness_eth_copied(uint32_t vtep, uint8_t tos, const uint8_t *bytes, uint32_t len, uint32_t out, struct dp_harness_sent *sent);
/* UDP port of VXLAN for devices: the sockets keep theirs. */
void dp_harness_vxlan_port(uint16_t port);
void dp_harness_own_vtep(struct dp_addr addr);
void dp_harness_device_mac(uint32_t device, uint8_t mac[6]);
bool dp_harness_asleep(void);
bool dp_harness_link_up(uint32_t device);
uint64_t dp_harness_drop(unsigned drop);
/* Whether dp_parse finds what dp_parse_plain does, where that takes the frame (*plain), and both flow hashes are one. */
bool dp_harness_plain_agrees(const uint8_t *frame, uint32_t len, bool *plain);
/* Whether dp_outer_parse finds what dp_outer_plain does in a packet from the underlay's device, where that takes it. */
bool dp_harness_outer_agrees(uint32_t device, const uint8_t *bytes, uint32_t len, bool *plain);

#endif
