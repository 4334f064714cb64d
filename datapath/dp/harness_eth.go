//go:build dptest

package dp

/*
#include "dp.h"
#include "harness_eth.h"
*/
import "C"

import (
	"net/netip"
	"slices"
	"unsafe"
)

// leaving is what left through a device: zeroCopy means in the mbuf that came in.
type leaving struct {
	frame    []byte
	zeroCopy bool
}

func (l *leaving) read(s *C.struct_dp_harness_sent) {
	*l = leaving{C.GoBytes(unsafe.Pointer(&s.bytes[0]), C.int(s.len)), bool(s.zero_copy)}
}

// fromPort takes a frame of a port that is a device through the way out, fromUnderlay a packet of the underlay's device
// through the way in. The result is what leaves through the device out; its frame is empty when nothing does.
func fromPort(port, out uint32, frame []byte) (l leaving) {
	return fromPortWithTail(port, out, frame, 0)
}

// fromPortWithTail is fromPort of a buffer with room behind the frame.
func fromPortWithTail(port, out uint32, frame []byte, tail int) (l leaving) {
	p := exact(frame)
	defer free(p)
	var sent C.struct_dp_harness_sent
	C.dp_harness_eth_port(C.uint32_t(port), p, C.uint32_t(len(frame)), C.uint32_t(tail), C.uint32_t(out), &sent)
	l.read(&sent)
	return l
}

func fromUnderlay(device, out uint32, packet []byte) (l leaving) {
	p := exact(packet)
	defer free(p)
	var sent C.struct_dp_harness_sent
	C.dp_harness_eth_underlay(C.uint32_t(device), p, C.uint32_t(len(packet)), C.uint32_t(out), &sent)
	l.read(&sent)
	return l
}

// burstFromUnderlay takes packets through the way in together, and returns the frames that leave through the device out.
func burstFromUnderlay(device, out uint32, packets [][]byte) (frames [][]byte) {
	p := exact(slices.Concat(packets...))
	defer free(p)
	lens, sent := make([]C.uint32_t, len(packets)), make([]C.struct_dp_harness_sent, len(packets))
	for i, packet := range packets {
		lens[i] = C.uint32_t(len(packet))
	}
	n := C.dp_harness_eth_burst(C.uint32_t(device), p, &lens[0], C.unsigned(len(packets)), C.uint32_t(out), &sent[0])
	for i := range sent[:n] {
		var l leaving
		l.read(&sent[i])
		frames = append(frames, l.frame)
	}
	return frames
}

// copied takes a VXLAN packet through the way in, as one from a socket: what leaves through the device is a copy.
func copied(vtep uint32, tos byte, packet []byte, out uint32) (l leaving) {
	p := exact(packet)
	defer free(p)
	var sent C.struct_dp_harness_sent
	C.dp_harness_eth_copied(C.uint32_t(vtep), C.uint8_t(tos), p, C.uint32_t(len(packet)), C.uint32_t(out), &sent)
	l.read(&sent)
	return l
}

func setVXLANPort(port uint16) { C.dp_harness_vxlan_port(C.uint16_t(port)) }

func setOwnVTEP(addr netip.Addr) { C.dp_harness_own_vtep(address(addr)) }

func deviceMAC(device uint32) (m [6]byte) {
	C.dp_harness_device_mac(C.uint32_t(device), mac(&m))
	return m
}

// asleep says whether every worker waits for the interrupt of a device.
func asleep() bool { return bool(C.dp_harness_asleep()) }

func linkUp(device uint32) bool { return bool(C.dp_harness_link_up(C.uint32_t(device))) }

// harnessDrop counts what was dropped for a reason.
func harnessDrop(name string) uint64 {
	for i := range C.unsigned(len(ReadStats().Drops)) {
		if C.GoString(C.dp_drop_name(i)) == name {
			return uint64(C.dp_harness_drop(i))
		}
	}
	panic("no drop is called " + name)
}

// allDrops counts what was dropped, by reason.
func allDrops() (drops [C.DP_DROP_COUNT]uint64) {
	for i := range drops {
		drops[i] = uint64(C.dp_harness_drop(C.unsigned(i)))
	}
	return drops
}

// outerAgrees says whether both ways to read the outer headers agree on a packet, and whether the short one took it.
func outerAgrees(device uint32, packet []byte) (agrees, plain bool) {
	p := exact(packet)
	defer free(p)
	var took C.bool
	agrees = bool(C.dp_harness_outer_agrees(C.uint32_t(device), p, C.uint32_t(len(packet)), &took))
	return agrees, bool(took)
}

// plainAgrees says whether both ways to parse agree on a frame, and whether the short one took it.
func plainAgrees(frame []byte) (agrees, plain bool) {
	p := exact(frame)
	defer free(p)
	var took C.bool
	agrees = bool(C.dp_harness_plain_agrees(p, C.uint32_t(len(frame)), &took))
	return agrees, bool(took)
}
