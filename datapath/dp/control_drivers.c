// SPDX-License-Identifier: Apache-2.0
/*
 * EAL opens every driver that is installed, some hundred of them beside Debian's libdpdk-dev, and no option stops it: 17 MB,
 * and half a second of each start. Where there are no devices, the pipeline needs that of its packet buffers' pool alone.
 * The symbols of a program go before those of its libraries, so that EAL calls the dlopen that is here.
 */
#include <dlfcn.h>

#include "worker.h"

static bool
needless(const char *file)
{
	return !dp.config.eth_mbufs && strstr(file, "/librte_") && !strstr(file, "/librte_mempool_ring.");
}

void *
dlopen(const char *file, int flags)
{
	static typeof(dlopen) *next;

	if (!next)
		next = dlsym(RTLD_NEXT, "dlopen");
	/* EAL wants a handle, and the program has one of itself. */
	return next(file && needless(file) ? NULL : file, flags);
}
