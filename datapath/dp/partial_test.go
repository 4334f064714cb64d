//go:build dptest

package dp

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
)

// portMTU is that of ports of which a test does not say it.
const portMTU = 1500

// partial is the other container's frame as it is before a card has computed the checksum, and the virtio-net header that says so.
func (f flow) partial(t testing.TB, length int) ([]byte, vnetHdr) {
	t.Helper()
	frame, vnet := f.super(back(f.frame(t, 1, 1, 16, fill(length))), 0)
	vnet.Type, vnet.HdrLen = gsoNone, 0
	return frame, vnet
}

func TestChecksumThatWasNeverComputed(t *testing.T) {
	b := bench()
	for name, f := range kinds {
		frame, vnet := f.partial(t, 333)
		wrong := bytes.Clone(frame)
		wrong[len(wrong)-1]++
		wrong[f.l4()+int(vnet.CsumOffset)]++
		right := back(f.frame(t, 1, 1, 16, fill(333)))
		for what, c := range map[string]struct {
			sent []byte
			want groUnit
		}{
			"never computed":             {frame, groUnit{VNet: vnet, Data: frame}},
			"never computed, and padded": {append(bytes.Clone(frame), 1, 2, 3), groUnit{VNet: vnet, Data: frame}},
			"right":                      {right, groUnit{Data: right}},
			"wrong":                      {wrong, groUnit{Data: wrong}}, // the container's kernel looks at it
		} {
			decapExact(b.vtep, 0, packed(c.sent))
			if got := b.units(); len(got) != 1 || got[0].VNet != c.want.VNet || !bytes.Equal(got[0].Data, c.want.Data) {
				t.Errorf("%s, %s: got %+v, want %+v", name, what, got, c.want)
			}
		}
	}
}

// The kernel tells nothing of a TCP super-frame: it is one where no frame is so long. Cut at its MTU no container sends a longer one.
func TestSuperFrameThatCameWhole(t *testing.T) {
	b := bench()
	for _, name := range []string{"TCP4", "TCP6"} {
		f := kinds[name]
		for _, length := range []int{portMTU - f.hdrLen() + 14, portMTU - f.hdrLen() + 15, 9000, 65000} {
			frame, vnet := f.partial(t, length)
			if len(frame) > portMTU+14 {
				_, vnet = f.super(frame, portMTU-f.hdrLen()+14)
			}
			decapExact(b.vtep, 0, packed(frame))
			if got := b.units(); len(got) != 1 || got[0].VNet != vnet || !bytes.Equal(got[0].Data, frame) {
				t.Errorf("%s of %d bytes: got %d units, %+v, want %+v", name, len(frame), len(got), got[0].VNet, vnet)
			}
			frame[f.l4()+16]++
			decapExact(b.vtep, 0, packed(frame))
			if got := b.units(); len(got) != 1 || got[0].VNet != (vnetHdr{}) {
				t.Errorf("%s of %d bytes with a wrong checksum: got %+v", name, len(frame), got)
			}
		}
	}
	frame, vnet := flow{}.super(back(flow{}.frame(t, 1, 1, 16|128, fill(9000))), portMTU-40)
	vnet.Type |= gsoECN
	decapExact(b.vtep, 0, packed(frame))
	if got := b.units(); len(got) != 1 || got[0].VNet != vnet {
		t.Errorf("CWR: got %+v, want %+v", got, vnet)
	}
}

// Of a UDP super-frame the kernel tells the size of its segments, as it does of packets that it has gathered.
func TestUDPSuperFrameThatCameWhole(t *testing.T) {
	b := bench()
	for _, name := range []string{"UDP4", "UDP6"} {
		f := kinds[name]
		for _, size := range []int{1, 100, 1400} {
			length := min(size*47+size/2, 65000)
			frame, vnet := f.super(back(f.frame(t, 1, 0, 0, fill(length))), size)
			uso(true)
			decapDatagram(b.vtep, 0, size, packed(frame))
			if got := b.units(); len(got) != 1 || got[0].VNet != vnet || !bytes.Equal(got[0].Data, frame) {
				t.Errorf("%s in segments of %d bytes: got %d units, want one with %+v", name, size, len(got), vnet)
			}
			uso(false)
			decapDatagram(b.vtep, 0, size, packed(frame))
			checkSegments(t, f, frame, size, b.delivered())
		}
	}
}

// What the kernel has gathered is cut where it says, also where the first packet is padded, or is not IP.
func TestGatheredPackets(t *testing.T) {
	b := bench()
	one := packed(back(flow{udp: true, fragments: 2}.frame(t, 1, 0, 0, fill(200))))
	for what, first := range map[string][]byte{
		"alike":      one,
		"ends early": packed(back(flow{udp: true}.frame(t, 1, 0, 0, fill(100)))),
		"ARP":        packed(back(examples(t)["ARP"])),
	} {
		first = append(first, make([]byte, len(one)-len(first))...)
		decapDatagram(b.vtep, 0, len(one), slices.Concat(first, one, one))
		if got := b.delivered(); len(got) != 3 || !bytes.Equal(got[1], one[8:]) || !bytes.Equal(got[2], one[8:]) {
			t.Errorf("%s: got %x", what, got)
		}
	}
}

// inserted puts bytes into a frame behind its first ones. Its IPv6 packet is longer by so many.
func inserted(frame []byte, at int, more ...byte) []byte {
	frame = slices.Insert(bytes.Clone(frame), at, more...)
	if binary.BigEndian.Uint16(frame[12:]) == 0x86dd {
		binary.BigEndian.PutUint16(frame[18:], uint16(len(frame)-54))
	}
	return frame
}

// disguised are UDP super-frames that a Linux VTEP leaves in one piece as well, and that are not known for such.
func disguised(t *testing.T) map[string]func(payload []byte) []byte {
	super := func(name string, payload []byte) []byte {
		frame, _ := kinds[name].super(back(kinds[name].frame(t, 1, 0, 0, payload)), 1)
		return frame
	}
	extended := func(payload []byte, kind byte, n int) []byte {
		frame := super("UDP6", payload)
		for range n {
			frame = inserted(frame, 54, frame[20], 0, 1, 4, 0, 0, 0, 0)
			frame[20] = kind
		}
		return frame
	}
	return map[string]func([]byte) []byte{
		"VLAN tag":               func(p []byte) []byte { return inserted(super("UDP4", p), 12, 0x81, 0, 0, 5) },
		"routing header":         func(p []byte) []byte { return extended(p, 43, 1) },
		"nine extension headers": func(p []byte) []byte { return extended(p, 60, 9) },
		"tunnel": func(p []byte) []byte {
			frame := super("UDP6", p)
			frame = inserted(frame, 54, frame[14:54]...)
			frame[20] = 41
			return frame
		},
		"no checksum": func(p []byte) []byte {
			frame := super("UDP4", p)
			frame[40], frame[41] = 0, 0
			return frame
		},
		"length that lies": func(p []byte) []byte {
			frame := super("UDP4", p)
			frame[17]--
			return frame
		},
	}
}

// A sender makes its super-frame look like packets of others', or its packet look like a super-frame of which others' packets are a
// part: neither is delivered.
func TestAmbiguousDatagram(t *testing.T) {
	b := bench()
	known := packed(back(flow{udp: true}.frame(t, 1, 0, 0, fill(200))))
	unknown := bytes.Clone(known)
	unknown[8+6+5]++ // its source
	size := len(known)
	cases := disguised(t)
	for _, name := range []string{"UDP4", "UDP6"} {
		cases[name] = func(payload []byte) []byte {
			frame, _ := kinds[name].super(back(kinds[name].frame(t, 1, 0, 0, payload)), size)
			return frame
		}
	}
	for what, frame := range cases {
		for _, c := range []struct{ packets, known int }{{6, 1}, {6, 3}, {6, 5}, {128, 127}} {
			datagram := packed(frame(make([]byte, c.packets*size-8-len(frame(nil)))))
			for k := 1; k < c.packets; k++ {
				copy(datagram[k*size:], map[bool][]byte{true: known, false: unknown}[k == c.known])
			}
			before := harnessDrop("underlay_ambiguous")
			decapDatagram(b.vtep, 0, size, datagram)
			if got := b.delivered(); len(got) > 0 || harnessDrop("underlay_ambiguous") != before+1 {
				t.Errorf("%s, packet %d of %d: %d frames delivered, %d drops", what, c.known, c.packets, len(got), harnessDrop("underlay_ambiguous")-before)
			}
		}
	}
}

// What is longer than all that the kernel gathers is one super-frame: nothing in it is a packet of others'.
func TestSuperFrameOfManySegments(t *testing.T) {
	b := bench()
	known := packed(back(flow{udp: true}.frame(t, 1, 0, 0, fill(200))))
	for what, frame := range disguised(t) {
		decapDatagram(b.vtep, 0, len(known), append(packed(frame(make([]byte, 130*len(known)-8-len(frame(nil))))), known...))
		if got := b.delivered(); len(got) > 0 {
			t.Errorf("%s: %d frames delivered", what, len(got))
		}
	}
}

// Whoever takes no virtio-net header gets the checksum computed, and a super-frame in segments.
func TestDeviceTakesWhatIsFinished(t *testing.T) {
	d := onDevices()
	for name, f := range kinds {
		frame, _ := f.partial(t, 333)
		want := back(f.frame(t, 1, 1, 16, fill(333)))
		if got := fromUnderlay(d.underlay, d.container, d.inwards().packet(t, frame)); !bytes.Equal(got.frame, want) || !got.zeroCopy {
			t.Errorf("%s: zeroCopy %v,\n got %x\nwant %x", name, got.zeroCopy, got.frame, want)
		}
		if got := copied(d.vtep, 0, d.inwards().packet(t, frame)[42:], d.container); !bytes.Equal(got.frame, want) {
			t.Errorf("%s, copied:\n got %x\nwant %x", name, got.frame, want)
		}
		if f.udp {
			continue
		}
		frame, _ = f.partial(t, 9000)
		super, vnet := f.super(frame, portMTU+14-f.hdrLen())
		segs, err := segment(super, vnet)
		check(t, err)
		if got := copied(d.vtep, 0, d.inwards().packet(t, frame)[42:], d.container); !bytes.Equal(got.frame, segs[len(segs)-1]) {
			t.Errorf("%s, last segment:\n got %x\nwant %x", name, got.frame, segs[len(segs)-1])
		}
	}
}

// The outer checksum may be left out as well, or be that of a packet whose inner one is computed.
func TestOuterChecksumThatWasNeverComputed(t *testing.T) {
	d := onDevices()
	in := d.inwards()
	in.checksum = true
	pseudo := func(packet []byte) uint16 {
		return fold16(sum16(packet[26:34]) + 17 + uint32(len(packet)-34))
	}
	for name, f := range kinds {
		frame, _ := f.partial(t, 333)
		right := back(f.frame(t, 1, 1, 16, fill(333)))
		left, whole := in.packet(t, frame), in.packet(t, right)
		binary.BigEndian.PutUint16(left[40:], pseudo(left))
		copy(whole[50:], frame)
		for what, packet := range map[string][]byte{"left out": left, "inner one alone left out": whole} {
			if got := fromUnderlay(d.underlay, d.container, packet); !bytes.Equal(got.frame, right) {
				t.Errorf("%s, %s: got %x\nwant %x", name, what, got.frame, right)
			}
		}
		whole[40]++
		wrong, other := in.packet(t, right), in.packet(t, right)
		wrong[len(wrong)-1]++
		copy(other[50:], frame)
		other[50+6]++ // the inner source MAC: what the outer checksum does not cover then is the inner packet alone
		for what, packet := range map[string][]byte{"wrong": whole, "of other payload": wrong, "of another header": other} {
			before := harnessDrop("underlay_checksum")
			if got := fromUnderlay(d.underlay, d.container, packet); len(got.frame) > 0 || harnessDrop("underlay_checksum") != before+1 {
				t.Errorf("%s, %s: %d bytes delivered, %d drops", name, what, len(got.frame), harnessDrop("underlay_checksum")-before)
			}
		}
	}
}

// Frames without a checksum are merged as those with one.
func TestMergeWithoutChecksums(t *testing.T) {
	for name, f := range kinds {
		frame := f.frame(t, 7, 1000, 16, fill(4200))
		super, vnet := f.super(frame, 1400)
		segs, err := segment(super, vnet)
		if err != nil {
			t.Fatal(err)
		}
		for i := range segs {
			if i != 1 { // one of them has it
				segs[i], _ = f.super(segs[i], 0)
			}
		}
		units, _ := merge(true, toPort(segs...))
		if len(units) != 1 || units[0].VNet != vnet || !bytes.Equal(units[0].Data, super) {
			t.Errorf("%s: %d units, %+v, want %+v", name, len(units), units[0].VNet, vnet)
		}
		segs[2][len(segs[2])-1]++
		segs[2][f.l4()+int(vnet.CsumOffset)]++
		units, _ = merge(true, toPort(segs...))
		if len(units) != 2 || units[1].VNet != (vnetHdr{}) {
			t.Errorf("%s, one with a wrong checksum: %d units, %+v", name, len(units), units)
		}
	}
}
