/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_FRAGMENT_H
#define DP_FRAGMENT_H

/* Fragments of an inner IPv4 packet that allows them: RFC 791 section 3.2. A fragment is cut as well as a whole packet. */
#include <stdint.h>

#include "pure_parse.h"

/* Payload of each fragment but the last, in bytes, for frames of no more than `longest`; 0: none fits. */
uint32_t dp_fragment_size(const struct dp_hdrs *h, uint32_t longest);

/*
 * Writes the fragment whose payload begins at byte `at` of the packet's, a multiple of size, with its Ethernet and IP
 * headers: at most h->l4 + size bytes. Returns its length.
 */
uint32_t dp_fragment(const uint8_t *frame, const struct dp_hdrs *h, uint32_t size, uint32_t at, uint8_t *out);

#endif
