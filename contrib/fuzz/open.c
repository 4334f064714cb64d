/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes what an encrypted packet holds once it is open. Input: that, as a member of the cluster encrypts it; the last bytes that are no whole word are left out. */
#include "../../datapath/dp/harness_pipeline.h"
#include "../../datapath/dp/pure_aead.h"
#include "../../datapath/dp/pure_esp.h"
#include "fuzz.h"
#include "pipeline.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct dp_aead aead;
	static uint32_t number;
	uint32_t text_len = size / DP_ESP_ALIGN * DP_ESP_ALIGN;
	struct dp_esp_hdr hdr = { .spi = htonl(FUZZ_SPI), .number = htonl(number + 1), .iv = number };
	struct dp_esp_aad aad = { hdr.spi, 0, hdr.number };
	struct dp_esp_nonce nonce = { .iv = hdr.iv };
	const struct fuzz_pipeline *p = fuzz_pipeline();
	uint8_t *packet;

	if (size > UINT16_MAX - DP_ESP_TAG - sizeof(hdr))
		return 0;
	if (!number++)
		dp_aead_key(&aead, fuzz_key, sizeof(fuzz_key));
	packet = malloc(sizeof(hdr) + text_len + DP_ESP_TAG);
	memcpy(packet, &hdr, sizeof(hdr));
	memcpy(packet + sizeof(hdr), data, text_len);
	dp_aead_seal(&aead, (const uint8_t *)&nonce, &aad, sizeof(aad), packet + sizeof(hdr), text_len, packet + sizeof(hdr) + text_len);
	dp_harness_decap(p->vtep, 0, 0, packet, sizeof(hdr) + text_len + DP_ESP_TAG);
	free(packet);
	fuzz_pipeline_drain();
	return 0;
}
