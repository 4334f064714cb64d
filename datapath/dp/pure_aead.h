/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_AEAD_H
#define DP_AEAD_H

/* AES-GCM (NIST SP 800-38D) by intel-ipsec-mb, in place. The key schedule is computed once a key. */
#include <intel-ipsec-mb.h>
#include <stdbool.h>
#include <stdint.h>

#define DP_AEAD_NONCE 12
#define DP_AEAD_TAG 16

struct dp_aead {
	struct gcm_key_data key;
	aes_gcm_enc_dec_t seal, open;
};

/* What uses keys comes after it. -ENOTSUP: intel-ipsec-mb does not run on this CPU. */
int dp_aead_init(void);
/* Of 16 or 32 bytes. */
void dp_aead_key(struct dp_aead *aead, const uint8_t *key, unsigned key_len);
/* Encrypts the text and writes the tag. */
void dp_aead_seal(const struct dp_aead *aead, const uint8_t nonce[DP_AEAD_NONCE], const void *aad, uint32_t aad_len, uint8_t *text, uint32_t len, uint8_t tag[DP_AEAD_TAG]);
/* Decrypts it; false: the tag is not that of the text, which is worth nothing then. */
bool dp_aead_open(const struct dp_aead *aead, const uint8_t nonce[DP_AEAD_NONCE], const void *aad, uint32_t aad_len, uint8_t *text, uint32_t len, const uint8_t tag[DP_AEAD_TAG]);

#endif
