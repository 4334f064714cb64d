/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_ESP_H
#define DP_ESP_H

/*
 * A frame of an encrypted network as UDP payload (RFC 3948): ESP in transport mode (RFC 4303) with AES-GCM (RFC 4106) around the UDP
 * and VXLAN headers of RFC 7348. So a kernel that has IPsec between a VXLAN device and the wire makes and takes the same packets.
 *
 *   SPI 4 | sequence number 4 | IV 8 | UDP 8 | VXLAN 8 | frame | padding 0 to 3 | its length 1 | next header 1 | ICV 16
 *                                    '----------------------- encrypted -----------------------------------'
 */
#include <stdbool.h>
#include <stdint.h>

#include "dp.h"
#include "pure_hdr.h"

struct dp_esp_hdr {
	uint32_t spi, number; /* the lower half of the sequence number */
	uint64_t iv;
} __attribute__((packed));

/* What is authenticated beside it: RFC 4106 section 5, with extended sequence numbers. */
struct dp_esp_aad {
	uint32_t spi, number_high, number_low;
};

struct dp_esp_nonce {
	uint8_t salt[4];
	uint64_t iv;
} __attribute__((packed));

#define DP_ESP_TAG 16
/* Padding's length and next header. */
#define DP_ESP_TRAILER 2
#define DP_ESP_ALIGN 4
#define DP_ESP_FRONT (sizeof(struct dp_esp_hdr) + sizeof(struct rte_udp_hdr) + sizeof(struct rte_vxlan_hdr))
/* At most. */
#define DP_ESP_BEHIND (DP_ESP_ALIGN - 1 + DP_ESP_TRAILER + DP_ESP_TAG)

/* Whether a VTEP's packet, of 4 bytes at least, is ESP: SPIs of less are reserved, and one such is a VXLAN header without its flag. */
static inline bool
dp_is_esp(const uint8_t *packet)
{
	uint32_t spi = ntohl(dp_load32(packet));

	return !(spi & DP_ESP_VXLAN_BIT) && spi >= 256;
}

/* Bytes that are encrypted with a frame of so many. */
static inline uint32_t
dp_esp_text(uint32_t frame_len)
{
	uint32_t len = DP_ESP_FRONT - sizeof(struct dp_esp_hdr) + frame_len + DP_ESP_TRAILER;

	return (len + DP_ESP_ALIGN - 1) / DP_ESP_ALIGN * DP_ESP_ALIGN;
}

static inline uint32_t
dp_esp_len(uint32_t frame_len)
{
	return sizeof(struct dp_esp_hdr) + dp_esp_text(frame_len) + DP_ESP_TAG;
}

/* The longest frame in so many bytes, which are DP_ESP_FRONT + DP_ESP_BEHIND at least. */
static inline uint32_t
dp_esp_longest(uint32_t len)
{
	uint32_t text = (len - sizeof(struct dp_esp_hdr) - DP_ESP_TAG) / DP_ESP_ALIGN * DP_ESP_ALIGN;

	return text - DP_ESP_TRAILER - (DP_ESP_FRONT - sizeof(struct dp_esp_hdr));
}

#endif
