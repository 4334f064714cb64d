// SPDX-License-Identifier: Apache-2.0
/* From the underlay: opens what is encrypted, before anything else is looked at. RFC 4303 section 3.4. */
#include "pure_esp.h"
#include "stage.h"
#include "table_sa.h"

/* The UDP payload in what was encrypted: p is the VXLAN packet from then on. */
static enum dp_drop
take_payload(struct dp_packet *p, uint8_t *text, uint32_t len)
{
	const dp_udp_hdr *udp = (const void *)text;
	const uint32_t pad = text[len - 2], next = text[len - 1];
	uint32_t inner;

	if (next != IPPROTO_UDP || pad + DP_ESP_TRAILER + sizeof(*udp) > len)
		return DP_DROP_ESP_MALFORMED;
	inner = ntohs(udp->dgram_len);
	if (udp->dst_port != htons(dp.config.port) || inner < sizeof(*udp) || inner > len - DP_ESP_TRAILER - pad)
		return DP_DROP_ESP_MALFORMED;
	p->data = text + sizeof(*udp);
	p->len = inner - sizeof(*udp);
	p->esp = true;
	p->checked = false;
	p->gso_size = 0;
	return DP_DROP_COUNT;
}

static enum dp_drop
open_packet(struct dp_packet *p)
{
	struct dp_esp_hdr hdr;
	struct dp_esp_aad aad;
	struct dp_esp_nonce nonce;
	uint8_t *text = p->data + sizeof(hdr);
	struct dp_sa *sa;
	uint64_t number;
	uint32_t len;

	if (p->len < sizeof(hdr) + DP_ESP_ALIGN + DP_ESP_TAG || (p->len - sizeof(hdr) - DP_ESP_TAG) % DP_ESP_ALIGN)
		return DP_DROP_ESP_MALFORMED;
	memcpy(&hdr, p->data, sizeof(hdr));
	sa = dp_sa_in(p->from, ntohl(hdr.spi));
	if (!sa)
		return DP_DROP_ESP_SPI;
	number = dp_window_extend(&sa->window, ntohl(hdr.number));
	if (!dp_window_fresh(&sa->window, number))
		return DP_DROP_ESP_REPLAY;
	len = p->len - sizeof(hdr) - DP_ESP_TAG;
	aad = (struct dp_esp_aad){ hdr.spi, htonl(number >> 32), hdr.number };
	nonce.iv = hdr.iv;
	memcpy(nonce.salt, sa->salt, sizeof(nonce.salt));
	if (!dp_aead_open(&sa->aead, (const uint8_t *)&nonce, &aad, sizeof(aad), text, len, text + len))
		return dp_window_leaps(&sa->window, number) ? DP_DROP_ESP_REPLAY : DP_DROP_ESP_FORGED;
	/* Only now: a forged packet is not to keep a real one out. */
	if (!dp_window_take(&sa->window, number))
		return DP_DROP_ESP_REPLAY;
	atomic_fetch_add_explicit(&sa->opened, 1, memory_order_relaxed);
	return take_payload(p, text, len);
}

unsigned
dp_esp_open(struct dp_worker *w, struct dp_packet *packets, unsigned n)
{
	unsigned kept = 0, sealed = 0;

	dp_stage(w, DP_STAGE_RECEIVE, n);
	for (unsigned i = 0; i < n; i++) {
		enum dp_drop drop = DP_DROP_COUNT;

		if (packets[i].len >= sizeof(uint32_t) && dp_is_esp(packets[i].data)) {
			sealed++;
			drop = open_packet(&packets[i]);
		}
		if (unlikely(drop != DP_DROP_COUNT))
			dp_drop_payload(w, drop, packets[i].from, packets[i].data, packets[i].len);
		else if (kept++ != i)
			packets[kept - 1] = packets[i];
	}
	if (sealed)
		dp_stage(w, DP_STAGE_OPEN, sealed);
	return kept;
}
