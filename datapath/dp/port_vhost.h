/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_PORT_VHOST_H
#define DP_PORT_VHOST_H

/* Memory that containers share: see port_vhost_memory.c. */
#include <stdatomic.h>

#include "dp.h"

/* How many mappings were ever lost: that is looked at before one of them is. */
extern atomic_uint dp_vhost_losses;
/* Whether that at addr, in which it lies, was. */
bool dp_vhost_lost(const uint8_t *addr);

#endif
