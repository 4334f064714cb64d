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
	files := b.gsoFiles(t)
	return func() []byte {
		for _, f := range files {
			if got := f.read(); got != nil {
				return got
			}
		}
		return nil
	}
}

// gsoFile is a file of the tap's, and its other end.
type gsoFile [2]int

// gsoFiles are those of the tap for the worker that is the test: one for each source.
func (b testBench) gsoFiles(t *testing.T) (files [Sources]gsoFile) {
	t.Helper()
	fds := make([]int, 2*Sources)
	for i := range files {
		var err error
		files[i], err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0)
		check(t, err)
		fds[Sources+i] = files[i][0]
	}
	t.Cleanup(func() {
		DelWhole(b.vtep)
		for _, f := range files {
			unix.Close(f[0])
			unix.Close(f[1])
		}
	})
	check(t, SetWhole(b.vtep, fds, 7, true))
	return files
}

func (f gsoFile) read() []byte {
	buffer := make([]byte, 1<<17)
	n, err := unix.Read(f[1], buffer)
	if err != nil {
		return nil
	}
	return buffer[:n]
}

// fill writes until there is no room.
func (f gsoFile) fill() {
	for {
		if _, err := unix.Write(f[0], []byte{0}); err != nil {
			return
		}
	}
}

// A device that is slow fills the file of the source ports that lead there. Super-frames from others go on.
func TestFullTapStopsItsSourceAlone(t *testing.T) {
	b := bench()
	files := b.gsoFiles(t)
	// send gives the file that a flow's super-frame came to, and its outer source port.
	send := func(flowPort uint16) (file, port int) {
		f := flow{port: flowPort}
		frame, vnet := f.super(f.frame(t, 1, 1, 16, fill(3000)), 1000)
		encapExact(b.port, append(vnet.bytes(), frame...))
		for i := range files {
			if got := files[i].read(); len(got) > gsoTapHeader+36 {
				return i, int(binary.BigEndian.Uint16(got[gsoTapHeader+34:]))
			}
		}
		return -1, 0
	}
	ports, fileOf := map[int]int{}, map[uint16]int{}
	for flow := uint16(1); flow <= 64; flow++ {
		file, port := send(flow)
		if known, ok := ports[file]; file < 0 || ok && known != port {
			t.Fatalf("a super-frame from port %d came to file %d, others there are from %d", port, file, known)
		}
		ports[file], fileOf[flow] = port, file
	}
	if len(ports) != Sources {
		t.Fatalf("64 flows leave by %d files", len(ports))
	}
	full := 3
	files[full].fill()
	for flow, file := range fileOf {
		before := harnessDrop("underlay_full")
		if got, _ := send(flow); file != full && got != file {
			t.Errorf("a super-frame for file %d came to %d while file %d was full", file, got, full)
		} else if file == full && harnessDrop("underlay_full") == before {
			t.Errorf("file %d is full, and nothing was dropped", full)
		}
		files[full].fill()
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
