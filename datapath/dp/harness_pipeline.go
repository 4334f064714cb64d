//go:build dptest

package dp

/*
#include "harness_pipeline.h"
*/
import "C"

const vnetLen = 10 // struct virtio_net_hdr

// encapExact takes a frame with its virtio-net header through the way out; it holds vnetLen bytes at least.
func encapExact(port uint32, frame []byte) {
	p := exact(frame)
	defer free(p)
	C.dp_harness_encap(C.uint32_t(port), p, C.uint32_t(len(frame)))
}

// decapExact takes a VXLAN packet through the way in.
func decapExact(vtep uint32, tos byte, packet []byte) {
	p := exact(packet)
	defer free(p)
	C.dp_harness_decap(C.uint32_t(vtep), C.uint8_t(tos), p, C.uint32_t(len(packet)))
}

// turn has the worker read what the port may say in a turn beside so many modest ports, and returns the number of frames.
func turn(port uint32, modest int) int {
	return int(C.dp_harness_turn(C.uint32_t(port), C.uint32_t(modest)))
}

// settle tells the worker's share of a read of the underlay, charge of a delivery, and over whether a source must wait.
func settle(more, full bool) { C.dp_harness_settle(C.bool(more), C.bool(full)) }
func charge(mac uint64, microseconds int) {
	C.dp_harness_charge(C.uint64_t(mac), C.uint64_t(microseconds))
}
func over(mac uint64) bool { return bool(C.dp_harness_over(C.uint64_t(mac))) }

// harnessDrops counts what both have dropped, harnessSent what went to the underlay.
func harnessDrops() uint64 { return uint64(C.dp_harness_drops()) }
func harnessSent() uint64  { return uint64(C.dp_harness_sent()) }

// oneByOne has the way out go on as if the kernel had refused to segment on the way to the VTEP, or had not.
func oneByOne(vtep uint32, refused bool) {
	C.dp_harness_one_by_one(C.uint32_t(vtep), C.bool(refused))
}
