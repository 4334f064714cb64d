/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PIPELINE_FUZZ_H
#define PIPELINE_FUZZ_H

#include <stdint.h>

/* The ports and the VTEP of one network, on a pipeline that stands from the first call on. */
struct fuzz_pipeline {
	uint32_t port, trusted, vtep;
};

const struct fuzz_pipeline *fuzz_pipeline(void);
/* By which the VTEP's packets of the encrypted network come. */
#define FUZZ_SPI 256
extern const uint8_t fuzz_key[16];

/* Takes away what reached the port, so that its queue never stays full. */
void fuzz_pipeline_drain(void);

#endif
