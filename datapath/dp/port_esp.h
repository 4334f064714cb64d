/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_PORT_ESP_H
#define DP_PORT_ESP_H

/* Frames of encrypted networks on their way out. */
#include "pure_esp.h"
#include "table_sa.h"

struct dp_frame;
struct dp_worker;

/* How n packets to one VTEP are sealed. */
struct dp_esp_run {
	struct dp_sa *sa;
	uint64_t number; /* of the next packet */
	uint32_t time;   /* the IVs' upper part */
	uint16_t port;   /* of the UDP header inside, in network order */
};

/* False, and they were dropped: there is no key for n more packets, into which the frame would go. */
bool dp_esp_begin(struct dp_worker *w, const struct dp_frame *f, const struct dp_vtep *to, unsigned n, struct dp_esp_run *run);
/* Seals the frame that lies behind DP_ESP_FRONT bytes, and before DP_ESP_BEHIND; returns dp_esp_len of it. */
uint32_t dp_esp_seal(struct dp_esp_run *run, uint32_t vni, uint8_t *packet, uint32_t frame_len);

#endif
