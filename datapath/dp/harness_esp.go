//go:build dptest

package dp

/*
#include "dp.h"
#include "harness_esp.h"
*/
import "C"

// windowLen is how many numbers an anti-replay window holds.
var windowLen = uint64(C.dp_harness_window_len)

// window is an anti-replay window by itself.
type window struct{ c *C.struct_dp_window }

func newWindow() window { return window{C.dp_harness_window()} }
func (w window) free()  { C.dp_harness_window_free(w.c) }
func (w window) extend(low uint32) uint64 {
	return uint64(C.dp_harness_window_extend(w.c, C.uint32_t(low)))
}
func (w window) fresh(number uint64) bool {
	return bool(C.dp_harness_window_fresh(w.c, C.uint64_t(number)))
}
func (w window) take(number uint64) bool {
	return bool(C.dp_harness_window_take(w.c, C.uint64_t(number)))
}

// espCycles are those of a worker that encrypts and decrypts a frame so many times, in bursts; sender is the SA that the VTEP sends by.
func espCycles(port, vtep, underlay, sender uint32, frame []byte, bursts int) (seal, open, packets uint64) {
	p := exact(frame)
	defer free(p)
	sum := C.dp_harness_esp_cycles(C.uint32_t(port), C.uint32_t(vtep), C.uint32_t(underlay), C.uint32_t(sender), p, C.uint32_t(len(frame)), C.uint32_t(bursts))
	return uint64(sum.seal), uint64(sum.open), uint64(sum.packets)
}

// saSent has the SA by which a VTEP's packets leave go on behind so many.
func saSent(vtep uint32, sent uint64) { C.dp_harness_sa_sent(C.uint32_t(vtep), C.uint64_t(sent)) }
