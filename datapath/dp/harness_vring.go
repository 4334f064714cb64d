//go:build dptest

package dp

/*
#include "harness_vring.h"
*/
import "C"

// Where the parts of a ring are in the memory that takeAndPut gets, and where that is by the descriptors' addresses.
const (
	vringSize  = C.DP_HARNESS_VRING_SIZE
	vringAvail = C.DP_HARNESS_VRING_AVAIL
	vringUsed  = C.DP_HARNESS_VRING_USED
	vringLen   = C.DP_HARNESS_VRING_LEN
	vringGuest = C.DP_HARNESS_VRING_GUEST
)

// takeAndPut takes all chains out of a ring in memory of its exact size, and puts frames into it; how many of both.
func takeAndPut(memory []byte, merge bool) (taken, put int) {
	p := exact(memory)
	defer free(p)
	var t, w C.uint32_t
	C.dp_harness_vring(p, C.uint32_t(len(memory)), C.bool(merge), &t, &w)
	return int(t), int(w)
}
