// SPDX-License-Identifier: Apache-2.0
/*
 * net_memif unmaps its rings as soon as its peer is gone, on EAL's interrupt thread, and a worker that was in a burst is
 * still in them. After it has declared the link down and before it unmaps, it unregisters its callback: there the
 * workers are waited for. What a program defines goes before what its libraries do: ld.so(8).
 */
#include <dlfcn.h>

#include <rte_interrupts.h>

#include "port.h"

int
rte_intr_callback_unregister(const struct rte_intr_handle *handle, rte_intr_callback_fn callback, void *arg)
{
	typeof(&rte_intr_callback_unregister) unregister = dlsym(RTLD_NEXT, "rte_intr_callback_unregister");

	if (dp_qsbr)
		dp_synchronize();
	return unregister(handle, callback, arg);
}
