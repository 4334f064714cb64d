// SPDX-License-Identifier: Apache-2.0
#include "pure_aead.h"

#ifndef DP_AEAD_OPENSSL

#include <errno.h>

#include "pure_bytes.h"

/* Its functions keep nothing between calls: all workers use one. */
static IMB_MGR *library;

int
dp_aead_init(void)
{
	IMB_ARCH arch;

	if (library)
		return 0;
	library = alloc_mb_mgr(0);
	if (!library)
		return -ENOMEM;
	init_mb_mgr_auto(library, &arch);
	if (!imb_get_errno(library))
		return 0;
	free_mb_mgr(library);
	library = NULL;
	return -ENOTSUP;
}

int
dp_aead_key(struct dp_aead *aead, const uint8_t *key, unsigned key_len)
{
	if (key_len == IMB_GCM_128_KEY_LEN) {
		IMB_AES128_GCM_PRE(library, key, &aead->key);
		aead->seal = library->gcm128_enc;
		aead->open = library->gcm128_dec;
	} else {
		IMB_AES256_GCM_PRE(library, key, &aead->key);
		aead->seal = library->gcm256_enc;
		aead->open = library->gcm256_dec;
	}
	return 0;
}

void
dp_aead_forget(struct dp_aead *aead)
{
	explicit_bzero(aead, sizeof(*aead));
}

void
dp_aead_seal(struct dp_aead *aead, const uint8_t nonce[DP_AEAD_NONCE], const void *aad, uint32_t aad_len, uint8_t *text, uint32_t len, uint8_t tag[DP_AEAD_TAG])
{
	struct gcm_context_data context;

	aead->seal(&aead->key, &context, text, text, len, nonce, aad, aad_len, tag, DP_AEAD_TAG);
}

bool
dp_aead_open(struct dp_aead *aead, const uint8_t nonce[DP_AEAD_NONCE], const void *aad, uint32_t aad_len, uint8_t *text, uint32_t len, const uint8_t tag[DP_AEAD_TAG])
{
	struct gcm_context_data context;
	uint8_t want[DP_AEAD_TAG];

	aead->open(&aead->key, &context, text, text, len, nonce, aad, aad_len, want, DP_AEAD_TAG);
	/* In the same time wherever they differ. */
	return !((dp_load64(want) ^ dp_load64(tag)) | (dp_load64(want + 8) ^ dp_load64(tag + 8)));
}

#endif
