/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the way in. Input: a byte, whose lowest two bits are the outer congestion mark and the rest the size of segments that the
 * kernel tells, in 16 bytes; and a datagram.
 */
#include "../../datapath/dp/harness_pipeline.h"
#include "fuzz.h"
#include "pipeline.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1 || size > UINT16_MAX)
		return 0;
	dp_harness_decap(fuzz_pipeline()->vtep, data[0] & 3, (data[0] >> 2) * 16, data + 1, size - 1);
	fuzz_pipeline_drain();
	return 0;
}
