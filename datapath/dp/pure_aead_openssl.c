// SPDX-License-Identifier: Apache-2.0
#include "pure_aead.h"

#ifdef DP_AEAD_OPENSSL

#include <errno.h>
#include <string.h>

#include <openssl/evp.h>

int
dp_aead_init(void)
{
	return 0;
}

static EVP_CIPHER_CTX *
new_context(const struct dp_aead *aead)
{
	const EVP_CIPHER *cipher = aead->key_len == 16 ? EVP_aes_128_gcm() : EVP_aes_256_gcm();
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();

	if (context && EVP_EncryptInit_ex(context, cipher, NULL, aead->key, NULL))
		return context;
	EVP_CIPHER_CTX_free(context);
	return NULL;
}

static EVP_CIPHER_CTX *
take_context(struct dp_aead *aead)
{
	for (unsigned i = 0; i < DP_AEAD_CONTEXTS; i++) {
		EVP_CIPHER_CTX *context = NULL;

		if (atomic_load_explicit(&aead->contexts[i], memory_order_relaxed))
			context = atomic_exchange_explicit(&aead->contexts[i], NULL, memory_order_acquire);
		if (context)
			return context;
	}
	return new_context(aead);
}

static void
give_context(struct dp_aead *aead, EVP_CIPHER_CTX *context)
{
	for (unsigned i = 0; i < DP_AEAD_CONTEXTS; i++) {
		EVP_CIPHER_CTX *none = NULL;

		if (atomic_compare_exchange_strong_explicit(&aead->contexts[i], &none, context, memory_order_release, memory_order_relaxed))
			return;
	}
	EVP_CIPHER_CTX_free(context);
}

int
dp_aead_key(struct dp_aead *aead, const uint8_t *key, unsigned key_len)
{
	EVP_CIPHER_CTX *first;

	memcpy(aead->key, key, key_len);
	aead->key_len = key_len;
	first = new_context(aead);
	if (!first)
		return -ENOMEM;
	give_context(aead, first);
	return 0;
}

void
dp_aead_forget(struct dp_aead *aead)
{
	for (unsigned i = 0; i < DP_AEAD_CONTEXTS; i++)
		EVP_CIPHER_CTX_free(atomic_load(&aead->contexts[i]));
	explicit_bzero(aead, sizeof(*aead));
}

void
dp_aead_seal(struct dp_aead *aead, const uint8_t nonce[DP_AEAD_NONCE], const void *aad, uint32_t aad_len, uint8_t *text, uint32_t len, uint8_t tag[DP_AEAD_TAG])
{
	EVP_CIPHER_CTX *c = take_context(aead);
	int n;

	/* Without memory for a context it is never the text that leaves, but what the other end finds forged. */
	if (!c || !EVP_EncryptInit_ex(c, NULL, NULL, NULL, nonce) || !EVP_EncryptUpdate(c, NULL, &n, aad, (int)aad_len) ||
	    !EVP_EncryptUpdate(c, text, &n, text, (int)len) || !EVP_EncryptFinal_ex(c, text + n, &n) ||
	    !EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, DP_AEAD_TAG, tag)) {
		memset(text, 0, len);
		memset(tag, 0, DP_AEAD_TAG);
	}
	if (c)
		give_context(aead, c);
}

bool
dp_aead_open(struct dp_aead *aead, const uint8_t nonce[DP_AEAD_NONCE], const void *aad, uint32_t aad_len, uint8_t *text, uint32_t len, const uint8_t tag[DP_AEAD_TAG])
{
	EVP_CIPHER_CTX *c = take_context(aead);
	bool right;
	int n;

	if (!c)
		return false;
	right = EVP_DecryptInit_ex(c, NULL, NULL, NULL, nonce) && EVP_DecryptUpdate(c, NULL, &n, aad, (int)aad_len) &&
		EVP_DecryptUpdate(c, text, &n, text, (int)len) && EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, DP_AEAD_TAG, (void *)(uintptr_t)tag) &&
		EVP_DecryptFinal_ex(c, text + n, &n) > 0;
	give_context(aead, c);
	return right;
}

#endif
