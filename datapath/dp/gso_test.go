//go:build dptest

package dp

import (
	"bytes"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"pgregory.net/rapid"
)

// checkSegments fails the test unless segs are what a kernel without offloads would have sent in place of the frame.
func checkSegments(t testing.TB, f flow, frame []byte, size int, segs [][]byte) {
	t.Helper()
	var data []byte
	whole := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	for i, seg := range segs {
		last := i == len(segs)-1
		p := decode(t, seg)
		payload := seg[f.hdrLen():]
		data = append(data, payload...)
		if !last && len(payload) != size || len(payload) > size {
			t.Fatalf("segment %d of %d has %d bytes of payload, want %d", i, len(segs), len(payload), size)
		}
		if !f.v6 {
			got, from := p.NetworkLayer().(*layers.IPv4), whole.NetworkLayer().(*layers.IPv4)
			if got.Id != from.Id+uint16(i) || int(got.Length) != len(seg)-14 || got.Flags != from.Flags {
				t.Fatalf("segment %d: id %d, length %d, flags %v", i, got.Id, got.Length, got.Flags)
			}
		} else if got := p.NetworkLayer().(*layers.IPv6); int(got.Length) != len(seg)-54 {
			t.Fatalf("segment %d: IPv6 payload length %d of %d bytes", i, got.Length, len(seg))
		}
		if f.udp {
			if got := p.TransportLayer().(*layers.UDP); int(got.Length) != 8+len(payload) || got.Checksum == 0 {
				t.Fatalf("segment %d: UDP length %d, checksum %#x", i, got.Length, got.Checksum)
			}
			continue
		}
		got, from := p.TransportLayer().(*layers.TCP), whole.TransportLayer().(*layers.TCP)
		if got.Seq != from.Seq+uint32(i*size) || got.PSH != (from.PSH && last) || got.FIN != (from.FIN && last) ||
			got.CWR != (from.CWR && i == 0) || got.ECE != from.ECE || got.Ack != from.Ack || got.Window != from.Window ||
			!bytes.Equal(seg[54:f.hdrLen()], frame[54:f.hdrLen()]) && !f.v6 {
			t.Fatalf("segment %d of %d: %+v of %+v", i, len(segs), got, from)
		}
	}
	if !bytes.Equal(data, frame[f.hdrLen():]) {
		t.Fatalf("%d segments carry %d bytes, not the frame's %d", len(segs), len(data), len(frame)-f.hdrLen())
	}
}

func TestSegmentsAreValidFrames(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		f := drawFlow().Draw(rt, "flow")
		length := rapid.IntRange(1, 9000).Draw(rt, "length")
		size := rapid.IntRange(max(8, length/80), 9000).Draw(rt, "size")
		flags := 16 | rapid.SampledFrom([]uint8{0, 1, 8, 9, 64, 128, 201}).Draw(rt, "flags")
		frame := f.frame(t, rapid.Uint16().Draw(rt, "id"), rapid.Uint32().Draw(rt, "seq"), flags, fill(length))
		super, vnet := f.super(frame, size)
		segs, err := segment(super, vnet)
		if err != nil {
			rt.Fatal(err)
		}
		checkSegments(t, f, super, size, segs)
	})
}

func TestSegmentsOfTheLongestFrame(t *testing.T) {
	for name, f := range kinds {
		longest := 65535 + 14 - f.hdrLen()
		if f.v6 {
			longest += 40 // IPv6 does not count its header
		}
		for _, size := range []int{8, 536, 1448, longest - 1, longest, 65535} {
			super, vnet := f.super(f.frame(t, 65530, 1<<32-5000, 16|8|128, fill(longest)), size)
			segs, err := segment(super, vnet)
			if err != nil || len(segs) != (longest+size-1)/size {
				t.Fatalf("%s, %d bytes at %d: %d segments, %v", name, longest, size, len(segs), err)
			}
			checkSegments(t, f, super, size, segs)
		}
	}
}

func TestSegmentOfAFrameThatNeedsNone(t *testing.T) {
	for name, f := range kinds {
		for _, length := range []int{0, 1, 1000} {
			whole := f.frame(t, 1, 2, 16|8|1|128, fill(length))
			super, vnet := f.super(whole, 1000)
			segs, err := segment(super, vnet)
			if err != nil || len(segs) != 1 || !bytes.Equal(segs[0], whole) {
				t.Errorf("%s of %d bytes: %v\n%x, want\n%x", name, length, err, segs, whole)
			}
		}
	}
}

func TestSegmentsLeaveOutPadding(t *testing.T) {
	f := kinds["TCP4"]
	super, vnet := f.super(f.frame(t, 1, 2, 16, fill(100)), 40)
	segs, err := segment(append(bytes.Clone(super), fill(20)...), vnet)
	if err != nil {
		t.Fatal(err)
	}
	checkSegments(t, f, super, 40, segs)
}

// Payload that is its own checksum brings the checksum to 0, which UDP takes for "no checksum".
func TestSegmentsOfUDPAlwaysHaveAChecksum(t *testing.T) {
	for _, f := range []flow{{udp: true}, {udp: true, v6: true}} {
		at := f.l4() + 6
		own := f.frame(t, 0, 0, 0, []byte{0, 0})[at : at+2]
		super, vnet := f.super(f.frame(t, 0, 0, 0, join(own, own)), 2)
		segs, err := segment(super, vnet)
		if err != nil {
			t.Fatal(err)
		}
		for i, seg := range segs {
			if got := seg[at : at+2]; !bytes.Equal(got, []byte{0xff, 0xff}) {
				t.Errorf("segment %d: checksum %x, want ffff", i, got)
			}
		}
	}
}

func TestSegmentsKeepExtensionHeaders(t *testing.T) {
	udp := append(bytes.Clone(udp8), fill(100)...)
	udp[5] = byte(len(udp))
	super := ip6Frame(0, join(ext(60), ext(17), udp)...)
	segs, err := segment(super, vnetHdr{Flags: vnetNeedsCsum, Type: gsoUDP, GSOSize: 30})
	if err != nil || len(segs) != 4 {
		t.Fatalf("%d segments, %v", len(segs), err)
	}
	var data []byte
	for i, seg := range segs {
		// gopacket takes no checksum over extension headers: what lies behind them is summed by hand.
		sum := sum16(seg[22:54]) + 17 + uint32(len(seg)-70) + sum16(seg[70:])
		if fold16(sum) != 0xffff || !bytes.Equal(seg[54:70], super[54:70]) || int(seg[19]) != len(seg)-54 {
			t.Errorf("segment %d: sum %#x\n%x", i, fold16(sum), seg)
		}
		data = append(data, seg[78:]...)
	}
	if !bytes.Equal(data, udp[8:]) {
		t.Error("payload differs")
	}
}

func TestGSOHeaderThatDoesNotFit(t *testing.T) {
	set := func(frame []byte, at int, b ...byte) []byte {
		frame = bytes.Clone(frame)
		copy(frame[at:], b)
		return frame
	}
	tcp4 := flow{}.frame(t, 1, 2, 16, fill(100))
	tcp6 := flow{v6: true}.frame(t, 1, 2, 16, fill(100))
	udp4 := flow{udp: true}.frame(t, 1, 2, 16, fill(100))
	fragment := flow{fragments: layers.IPv4MoreFragments}.frame(t, 1, 2, 16, fill(100))
	routed := ip6Frame(43, join(ext(17), set(udp8, 5, 12), fill(4))...)
	fragment6 := ip6Frame(44, join([]byte{17, 0, 0, 0, 0, 0, 0, 0}, set(udp8, 5, 12), fill(4))...)
	long := ip6Frame(60, join([]byte{60, 5}, fill(46), []byte{17, 1}, fill(14), set(udp8, 5, 12), fill(4))...)
	arp := append(bytes.Clone(tcp4[:12]), 8, 6, 0, 1, 8, 0)
	for name, c := range map[string]struct {
		frame []byte
		vnet  vnetHdr
	}{
		"no type":              {tcp4, vnetHdr{GSOSize: 10}},
		"ECN without a type":   {tcp4, vnetHdr{Type: gsoECN, GSOSize: 10}},
		"unknown type":         {tcp4, vnetHdr{Type: 2, GSOSize: 10}},
		"UFO":                  {udp4, vnetHdr{Type: gsoUFO, GSOSize: 10}},
		"size 0":               {tcp4, vnetHdr{Type: gsoTCP4}},
		"TCP6 on TCP4":         {tcp4, vnetHdr{Type: gsoTCP6, GSOSize: 10}},
		"TCP4 on TCP6":         {tcp6, vnetHdr{Type: gsoTCP4, GSOSize: 10}},
		"UDP on TCP":           {tcp4, vnetHdr{Type: gsoUDP, GSOSize: 10}},
		"TCP4 on UDP":          {udp4, vnetHdr{Type: gsoTCP4, GSOSize: 10}},
		"TCP4 on ARP":          {arp, vnetHdr{Type: gsoTCP4, GSOSize: 10}},
		"fragment":             {fragment, vnetHdr{Type: gsoTCP4, GSOSize: 10}},
		"IPv6 fragment":        {fragment6, vnetHdr{Type: gsoUDP, GSOSize: 10}},
		"routing header":       {routed, vnetHdr{Type: gsoUDP, GSOSize: 10}},
		"headers of 126 bytes": {long, vnetHdr{Type: gsoUDP, GSOSize: 10}},
		"UDP shorter than IP":  {set(udp4, 38, 0, 100), vnetHdr{Type: gsoUDP, GSOSize: 10}},
		"one segment too many": {flow{}.frame(t, 1, 2, 16, fill(gsoSegsMax*2+1)), vnetHdr{Type: gsoTCP4, GSOSize: 2}},
		"65000 segments":       {flow{}.frame(t, 1, 2, 16, fill(65000)), vnetHdr{Type: gsoTCP4, GSOSize: 1}},
		"TCP4 on ICMP":         {set(tcp4, 23, 1), vnetHdr{Type: gsoTCP4, GSOSize: 10}},
		"ECN and unknown type": {tcp4, vnetHdr{Type: gsoECN | 7, GSOSize: 10}},
	} {
		if segs, err := segment(c.frame, c.vnet); err == nil {
			t.Errorf("%s: %d segments, want an error", name, len(segs))
		}
	}
	if _, err := segment(flow{}.frame(t, 1, 2, 16, fill(gsoSegsMax*2)), vnetHdr{Type: gsoTCP4, GSOSize: 2}); err != nil {
		t.Errorf("as many segments as allowed: %v", err)
	}
	if _, err := segment(tcp4, vnetHdr{Type: gsoTCP4 | gsoECN, GSOSize: 10}); err != nil {
		t.Errorf("ECN: %v", err)
	}
}

// fuzzSegment segments whatever comes and checks what can be said of any frame: headers repeat, payload is cut in order.
func fuzzSegment(t testing.TB, frame []byte, vnet vnetHdr) {
	result, h := parse(frame)
	if result != parseOK {
		return
	}
	segs, err := segment(frame, vnet)
	if err != nil {
		return
	}
	var data []byte
	for i, seg := range segs {
		result, s := parse(seg)
		if result != parseOK || s.End != len(seg) || s.Payload != h.Payload || s.Proto != h.Proto || s.Payload > gsoHdrMax {
			t.Fatalf("segment %d: result %d, %+v of %+v", i, result, s, h)
		}
		data = append(data, seg[s.Payload:]...)
	}
	if !bytes.Equal(data, frame[h.Payload:h.End]) {
		t.Fatalf("%d segments carry other payload than the frame", len(segs))
	}
}

func TestGSOTakesAnyVirtioHeader(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		frame := drawFlow().Draw(rt, "flow").frame(t, 1, 2, 16, fill(rapid.IntRange(0, 300).Draw(rt, "length")))
		for range rapid.IntRange(0, 4).Draw(rt, "broken bytes") {
			frame[rapid.IntRange(0, len(frame)-1).Draw(rt, "at")] = rapid.Byte().Draw(rt, "byte")
		}
		fuzzSegment(t, frame, vnetHdr{
			Flags: rapid.Byte().Draw(rt, "flags"), Type: rapid.SampledFrom([]uint8{0, 1, 3, 4, 5, 0x81, 0x84, 0x85, 77}).Draw(rt, "type"),
			HdrLen: rapid.Uint16().Draw(rt, "header"), GSOSize: rapid.Uint16Range(0, 400).Draw(rt, "size"),
			CsumStart: rapid.Uint16().Draw(rt, "start"), CsumOffset: rapid.Uint16().Draw(rt, "offset"),
		})
	})
}

func FuzzGSO(f *testing.F) {
	for _, k := range kinds {
		frame, vnet := k.super(k.frame(f, 1, 2, 16, fill(100)), 30)
		f.Add(frame, vnet.Type, vnet.GSOSize)
	}
	f.Add(ip6Frame(0, join(ext(60), ext(17), udp8)...), uint8(gsoUDP), uint16(1))
	f.Fuzz(func(t *testing.T, frame []byte, gsoType uint8, size uint16) {
		fuzzSegment(t, frame, vnetHdr{Type: gsoType, GSOSize: size})
	})
}

func BenchmarkSegment(b *testing.B) {
	f := kinds["TCP4"]
	super, vnet := f.super(f.frame(b, 1, 2, 16, fill(46*1410)), 1410)
	b.SetBytes(int64(len(super)))
	if n := segmentRounds(super, vnet, b.N); n != 46 {
		b.Fatalf("%d segments", n)
	}
}
