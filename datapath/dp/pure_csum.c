/* SPDX-License-Identifier: Apache-2.0 */
#include "pure_csum.h"

#define BLOCK 128

#ifdef __aarch64__
#include <arm_neon.h>

/* A lane takes two 32-bit words an instruction, so that it has room for 2^31 of those. */
static uint64_t
sum_blocks(const uint8_t *p, size_t n)
{
	uint64x2_t sum[8] = { { 0 } };

	for (; n; n--, p += BLOCK)
		for (int i = 0; i < 8; i++)
			sum[i] = vpadalq_u32(sum[i], vreinterpretq_u32_u8(vld1q_u8(p + i * sizeof(sum[i]))));
	for (int i = 1; i < 8; i++)
		sum[0] = vaddq_u64(sum[0], sum[i]);
	return vaddvq_u64(sum[0]);
}
#else
/* One binary for every x86-64: the loader takes the variant for the CPU that it finds. */
#if defined(__x86_64__) && defined(__GLIBC__)
#define DP_SIMD __attribute__((target_clones("avx2", "default")))
#else
#define DP_SIMD
#endif

typedef uint64_t lanes __attribute__((vector_size(32)));

/* A lane takes two 32-bit words a load, so that it has room for 2^32 of them. */
DP_SIMD static uint64_t
sum_blocks(const uint8_t *p, size_t n)
{
	lanes lo[4] = { { 0 } }, hi[4] = { { 0 } };

	for (; n; n--, p += BLOCK) {
		for (int i = 0; i < 4; i++) {
			lanes v;

			memcpy(&v, p + i * sizeof(v), sizeof(v));
			lo[i] += v & 0xffffffff;
			hi[i] += v >> 32;
		}
	}
	lanes all = lo[0] + lo[1] + lo[2] + lo[3] + hi[0] + hi[1] + hi[2] + hi[3];

	return all[0] + all[1] + all[2] + all[3];
}
#endif

uint64_t
dp_csum_add(const void *data, size_t len, uint64_t sum)
{
	const uint8_t *p = data;

	if (len >= BLOCK) {
		sum = dp_csum_more(sum, sum_blocks(p, len / BLOCK));
		p += len - len % BLOCK;
		len %= BLOCK;
	}
	for (; len >= 8; p += 8, len -= 8)
		sum = dp_csum_more(sum, dp_load64(p));
	if (len & 4) {
		sum = dp_csum_more(sum, dp_load32(p));
		p += 4;
	}
	if (len & 2) {
		sum = dp_csum_more(sum, dp_load16(p));
		p += 2;
	}
	if (len & 1) {
		const uint8_t last[2] = { *p, 0 };

		sum = dp_csum_more(sum, dp_load16(last));
	}
	return sum;
}

int
dp_csum_complete(uint8_t *frame, uint32_t len, uint16_t start, uint16_t offset)
{
	uint32_t field = (uint32_t)start + offset;

	if (start < sizeof(struct rte_ether_hdr) || field + 2 > len)
		return -1;

	uint16_t sum = (uint16_t)~dp_csum_fold(dp_csum_add(frame + start, len - start, 0));

	dp_store16(frame + field, !sum && offset == offsetof(struct rte_udp_hdr, dgram_cksum) ? 0xffff : sum);
	return 0;
}
