/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_AEAD_H
#define DP_AEAD_H

/* AES-GCM (NIST SP 800-38D), in place: by intel-ipsec-mb where there is one, on other machines by OpenSSL. What depends on the key alone is computed once a key. */
#include <stdbool.h>
#include <stdint.h>

/* `make soak` tests the other one on x86-64 too, with -DDP_AEAD_OPENSSL. */
#if !defined(__x86_64__) && !defined(DP_AEAD_OPENSSL)
#define DP_AEAD_OPENSSL
#endif

#ifdef DP_AEAD_OPENSSL
#include <stdatomic.h>

#include <openssl/types.h>
#else
#include <intel-ipsec-mb.h>
#endif

#define DP_AEAD_NONCE 12
#define DP_AEAD_TAG 16

#ifdef DP_AEAD_OPENSSL
/* A context is of one thread at a time: here are those that none uses. There are as many as threads that ever used the key at once. */
#define DP_AEAD_CONTEXTS 16

struct dp_aead {
	uint8_t key[32];
	unsigned key_len;
	_Atomic(EVP_CIPHER_CTX *) contexts[DP_AEAD_CONTEXTS];
};
#else
struct dp_aead {
	struct gcm_key_data key;
	aes_gcm_enc_dec_t seal, open;
};
#endif

/* What uses keys comes after it. -ENOTSUP: the library does not run on this CPU. */
int dp_aead_init(void);
/* Of 16 or 32 bytes. -ENOMEM: there is no key then. */
int dp_aead_key(struct dp_aead *aead, const uint8_t *key, unsigned key_len);
/* Wipes it, when nobody uses it any more. */
void dp_aead_forget(struct dp_aead *aead);
/* Encrypts the text and writes the tag. */
void dp_aead_seal(struct dp_aead *aead, const uint8_t nonce[DP_AEAD_NONCE], const void *aad, uint32_t aad_len, uint8_t *text, uint32_t len, uint8_t tag[DP_AEAD_TAG]);
/* Decrypts it; false: the tag is not that of the text, which is worth nothing then. */
bool dp_aead_open(struct dp_aead *aead, const uint8_t nonce[DP_AEAD_NONCE], const void *aad, uint32_t aad_len, uint8_t *text, uint32_t len, const uint8_t tag[DP_AEAD_TAG]);

#endif
