//go:build dptest

package dp

import (
	"bytes"
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// Of what is written to the tap: the virtio-net header of Linux 6.17 (struct virtio_net_hdr_v1_hash_tunnel), and the outer headers over IPv4.
const (
	gsoTapHeader = 24
	outerLen     = 14 + 20 + 8 + 8
	gsoTunnel4   = 0x20
)

// gsoTap has super-frames to the bench's VTEP go where a tap would be, and gives what reads them there.
func (b testBench) gsoTap(t *testing.T) (read func() []byte) {
	t.Helper()
	tap, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		DelWhole(b.vtep)
		unix.Close(tap[0])
		unix.Close(tap[1])
	})
	if err := SetWhole(b.vtep, tap[0], 7, true); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 1<<17)
	return func() []byte {
		n, err := unix.Read(tap[1], buffer)
		if err != nil {
			return nil
		}
		return bytes.Clone(buffer[:n])
	}
}

func TestSuperFrameGoesToTheTap(t *testing.T) {
	b := bench()
	read := b.gsoTap(t)
	for name, f := range kinds {
		frame, vnet := f.super(f.frame(t, 1, 1, 16, fill(3000)), 1000)
		encapExact(b.port, append(vnet.bytes(), frame...))
		got := read()
		if len(got) != gsoTapHeader+outerLen+len(frame) || !bytes.Equal(got[gsoTapHeader+outerLen:], frame) {
			t.Errorf("%s: %d bytes at the tap, want %d that end in the frame", name, len(got), gsoTapHeader+outerLen+len(frame))
			continue
		}
		f.checkGSOTapHeader(t, got, 1000)
	}
}

// checkGSOTapHeader demands what the kernel has to be told of a flow's super-frame, whatever its container said.
func (f flow) checkGSOTapHeader(t rapid.TB, got []byte, size int) {
	t.Helper()
	kind, offset := map[[2]bool]byte{{false, false}: gsoTCP4, {true, false}: gsoTCP6, {false, true}: gsoUDP, {true, true}: gsoUDP}[[2]bool{f.v6, f.udp}], 16
	if f.udp {
		offset = 6
	}
	word := func(at int) int { return int(binary.NativeEndian.Uint16(got[at:])) }
	if got[0] != vnetNeedsCsum || got[1]&^gsoECN != kind|gsoTunnel4 {
		t.Errorf("flags %#x, type %#x", got[0], got[1])
	}
	for what, c := range map[string][2]int{
		"headers": {word(2), outerLen + f.hdrLen()}, "segment": {word(4), size},
		"checksum's start": {word(6), outerLen + f.l4()}, "its offset": {word(8), offset},
		"outer transport": {word(20), 34}, "inner network": {word(22), outerLen + 14},
	} {
		if c[0] != c[1] {
			t.Errorf("%s: %d, want %d", what, c[0], c[1])
		}
	}
}

// A container may write any header in front of its frames. The kernel hears of one piece only what is true.
func TestSuperFrameWhoseHeaderLies(t *testing.T) {
	b := bench()
	read := b.gsoTap(t)
	rapid.Check(t, func(rt *rapid.T) {
		name := rapid.SampledFrom([]string{"TCP4", "TCP6", "UDP4", "UDP6"}).Draw(rt, "kind")
		f := kinds[name]
		frame, vnet := f.super(f.frame(t, 1, 1, 16, fill(3000)), 1000)
		words := map[string]*uint16{"HdrLen": &vnet.HdrLen, "GSOSize": &vnet.GSOSize, "CsumStart": &vnet.CsumStart, "CsumOffset": &vnet.CsumOffset}
		for _, lie := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"Flags", "Type", "HdrLen", "GSOSize", "CsumStart", "CsumOffset", "short"}), 0, 3, rapid.ID[string]).Draw(rt, "lies") {
			switch lie {
			case "Flags":
				vnet.Flags = rapid.Byte().Draw(rt, lie)
			case "Type":
				vnet.Type = rapid.Byte().Draw(rt, lie)
			case "short":
				frame = frame[:rapid.IntRange(14, len(frame)).Draw(rt, lie)]
			default:
				*words[lie] = rapid.Uint16().Draw(rt, lie)
			}
		}
		before := harnessDrops() + harnessSent()
		encapExact(b.port, append(vnet.bytes(), frame...))
		got := read()
		if got != nil {
			f.checkGSOTapHeader(rt, got, int(vnet.GSOSize))
		} else if harnessDrops()+harnessSent() == before {
			rt.Errorf("neither counted nor sent")
		}
		for b.delivered(); read() != nil; {
			rt.Errorf("more than one packet")
		}
	})
}
