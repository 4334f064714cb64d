// SPDX-License-Identifier: Apache-2.0
/* What all workers share beside the tables. */
#include "port.h"

struct dp dp;
