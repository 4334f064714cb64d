//go:build dptest

package dp

/*
#include <stdlib.h>
#include "harness_card.h"
*/
import "C"

import "unsafe"

// cardHas are a device's offloads.
type cardHas struct {
	txChecksums, outerUDP, tso, rxChecksums bool
	maxSegs                                 int
}

func setCard(device uint32, has cardHas) {
	C.dp_harness_card(C.uint32_t(device), C.bool(has.txChecksums), C.bool(has.outerUDP), C.bool(has.tso), C.bool(has.rxChecksums), C.uint16_t(has.maxSegs))
}

// given is what a card gets to send, and is to do with it.
type given struct {
	bytes                                                []byte
	pieces                                               int
	vxlan, outer4, outer6, outerIPChecksum, outerUDP     bool
	inner4, inner6, ipChecksum, tcpChecksum, udpChecksum bool
	cut                                                  bool
	outerL2, outerL3, l2, l3, l4, size                   int
}

// mostGiven at once: a device's queue takes as many.
const mostGiven = 64

// toCard takes a frame with its virtio-net header through the way out.
func toCard(port, device uint32, frame []byte) []given {
	p := exact(frame)
	defer free(p)
	room := C.malloc(mostGiven * C.sizeof_struct_dp_harness_given)
	defer C.free(room)
	first := (*C.struct_dp_harness_given)(room)
	n := C.dp_harness_card_send(C.uint32_t(port), p, C.uint32_t(len(frame)), C.uint32_t(device), first, mostGiven)
	all := make([]given, n)
	for i, g := range unsafe.Slice(first, n) {
		all[i] = given{
			bytes: C.GoBytes(unsafe.Pointer(&g.bytes[0]), C.int(g.len)), pieces: int(g.pieces),
			vxlan: bool(g.vxlan), outer4: bool(g.outer4), outer6: bool(g.outer6), outerIPChecksum: bool(g.outer_ip_csum), outerUDP: bool(g.outer_udp_csum),
			inner4: bool(g.inner4), inner6: bool(g.inner6), ipChecksum: bool(g.ip_csum), tcpChecksum: bool(g.tcp_csum), udpChecksum: bool(g.udp_csum),
			cut:     bool(g.cut),
			outerL2: int(g.outer_l2_len), outerL3: int(g.outer_l3_len), l2: int(g.l2_len), l3: int(g.l3_len), l4: int(g.l4_len), size: int(g.size),
		}
	}
	return all
}

// cardRefuses sends packets of which the driver refuses every second one, and returns how many the card gets.
func cardRefuses(device uint32, packets int) (sent int) {
	return int(C.dp_harness_card_refuses(C.uint32_t(device), C.uint32_t(packets)))
}

// cardWord is what a card says of a checksum.
type cardWord uint32

const (
	wordUnknown cardWord = C.DP_HARNESS_UNKNOWN
	wordGood    cardWord = C.DP_HARNESS_GOOD
	wordBad     cardWord = C.DP_HARNESS_BAD
)

// fromCard is what becomes of a packet that a card has received; drop is empty where it is taken.
func fromCard(device uint32, packet []byte, tunnel bool, outer, inner cardWord) (checked bool, drop string) {
	p := exact(packet)
	defer free(p)
	var c C.bool
	reason := C.dp_harness_card_receive(C.uint32_t(device), p, C.uint32_t(len(packet)), C.bool(tunnel), uint32(outer), uint32(inner), &c)
	if reason != C.DP_DROP_COUNT {
		drop = C.GoString(C.dp_drop_name(reason))
	}
	return bool(c), drop
}

// askCard tells whether a driver that has all offloads but these is asked for one of them, and what is used of the others.
func askCard(txLacks, rxLacks uint64) (tooMuch bool, tx, rx, tso bool) {
	var info C.struct_dp_device_info
	tooMuch = bool(C.dp_harness_card_asks_too_much(C.uint64_t(txLacks), C.uint64_t(rxLacks), &info))
	return tooMuch, bool(info.tx_csum), bool(info.rx_csum), bool(info.tso)
}
