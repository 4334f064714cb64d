//go:build dptest

package dp

/*
#include "harness_memif.h"
*/
import "C"

// memifSlots is how many slots the rings of takeAndPutMemif have.
const memifSlots = C.DP_HARNESS_MEMIF_SIZE

// memifRingsLen is how many bytes both rings have together.
func memifRingsLen() int { return int(C.dp_harness_memif_rings()) }

// memifRingAt is where a ring begins.
func memifRingAt(from bool) int { return int(C.dp_harness_memif_ring(C.bool(from))) }

// takeAndPutMemif takes all frames out of a memif whose rings hold what a server has written, and puts frames of a size into it; how many of
// both.
func takeAndPutMemif(rings []byte, size int) (taken, put int) {
	p := exact(rings)
	defer free(p)
	var t, w C.uint32_t
	C.dp_harness_memif(p, C.uint32_t(size), &t, &w)
	return int(t), int(w)
}
