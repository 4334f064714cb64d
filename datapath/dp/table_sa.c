// SPDX-License-Identifier: Apache-2.0
/* SAs by the numbers that the control thread knows them by, and those of each VTEP. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "table_sa.h"

/* As much as all VTEPs can have. */
#define MAX_SAS (1 << 17)

static struct dp_sa *sas[MAX_SAS];

struct dp_sa *
dp_sa_get(uint32_t id)
{
	return id < MAX_SAS ? sas[id] : NULL;
}

/* Memory of its own, which is not written to disk: neither by swapping nor with a core. */
static struct dp_sa *
sa_alloc(bool *locked)
{
	struct dp_sa *sa = mmap(NULL, sizeof(*sa), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (sa == MAP_FAILED)
		return NULL;
	*locked = !mlock(sa, sizeof(*sa)) && !madvise(sa, sizeof(*sa), MADV_DONTDUMP) && !madvise(sa, sizeof(*sa), MADV_DONTFORK);
	return sa;
}

static void
sa_free(struct dp_sa *sa)
{
	dp_aead_forget(&sa->aead);
	explicit_bzero(sa, sizeof(*sa));
	munmap(sa, sizeof(*sa));
}

int
dp_sa_add(const struct dp_sa_config *config, bool *locked)
{
	struct dp_sa *sa;
	uint32_t id = 0;
	int ret = dp_aead_init();

	if (ret)
		return ret;
	while (id < MAX_SAS && sas[id])
		id++;
	if (id == MAX_SAS)
		return -ENOSPC;
	sa = sa_alloc(locked);
	if (!sa)
		return -ENOMEM;
	ret = dp_aead_key(&sa->aead, config->key, config->key_len);
	if (ret) {
		sa_free(sa);
		return ret;
	}
	sa->spi = config->spi;
	memcpy(sa->salt, config->salt, sizeof(sa->salt));
	sas[id] = sa;
	return id;
}

void
dp_sa_del(uint32_t id)
{
	struct dp_sa *sa = dp_sa_get(id);

	if (!sa)
		return;
	sas[id] = NULL;
	sa_free(sa);
}

uint64_t
dp_sa_packets(uint32_t id)
{
	const struct dp_sa *sa = dp_sa_get(id);

	return sa ? atomic_load_explicit(&sa->sent, memory_order_relaxed) + atomic_load_explicit(&sa->opened, memory_order_relaxed) : 0;
}

int
dp_vtep_sas(uint32_t vtep_id, const uint32_t *out, const uint32_t *in, unsigned n_in)
{
	struct dp_vtep *vtep = vtep_id < DP_MAX_VTEPS ? dp_vtep_get(vtep_id) : NULL;
	struct dp_sas *new, *old;

	if (!vtep)
		return -ENOENT;
	if (n_in > DP_SAS_IN)
		return -EINVAL;
	new = calloc(1, sizeof(*new));
	if (!new)
		return -ENOMEM;
	new->out = out ? dp_sa_get(*out) : NULL;
	for (unsigned i = 0; i < n_in; i++)
		new->in[new->n_in++] = dp_sa_get(in[i]);
	old = atomic_exchange_explicit(&vtep->sas, new, memory_order_acq_rel);
	dp_synchronize();
	free(old);
	return 0;
}

int
dp_vtep_partial(uint32_t vtep_id, bool takes)
{
	struct dp_vtep *vtep = vtep_id < DP_MAX_VTEPS ? dp_vtep_get(vtep_id) : NULL;

	if (!vtep)
		return -ENOENT;
	atomic_store_explicit(&vtep->takes_partial, takes, memory_order_relaxed);
	return 0;
}
