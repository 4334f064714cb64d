//go:build dptest

package dp

/*
#include "harness_pipeline.h"
*/
import "C"

import "unsafe"

const vnetLen = 10 // struct virtio_net_hdr

// encapExact takes a frame with its virtio-net header through the way out; it holds vnetLen bytes at least.
func encapExact(port uint32, frame []byte) {
	p := exact(frame)
	defer free(p)
	C.dp_harness_encap(C.uint32_t(port), p, C.uint32_t(len(frame)))
}

// decapExact takes a VXLAN packet through the way in.
func decapExact(vtep uint32, tos byte, packet []byte) { decapDatagram(vtep, tos, 0, packet) }

// decapDatagram takes a datagram, of which the kernel tells that its segments have so many bytes; 0: it tells nothing.
func decapDatagram(vtep uint32, tos byte, size int, datagram []byte) {
	p := exact(datagram)
	defer free(p)
	C.dp_harness_decap(C.uint32_t(vtep), C.uint8_t(tos), C.uint32_t(size), p, C.uint32_t(len(datagram)))
}

// uso says whether taps take UDP super-frames.
func uso(taken bool) { C.dp_harness_uso(C.bool(taken)) }

// turn has the worker read what the port may say in a turn beside so many normal ports, and returns the number of frames.
func turn(port uint32, normal int) int {
	return int(C.dp_harness_turn(C.uint32_t(port), C.uint32_t(normal)))
}

// serve gives each of the ports its turn, if it does not pause, and returns the number of frames that the first one gets read.
func serve(ports ...uint32) int {
	return int(C.dp_harness_serve((*C.uint32_t)(unsafe.SliceData(ports)), C.uint32_t(len(ports))))
}

// throttle has flooding ports pause for some microseconds, if others had work for the worker, and as long as they still have.
func throttle(contended, still bool, microseconds int) {
	C.dp_harness_throttle(C.bool(contended), C.bool(still), C.uint64_t(microseconds))
}

// flood has the running worker take the port for flooding, and others for busy; masked says whether the port pauses there.
func flood(port uint32)       { C.dp_harness_flood(C.uint32_t(port)) }
func masked(port uint32) bool { return bool(C.dp_harness_masked(C.uint32_t(port))) }

// throttleAfter is what is left of a pause when other ports had a part of a window, a flooding one a turn, and time has passed: all in microseconds.
func throttleAfter(normal, turn, then int) int {
	return int(C.dp_harness_throttle_after(C.uint32_t(normal), C.uint32_t(turn), C.uint32_t(then)))
}

// settle tells the rx fairness of a read of the underlay, charge of a delivery, over whether a source must wait; forget has it begin anew.
func settle(more, full bool) { C.dp_harness_settle(C.bool(more), C.bool(full)) }
func forget()                { C.dp_harness_forget() }
func charge(mac uint64, microseconds int) {
	C.dp_harness_charge(C.uint64_t(mac), C.uint64_t(microseconds))
}
func over(mac uint64) bool { return bool(C.dp_harness_over(C.uint64_t(mac))) }

// standing has a read of the underlay leave a queue that is so full, so many microseconds after the one before. Stands says whether a
// packet of so much work is dropped then.
func standing(fill float64, microseconds int) {
	C.dp_harness_standing(C.double(fill), C.uint64_t(microseconds))
}

func stands(mac uint64, udp bool, work int) bool {
	return bool(C.dp_harness_stands(C.uint64_t(mac), C.bool(udp), C.uint64_t(work)))
}

// harnessDrops counts what both have dropped, harnessSent what went to the underlay.
func harnessDrops() uint64 { return uint64(C.dp_harness_drops()) }
func harnessSent() uint64  { return uint64(C.dp_harness_sent()) }

// oneByOne has the way out go on as if the kernel had refused to segment on the way to the VTEP, or had not.
func oneByOne(vtep uint32, refused bool) {
	C.dp_harness_one_by_one(C.uint32_t(vtep), C.bool(refused))
}

// doubt has the pipeline go on as if the kernel had refused a packet on the way to the VTEP.
func doubt(vtep uint32) { C.dp_harness_doubt(C.uint32_t(vtep)) }
