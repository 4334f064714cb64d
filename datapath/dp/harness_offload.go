//go:build dptest

package dp

/*
#include <stdlib.h>
#include "harness_offload.h"
*/
import "C"

import (
	"errors"
	"unsafe"
)

// Test files can't import "C": these are their doors to the packet functions. Every frame goes into C memory of its
// exact size, so that the address sanitizer sees a byte read or written behind its end.

const (
	parseOK        = int(C.DP_PARSE_OK)
	parseNotIP     = int(C.DP_PARSE_NOT_IP)
	parseRunt      = int(C.DP_PARSE_RUNT)
	parseVLAN      = int(C.DP_PARSE_VLAN)
	parseMalformed = int(C.DP_PARSE_MALFORMED)

	ip6ExtMax  = int(C.DP_PARSE_IP6_EXT_MAX)
	gsoHdrMax  = int(C.DP_GSO_HDR_MAX)
	gsoSegsMax = int(C.DP_GSO_SEGS_MAX)
	groUnits   = int(C.DP_GRO_UNITS)
	groSegs    = int(C.DP_GRO_SEGS)
	groSlots   = int(C.DP_GRO_SLOTS)
)

// exact copies b into C memory of its size; free it.
func exact(b []byte) *C.uint8_t { return (*C.uint8_t)(C.CBytes(b)) }

func free[T any](p *T) { C.free(unsafe.Pointer(p)) }

func view(p unsafe.Pointer, n int) []byte { return unsafe.Slice((*byte)(p), n) }

// csumFold is the folded sum of data, in native order.
func csumFold(data []byte, sum uint64) uint16 {
	p := exact(data)
	defer free(p)
	return uint16(C.dp_csum_fold(C.dp_csum_add(unsafe.Pointer(p), C.size_t(len(data)), C.uint64_t(sum))))
}

// csumComplete returns the completed frame, and false when it was refused.
func csumComplete(frame []byte, start, offset uint16) ([]byte, bool) {
	p := exact(frame)
	defer free(p)
	ok := C.dp_csum_complete(p, C.uint32_t(len(frame)), C.uint16_t(start), C.uint16_t(offset)) == 0
	return C.GoBytes(unsafe.Pointer(p), C.int(len(frame))), ok
}

// frameHdrs is struct dp_hdrs.
type frameHdrs struct {
	L3, L4, Payload, End int
	EtherType            uint16
	Version, Proto       uint8
	Fragment, Routing    bool
	Transport            bool
}

func parse(frame []byte) (int, frameHdrs) {
	p := exact(frame)
	defer free(p)
	var h C.struct_dp_hdrs
	result := int(C.dp_parse(p, C.uint32_t(len(frame)), &h))
	return result, frameHdrs{
		L3: int(h.l3), L4: int(h.l4), Payload: int(h.payload), End: int(h.end),
		EtherType: uint16(h.ethertype), Version: uint8(h.version), Proto: uint8(h.proto),
		Fragment: bool(h.fragment), Routing: bool(h.routing), Transport: bool(h.transport),
	}
}

// flowHash is that of a frame which parses.
func flowHash(frame []byte) uint32 {
	p := exact(frame)
	defer free(p)
	var h C.struct_dp_hdrs
	C.dp_parse(p, C.uint32_t(len(frame)), &h)
	return uint32(C.dp_flow_hash(p, &h))
}

// vnetHdr is struct virtio_net_hdr.
type vnetHdr struct {
	Flags, Type                            uint8
	HdrLen, GSOSize, CsumStart, CsumOffset uint16
}

func (v vnetHdr) c() C.struct_virtio_net_hdr {
	return C.struct_virtio_net_hdr{
		flags: C.__u8(v.Flags), gso_type: C.__u8(v.Type),
		hdr_len: C.__virtio16(v.HdrLen), gso_size: C.__virtio16(v.GSOSize),
		csum_start: C.__virtio16(v.CsumStart), csum_offset: C.__virtio16(v.CsumOffset),
	}
}

var errGSO = errors.New("no plan for the frame")

// segment cuts a super-frame that parses into the frames that leave for the underlay.
func segment(frame []byte, vnet vnetHdr) ([][]byte, error) {
	p := exact(frame)
	defer free(p)
	var h C.struct_dp_hdrs
	if r := int(C.dp_parse(p, C.uint32_t(len(frame)), &h)); r != parseOK && r != parseNotIP {
		return nil, errors.New("frame does not parse")
	}
	v := vnet.c()
	gso := (*C.struct_dp_gso)(C.malloc(C.sizeof_struct_dp_gso))
	defer free(gso)
	n := int(C.dp_gso_plan(gso, p, &h, &v))
	if n < 0 {
		return nil, errGSO
	}
	segs := make([][]byte, n)
	for i := range segs {
		hdr := (*C.uint8_t)(C.malloc(C.size_t(gso.hdr_len)))
		var payload *C.uint8_t
		var size C.uint32_t
		C.dp_gso_segment(gso, C.unsigned(i), hdr, &payload, &size)
		segs[i] = append(C.GoBytes(unsafe.Pointer(hdr), C.int(gso.hdr_len)), C.GoBytes(unsafe.Pointer(payload), C.int(size))...)
		free(hdr)
	}
	return segs, nil
}

// groFrame is a frame for a port.
type groFrame struct {
	Port    int
	Data    []byte
	Checked bool // its checksum, by a card
}

// groUnit is what one write to a tap would carry.
type groUnit struct {
	Port, Segs int
	VNet       vnetHdr
	Data       []byte
}

// merge gives frames that parse to one dp_gro. taken is the number after which it was full.
func merge(udp bool, frames []groFrame) (units []groUnit, taken int) {
	gro := (*C.struct_dp_gro)(C.malloc(C.sizeof_struct_dp_gro))
	defer free(gro)
	gro.udp = C.bool(udp)
	C.dp_gro_reset(gro)
	for _, f := range frames {
		p := exact(f.Data)
		defer free(p)
		if !C.dp_test_gro_add(gro, C.uintptr_t(f.Port), p, C.uint32_t(len(f.Data)), C.bool(f.Checked)) {
			break
		}
		taken++
	}
	for i := range int(gro.n_units) {
		units = append(units, finish(&gro.units[i]))
	}
	return units, taken
}

func finish(u *C.struct_dp_gro_unit) groUnit {
	C.dp_gro_finish(u)
	out := groUnit{
		Port: int(C.dp_test_gro_port(u)), Segs: int(u.n_segs),
		VNet: vnetHdr{
			Flags: uint8(u.vnet.flags), Type: uint8(u.vnet.gso_type), HdrLen: uint16(u.vnet.hdr_len),
			GSOSize: uint16(u.vnet.gso_size), CsumStart: uint16(u.vnet.csum_start), CsumOffset: uint16(u.vnet.csum_offset),
		},
	}
	if u.iov[0].iov_base != unsafe.Pointer(&u.vnet) || u.iov[0].iov_len != C.sizeof_struct_virtio_net_hdr {
		panic("the first iovec is not the virtio-net header")
	}
	for _, iov := range u.iov[1:u.n_iov] {
		out.Data = append(out.Data, view(iov.iov_base, int(iov.iov_len))...)
	}
	if int(u.len) != len(out.Data) {
		panic("the unit's length is not that of its iovecs")
	}
	return out
}

// csumRounds, segmentRounds and mergeRounds do the same work many times over, for benchmarks.
func csumRounds(data []byte, rounds int) {
	p := exact(data)
	defer free(p)
	C.dp_test_csum_loop(p, C.uint32_t(len(data)), C.uint32_t(rounds))
}

func segmentRounds(frame []byte, vnet vnetHdr, rounds int) int {
	p := exact(frame)
	defer free(p)
	v := vnet.c()
	segs := exact(make([]byte, 64*128))
	defer free(segs)
	return int(C.dp_test_gso_loop(p, C.uint32_t(len(frame)), &v, segs, 128, C.uint32_t(rounds)))
}

func mergeRounds(frames [][]byte, rounds int) int {
	gro := (*C.struct_dp_gro)(C.malloc(C.sizeof_struct_dp_gro))
	defer free(gro)
	segs := (**C.uint8_t)(C.malloc(C.size_t(len(frames)) * C.size_t(unsafe.Sizeof(uintptr(0)))))
	defer free(segs)
	lens := (*C.uint32_t)(C.malloc(C.size_t(len(frames)) * C.sizeof_uint32_t))
	defer free(lens)
	for i, f := range frames {
		p := exact(f)
		defer free(p)
		unsafe.Slice(segs, len(frames))[i] = p
		unsafe.Slice(lens, len(frames))[i] = C.uint32_t(len(f))
	}
	return int(C.dp_test_gro_loop(gro, segs, lens, C.uint32_t(len(frames)), C.uint32_t(rounds)))
}
