/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the way out. Input: a struct virtio_net_hdr and a frame, as a container's tap gives them. */
#include <linux/virtio_net.h>

#include "../../datapath/dp/dp.h"
#include "../../datapath/dp/harness_pipeline.h"
#include "fuzz.h"
#include "pipeline.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < sizeof(struct virtio_net_hdr) || size > sizeof(struct virtio_net_hdr) + DP_FRAME_MAX)
		return 0;
	dp_harness_encap(fuzz_pipeline()->port, data, size);
	dp_harness_encap(fuzz_pipeline()->trusted, data, size);
	fuzz_pipeline_drain();
	return 0;
}
