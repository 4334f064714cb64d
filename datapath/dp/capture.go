package dp

/*
#include "dp.h"
#include <stdlib.h>
*/
import "C"

import (
	"errors"
	"net/netip"
	"unsafe"
)

// Point is where on its way a packet can be captured.
type Point uint16

// In the order of a packet's way.
const (
	PointRead      Point = C.DP_POINT_READ      // from a container
	PointSent      Point = C.DP_POINT_SENT      // to a VTEP: not yet cut up nor encrypted
	PointReceived  Point = C.DP_POINT_RECEIVED  // from a VTEP: decrypted, not yet merged with others
	PointDelivered Point = C.DP_POINT_DELIVERED // to a container, whose interface may still refuse it: a drop follows then
	PointDropped   Point = C.DP_POINT_DROPPED
	Points               = C.DP_POINT_COUNT
)

// Captures is how many there can be at a time.
const Captures = C.DP_CAPTURES

// CaptureRoomMin is what a worker's packets have room in at least, in bytes.
const CaptureRoomMin = C.DP_CAPTURE_ROOM_MIN

// CaptureConfig says which packets are captured.
type CaptureConfig struct {
	VNI    uint32     // 0: those of all networks
	MAC    *[6]byte   // of a container; nil: of all
	VTEP   netip.Addr // at the points that know one; zero: any
	Points []Point
	Sample uint32 // one packet in so many, the same ones on every host; 1: all
	Snap   uint32 // bytes of a packet that are kept
	Room   uint32 // bytes that wait to be taken, of each worker; a power of two
	Filter string // of the frame: pcap-filter(7); empty: all
	Opaque bool   // also drops of which no frame can be looked at, such as what does not decrypt: of any network

	Headers bool // the filter sees headers alone: what it asks of bytes behind them does not match
}

// Captured is a packet, or the beginning of one.
type Captured struct {
	Time      int64 // nanoseconds since 1970
	Point     Point
	Drop      string // at PointDropped: the reason's name
	Len       uint32 // of the frame, in bytes
	VNI       uint32
	GSO       uint16 // payload of a super-frame's segments; 0: it is none, or not known
	VTEP      netip.AddrPort
	Port      [6]byte // the container's MAC; zero: the point knows no container
	Encrypted bool    // on the underlay
	Payload   bool    // Data is UDP payload of which no frame could be looked at
	Data      []byte
}

// Capture is one that does nothing until StartCapture.
type Capture struct{ c *C.struct_dp_capture }

// NewCapture makes a capture, or says what is wrong with its filter. It may be called beside all other calls, and may take a while.
func NewCapture(c CaptureConfig) (Capture, error) {
	filter := C.CString(c.Filter)
	defer C.free(unsafe.Pointer(filter))
	config := C.struct_dp_capture_config{
		vni: C.uint32_t(c.VNI), sample: C.uint32_t(c.Sample), snap: C.uint32_t(c.Snap), room: C.uint32_t(c.Room),
		filter: filter, opaque: C.bool(c.Opaque), headers: C.bool(c.Headers),
	}
	if c.MAC != nil {
		config.has_mac = true
		for i, b := range c.MAC {
			config.mac[i] = C.uint8_t(b)
		}
	}
	if c.VTEP.IsValid() {
		config.has_vtep, config.vtep = true, address(c.VTEP)
	}
	for _, p := range c.Points {
		config.points |= 1 << p
	}
	var text [C.DP_ERR_LEN]C.char
	capture := C.dp_capture_new(&config, &text[0])
	if capture == nil {
		return Capture{}, errors.New(C.GoString(&text[0]))
	}
	return Capture{capture}, nil
}

// Free takes away one that was not started.
func (c Capture) Free() { C.dp_capture_free(c.c) }

// StartCapture has the workers capture packets, and says the capture's number. EBUSY: all captures are in use, and this one is gone.
func StartCapture(c Capture) (uint, error) {
	number := C.dp_capture_start(c.c)
	if number < 0 {
		c.Free()
	}
	return uint(number), failed(number)
}

// TakeCaptured takes what a worker has captured, as far as it fits into the buffer, which has room for CaptureRoomMin. The packets' data lies there.
func TakeCaptured(number, worker uint, buffer []byte) []Captured {
	n := C.dp_capture_take(C.unsigned(number), C.unsigned(worker), unsafe.Pointer(&buffer[0]), C.uint32_t(len(buffer)))
	var taken []Captured
	for at := 0; at < int(n); {
		head := (*C.struct_dp_captured)(unsafe.Pointer(&buffer[at]))
		taken = append(taken, captured(head, buffer[at+C.sizeof_struct_dp_captured:][:head.kept]))
		at += int(head.start.size)
	}
	return taken
}

func captured(head *C.struct_dp_captured, data []byte) Captured {
	c := Captured{
		Time: int64(head.time), Point: Point(head.start.point), Len: uint32(head.len), VNI: uint32(head.vni), GSO: uint16(head.gso_size),
		Encrypted: bool(head.encrypted), Payload: bool(head.payload), Data: data,
	}
	if c.Point == PointDropped {
		c.Drop = C.GoString(C.dp_drop_name(C.unsigned(head.start.drop)))
	}
	for i := range c.Port {
		c.Port[i] = byte(head.mac[i])
	}
	var addr [16]byte
	for i := range addr {
		addr[i] = byte(head.vtep.b[i])
	}
	if addr != [16]byte{} {
		c.VTEP = netip.AddrPortFrom(netip.AddrFrom16(addr).Unmap(), uint16(head.vtep_port))
	}
	return c
}

// LostCaptured is how many packets found no room.
func LostCaptured(number uint) uint64 { return uint64(C.dp_capture_lost(C.unsigned(number))) }

// StopCapture ends a capture: its number may be used again then.
func StopCapture(number uint) { C.dp_capture_stop(C.unsigned(number)) }
