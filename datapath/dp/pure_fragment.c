/* SPDX-License-Identifier: Apache-2.0 */
#include "pure_fragment.h"

#include <netinet/ip.h>
#include <string.h>

#include "pure_csum.h"

/* Offsets are counted in units of so many bytes. */
#define UNIT 8

uint32_t
dp_fragment_size(const struct dp_hdrs *h, uint32_t longest)
{
	return longest > h->l4 ? (longest - h->l4) / UNIT * UNIT : 0;
}

/* Options that are not for all fragments stay in the first: in the others they give way to padding, which keeps the offsets. */
static void
blank_options(uint8_t *at, const uint8_t *end)
{
	while (at < end && *at != IPOPT_END) {
		uint8_t len = 1;

		if (*at != IPOPT_NOP) {
			len = end - at > 1 ? at[1] : 0;
			if (len < 2 || len > end - at)
				return;
			if (!IPOPT_COPIED(*at))
				memset(at, IPOPT_NOP, len);
		}
		at += len;
	}
}

uint32_t
dp_fragment(const uint8_t *frame, const struct dp_hdrs *h, uint32_t size, uint32_t at, uint8_t *out)
{
	dp_ipv4_hdr *ip = (void *)(out + h->l3);
	uint32_t rest = h->end - h->l4 - at;
	uint32_t len = rest < size ? rest : size;
	uint16_t offset;

	memcpy(out, frame, h->l4);
	memcpy(out + h->l4, frame + h->l4 + at, len);
	if (at)
		blank_options((uint8_t *)(ip + 1), out + h->l4);
	offset = ntohs(ip->fragment_offset);
	/* What leads beyond the longest packet is the sender's doing, and must not turn into flags. */
	offset = (offset & RTE_IPV4_HDR_MF_FLAG) | ((offset + at / UNIT) & RTE_IPV4_HDR_OFFSET_MASK);
	if (len < rest)
		offset |= RTE_IPV4_HDR_MF_FLAG;
	ip->fragment_offset = htons(offset);
	ip->total_length = htons(h->l4 - h->l3 + len);
	ip->hdr_checksum = 0;
	ip->hdr_checksum = ~dp_csum_fold(dp_csum_add(ip, h->l4 - h->l3, 0));
	return h->l4 + len;
}
