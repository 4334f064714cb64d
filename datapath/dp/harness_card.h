/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_HARNESS_CARD_H
#define DP_HARNESS_CARD_H

#include <stdbool.h>
#include <stdint.h>

#include "dp.h"

/* What the pipeline gives a card, and has it do. */
struct dp_harness_given {
	uint8_t bytes[UINT16_MAX + 100];
	uint32_t len;
	uint32_t pieces; /* mbufs */
	bool vxlan, outer4, outer6, outer_ip_csum, outer_udp_csum;
	bool inner4, inner6, ip_csum, tcp_csum, udp_csum, cut;
	uint16_t outer_l2_len, outer_l3_len, l2_len, l3_len, l4_len, size;
};

/* The device has these offloads from now on. */
void dp_harness_card(uint32_t device, bool tx_csum, bool outer_udp, bool tso, bool rx_csum, uint16_t max_segs);
/* A frame of a port, virtio-net header first, through the way out to the device; how many it is given. */
uint32_t dp_harness_card_send(uint32_t port, const uint8_t *bytes, uint32_t len, uint32_t device, struct dp_harness_given *given, uint32_t max);

/* n packets leave through the device, whose driver refuses those of odd number, from 0; how many the card gets. */
uint32_t dp_harness_card_refuses(uint32_t device, uint32_t n);

/* What a card says of a checksum. */
enum dp_harness_word {
	DP_HARNESS_UNKNOWN,
	DP_HARNESS_GOOD,
	DP_HARNESS_BAD,
};

/* A packet that the device has received, with its word on it; whether the inner checksum counts as checked, and the reason to drop it, or DP_DROP_COUNT. */
unsigned dp_harness_card_receive(uint32_t device, const uint8_t *bytes, uint32_t len, bool tunnel, enum dp_harness_word outer, enum dp_harness_word inner, bool *checked);
/* Whether a driver that has all offloads but these is asked for some that it has not. */
bool dp_harness_card_asks_too_much(uint64_t tx_lacks, uint64_t rx_lacks, struct dp_device_info *info);

#endif
