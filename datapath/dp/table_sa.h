/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_SA_H
#define DP_SA_H

/* Security associations (RFC 4301 section 4.1): each is one direction between two VTEPs, under one key. */
#include "pure_aead.h"
#include "pure_window.h"
#include "table.h"

struct dp_sa {
	struct dp_aead aead;
	uint32_t spi;
	uint8_t salt[4];
	_Atomic uint64_t sent; /* packets: the last one's number */
	_Atomic uint64_t opened;
	struct dp_window window;
};

/* Those of a VTEP. Immutable, swapped whole. */
struct dp_sas {
	struct dp_sa *out; /* NULL: there is none */
	unsigned n_in;
	struct dp_sa *in[DP_SAS_IN];
};

/* By its number; NULL: there is none. */
struct dp_sa *dp_sa_get(uint32_t id);

/* NULL: the VTEP has none with the SPI. */
static inline struct dp_sa *
dp_sa_in(const struct dp_vtep *vtep, uint32_t spi)
{
	const struct dp_sas *sas = atomic_load_explicit(&vtep->sas, memory_order_acquire);

	for (unsigned i = 0; sas && i < sas->n_in; i++)
		if (sas->in[i]->spi == spi)
			return sas->in[i];
	return NULL;
}

static inline struct dp_sa *
dp_sa_out(const struct dp_vtep *vtep)
{
	const struct dp_sas *sas = atomic_load_explicit(&vtep->sas, memory_order_acquire);

	return sas ? sas->out : NULL;
}

#endif
