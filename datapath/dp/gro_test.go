//go:build dptest

package dp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/gopacket/gopacket/layers"
	"pgregory.net/rapid"
)

// toPort addresses frames to one port.
func toPort(frames ...[]byte) []groFrame {
	var in []groFrame
	for _, f := range frames {
		in = append(in, groFrame{Port: 1, Data: f})
	}
	return in
}

// run is n frames of size bytes of payload that follow each other, none of them the last.
func (f flow) run(t testing.TB, n, size int) [][]byte {
	t.Helper()
	var frames [][]byte
	for i := range n {
		frames = append(frames, f.frame(t, uint16(i), uint32(i*size), 16, fill(size)))
	}
	return frames
}

// wantSegs fails the test unless the frames become units of that many frames.
func wantSegs(t testing.TB, what string, frames [][]byte, want ...int) []groUnit {
	t.Helper()
	units, taken := merge(true, toPort(frames...))
	var got []int
	for _, u := range units {
		got = append(got, u.Segs)
	}
	if taken != len(frames) || !slices.Equal(got, want) {
		t.Errorf("%s: units of %v frames, want %v", what, got, want)
	}
	return units
}

// unmerge cuts a unit again: into what it was merged of, except that a constant IPv4 id counts up.
func unmerge(t testing.TB, u groUnit) [][]byte {
	t.Helper()
	if u.Segs == 1 {
		if u.VNet != (vnetHdr{}) {
			t.Fatalf("single frame is vouched for: %+v", u.VNet)
		}
		return [][]byte{u.Data}
	}
	segs, err := segment(u.Data, u.VNet)
	if err != nil {
		t.Fatalf("%v: %+v\n%x", err, u.VNet, u.Data)
	}
	return segs
}

func TestMergeUndoesSegmentation(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		f := drawFlow().Draw(rt, "flow")
		size := rapid.IntRange(8, 1500).Draw(rt, "size")
		length := rapid.IntRange(size+1, min(groSegs*size, 65535-100)).Draw(rt, "length")
		flags := 16 | rapid.SampledFrom([]uint8{0, 1, 8, 9, 64}).Draw(rt, "flags")
		super, vnet := f.super(f.frame(t, rapid.Uint16().Draw(rt, "id"), rapid.Uint32().Draw(rt, "seq"), flags, fill(length)), size)
		segs, err := segment(super, vnet)
		if err != nil {
			rt.Fatal(err)
		}
		units := wantSegs(t, "one super-frame", segs, len(segs))
		if len(units) != 1 || !bytes.Equal(units[0].Data, super) || units[0].VNet != vnet {
			rt.Fatalf("%d units\n%+v, want\n%+v\n%x, want\n%x", len(units), units[0].VNet, vnet, units[0].Data, super)
		}
	})
}

func TestMergeEnds(t *testing.T) {
	for name, f := range kinds {
		run := f.run(t, 5, 100)
		wantSegs(t, name, run, 5)
		wantSegs(t, name+", a longer one after it", append(f.run(t, 2, 100), f.frame(t, 2, 200, 16, fill(101))), 2, 1)
		short := append(f.run(t, 2, 100), f.frame(t, 2, 200, 16, fill(99)), f.frame(t, 3, 299, 16, fill(99)))
		wantSegs(t, name+", a shorter one in it", short, 3, 1)
		wantSegs(t, name+", one frame", run[:1], 1)
		wantSegs(t, name+", an empty one in it", append(f.run(t, 2, 100), f.frame(t, 2, 200, 16, nil), f.frame(t, 3, 200, 16, fill(100))), 2, 1, 1)
		if f.udp {
			continue
		}
		for _, flags := range []uint8{16 | 1, 16 | 8, 16 | 9} {
			ended := f.run(t, 4, 100)
			ended[1] = f.frame(t, 1, 100, flags, fill(100))
			units := wantSegs(t, name+", pushed", ended, 2, 2)
			if got := units[0].Data[f.l4()+13]; got != flags {
				t.Errorf("%s: merged flags %#x, want %#x", name, got, flags)
			}
			first := f.run(t, 3, 100)
			first[0] = f.frame(t, 0, 0, flags, fill(100))
			wantSegs(t, name+", pushed at once", first, 1, 2)
		}
	}
}

func TestMergeNumbersWrap(t *testing.T) {
	for name, f := range kinds {
		wantSegs(t, name, [][]byte{
			f.frame(t, 65534, 1<<32-150, 16, fill(100)), f.frame(t, 65535, 1<<32-50, 16, fill(100)),
			f.frame(t, 0, 50, 16, fill(100)), f.frame(t, 1, 150, 16, fill(100)),
		}, 4)
	}
}

func TestMergeStopsAtTheLimits(t *testing.T) {
	for name, f := range kinds {
		units := wantSegs(t, name+", number", f.run(t, groSegs+2, 100), groSegs, 2)
		decodeMerged(t, f, units[0])
		room := 65535 - (f.hdrLen() - 14)
		size := room / 40
		wantSegs(t, name+", length", f.run(t, 42, size), 40, 2)
	}
}

// decodeMerged checks a merged unit's headers as the container's kernel will read them.
func decodeMerged(t testing.TB, f flow, u groUnit) {
	t.Helper()
	whole, ok := csumComplete(u.Data, u.VNet.CsumStart, u.VNet.CsumOffset)
	if !ok {
		t.Fatalf("checksum lies outside: %+v", u.VNet)
	}
	decode(t, whole)
	if _, want := f.super(u.Data, int(u.VNet.GSOSize)); u.VNet != want {
		t.Errorf("virtio-net header %+v, want %+v", u.VNet, want)
	}
}

// IPv4 ids count up, or stay where DF makes them meaningless; the second frame decides.
func TestMergeIDs(t *testing.T) {
	for _, f := range []flow{{}, {udp: true}} {
		ids := func(fragments layers.IPv4Flag, ids ...uint16) (frames [][]byte) {
			f.fragments = fragments
			for i, id := range ids {
				frames = append(frames, f.frame(t, id, uint32(i*100), 16, fill(100)))
			}
			return frames
		}
		df := layers.IPv4DontFragment
		wantSegs(t, "counting", ids(0, 7, 8, 9), 3)
		wantSegs(t, "counting, DF", ids(df, 7, 8, 9), 3)
		wantSegs(t, "constant, DF", ids(df, 7, 7, 7), 3)
		wantSegs(t, "constant", ids(0, 7, 7, 7), 1, 1, 1)
		wantSegs(t, "constant, then counting", ids(df, 7, 7, 8), 2, 1)
		wantSegs(t, "counting, then constant", ids(df, 7, 8, 8), 2, 1)
		wantSegs(t, "gap", ids(df, 7, 9, 10), 1, 2)
		wantSegs(t, "backwards", ids(df, 7, 6, 5), 1, 1, 1)
	}
}

func TestMergeTrimsPadding(t *testing.T) {
	f := flow{}
	a, b := f.frame(t, 1, 0, 16, fill(4)), f.frame(t, 2, 4, 16, fill(4))
	whole := f.frame(t, 1, 0, 16, append(fill(4), fill(4)...))
	padding := []byte{1, 2}
	units := wantSegs(t, "padded", [][]byte{append(bytes.Clone(a), padding...), append(bytes.Clone(b), padding...)}, 2)
	got, _ := csumComplete(units[0].Data, 34, 16)
	if !bytes.Equal(got, whole) {
		t.Errorf("merged\n%x, want\n%x", got, whole)
	}
	alone := append(bytes.Clone(a), padding...)
	if units := wantSegs(t, "alone", [][]byte{alone}, 1); !bytes.Equal(units[0].Data, alone) {
		t.Error("a frame that was not merged lost its padding")
	}
}

func TestMergeKeepsPortsApart(t *testing.T) {
	for name, f := range kinds {
		run := f.run(t, 4, 100)
		units, _ := merge(true, []groFrame{{Port: 1, Data: run[0]}, {Port: 2, Data: run[1]}, {Port: 1, Data: run[1]}, {Port: 2, Data: run[2]}})
		if len(units) != 2 || units[0].Segs != 2 || units[1].Segs != 2 || units[0].Port != 1 || units[1].Port != 2 {
			t.Errorf("%s: %+v", name, units)
		}
	}
}

func TestMergeOfUDPIsOffUnlessTheKernelTakesIt(t *testing.T) {
	for _, f := range []flow{{udp: true}, {udp: true, v6: true}} {
		if units, _ := merge(false, toPort(f.run(t, 3, 100)...)); len(units) != 3 {
			t.Errorf("3 datagrams became %d units", len(units))
		}
	}
}

func TestMergeIsFullAndSaysSo(t *testing.T) {
	var frames []groFrame
	for i := range groUnits + 1 {
		frames = append(frames, groFrame{Port: 1, Data: flow{port: uint16(1000 + i)}.frame(t, 1, 2, 16, fill(10))})
	}
	if units, taken := merge(true, frames); taken != groUnits || len(units) != groUnits {
		t.Errorf("took %d frames into %d units, want %d", taken, len(units), groUnits)
	}
}

// More flows of one hash than the table has places for: a flow may lose its place, never a frame its order.
func TestMergeOfFlowsThatCollide(t *testing.T) {
	var ports []uint16
	for port := uint16(1000); len(ports) < 12; port++ {
		if flowHash(flow{port: port}.frame(t, 0, 0, 16, nil))%uint32(groSlots) == 7 {
			ports = append(ports, port)
		}
	}
	var frames [][]byte
	for i := range 12 {
		for _, port := range ports {
			frames = append(frames, flow{port: port}.frame(t, uint16(i), uint32(i*100), 16, fill(100)))
		}
	}
	units, taken := merge(true, toPort(frames...))
	checkOrder(t, frames[:taken], units)
	if taken != len(frames) || len(units) == len(frames) {
		t.Errorf("took %d of %d frames into %d units", taken, len(frames), len(units))
	}
}

func TestMergeOfManyFlows(t *testing.T) {
	var frames [][]byte
	for i := range 3 {
		for port := range 200 {
			frames = append(frames, flow{port: uint16(1000 + port)}.frame(t, uint16(i), uint32(i*100), 16, fill(100)))
		}
	}
	units, _ := merge(true, toPort(frames...))
	checkOrder(t, frames, units)
	if len(units) > 205 {
		t.Errorf("200 flows became %d units", len(units))
	}
}

// resum makes the checksums of a changed frame right again.
func resum(frame []byte) []byte {
	l4, proto, sum := 34, uint32(frame[23]), uint32(0)
	if frame[12] == 8 {
		l4 = 14 + int(frame[14]&15)*4
		copy(frame[24:], []byte{0, 0})
		binary.BigEndian.PutUint16(frame[24:], ^fold16(sum16(frame[14:l4])))
		sum = sum16(frame[26:34])
	} else {
		l4, proto = 54, uint32(frame[20])
		sum = sum16(frame[22:54])
	}
	at := l4 + map[uint32]int{6: 16, 17: 6}[proto]
	copy(frame[at:], []byte{0, 0})
	sum += proto + uint32(len(frame)-l4) + sum16(frame[l4:])
	binary.BigEndian.PutUint16(frame[at:], ^fold16(sum))
	return frame
}

// Frames that follow each other but for one field. never: they stay apart even when both have it.
func TestNothingElseIsMerged(t *testing.T) {
	flip := func(at int, bit byte) func([]byte) []byte {
		return func(b []byte) []byte { b[at] ^= bit; return resum(b) }
	}
	type change struct {
		name  string
		kinds []string
		never bool
		do    func([]byte) []byte
	}
	all, v4, v6 := []string{"TCP4", "TCP6", "UDP4", "UDP6"}, []string{"TCP4", "UDP4"}, []string{"TCP6", "UDP6"}
	changes := []change{
		{"destination MAC", all, false, func(b []byte) []byte { b[5] ^= 1; return b }},
		{"source MAC", all, false, func(b []byte) []byte { b[6] ^= 4; return b }},
		{"traffic class", v4, false, flip(15, 4)},
		{"ECN", v4, false, flip(15, 1)},
		{"DF", v4, false, flip(20, 0x40)},
		{"reserved bit", v4, true, flip(20, 0x80)},
		{"more fragments", v4, true, flip(20, 0x20)},
		{"fragment offset", v4, true, flip(21, 1)},
		{"id", v4, false, flip(18, 1)},
		{"TTL", v4, false, flip(22, 1)},
		{"source", v4, false, flip(29, 1)},
		{"destination", v4, false, flip(33, 1)},
		{"IPv4 header checksum", v4, true, func(b []byte) []byte { b[24] ^= 1; return b }},
		{"traffic class", v6, false, flip(14, 1)},
		{"ECN", v6, false, flip(15, 0x10)},
		{"flow label", v6, false, flip(17, 1)},
		{"flow label, upper", v6, false, flip(15, 1)},
		{"hop limit", v6, false, flip(21, 1)},
		{"source", v6, false, flip(37, 1)},
		{"source, upper", v6, false, flip(23, 1)},
		{"destination", v6, false, flip(53, 1)},
	}
	for _, l4 := range []struct {
		at       int
		tcp, udp string
	}{{34, "TCP4", "UDP4"}, {54, "TCP6", "UDP6"}} {
		tcp, udp, both := []string{l4.tcp}, []string{l4.udp}, []string{l4.tcp, l4.udp}
		changes = append(changes, []change{
			{"source port", both, false, flip(l4.at+1, 1)},
			{"destination port", both, false, flip(l4.at+3, 1)},
			{"sequence, one more", tcp, false, flip(l4.at+7, 1)},
			{"sequence, upper", tcp, false, flip(l4.at+4, 0x80)},
			{"acknowledgement", tcp, false, flip(l4.at+11, 1)},
			{"acknowledgement, upper", tcp, false, flip(l4.at+8, 1)},
			{"header length", tcp, false, flip(l4.at+12, 0x10)},
			{"AE", tcp, false, flip(l4.at+12, 1)},
			{"reserved bits", tcp, false, flip(l4.at+12, 8)},
			{"ACK", tcp, false, flip(l4.at+13, 16)},
			{"SYN", tcp, true, flip(l4.at+13, 2)},
			{"RST", tcp, true, flip(l4.at+13, 4)},
			{"URG", tcp, true, flip(l4.at+13, 32)},
			{"ECE", tcp, false, flip(l4.at+13, 64)},
			{"CWR", tcp, true, flip(l4.at+13, 128)},
			{"window", tcp, false, flip(l4.at+15, 1)},
			{"window, upper", tcp, false, flip(l4.at+14, 1)},
			{"urgent pointer", tcp, false, flip(l4.at+19, 1)},
			{"first option", tcp, false, flip(l4.at+20, 3)},
			{"timestamp", tcp, false, flip(l4.at+31, 1)},
			{"TCP checksum", tcp, true, func(b []byte) []byte { b[l4.at+16] ^= 1; return b }},
			{"UDP checksum", udp, true, func(b []byte) []byte { b[l4.at+6] ^= 1; return b }},
			{"no UDP checksum", udp, true, func(b []byte) []byte { copy(b[l4.at+6:], []byte{0, 0}); return b }},
			{"UDP length below IP's", udp, true, flip(l4.at+5, 4)},
		}...)
	}
	for _, c := range changes {
		for _, kind := range c.kinds {
			f := kinds[kind]
			for which, changed := range [][]int{{0}, {1}, {0, 1}} {
				pair := f.run(t, 2, 100)
				wantSegs(t, kind+" as it is", pair, 2)
				for _, i := range changed {
					pair[i] = c.do(pair[i])
				}
				if which == 2 && !c.never {
					continue
				}
				units := wantSegs(t, fmt.Sprintf("%s, %s changed in %v", kind, c.name, changed), pair, 1, 1)
				for i, u := range units {
					if u.VNet != (vnetHdr{}) || !bytes.Equal(u.Data, pair[i%2]) {
						t.Errorf("%s, %s: frame %d was changed or vouched for: %+v", kind, c.name, i, u.VNet)
					}
				}
			}
		}
	}
}

func TestHeadersWithOptionsAreNotMerged(t *testing.T) {
	f := flow{edit: func(ip *layers.IPv4, _ *layers.IPv6, _ *layers.TCP) {
		ip.Options = []layers.IPv4Option{{OptionType: 1}, {OptionType: 1}, {OptionType: 1}, {OptionType: 1}}
	}}
	wantSegs(t, "IPv4 options", f.run(t, 3, 100), 1, 1, 1)

	udp := append(bytes.Clone(udp8), fill(10)...)
	udp[5] = 18
	extended := ip6Frame(60, join(ext(17), udp)...)
	sum := sum16(extended[22:54]) + 17 + 18 + sum16(udp)
	binary.BigEndian.PutUint16(extended[54+8+6:], ^fold16(sum))
	wantSegs(t, "extension headers", [][]byte{extended, extended, extended}, 1, 1, 1)
}

// Whatever bit is flipped on the way, the frame goes out alone, as it came and without a voucher.
func TestADamagedFrameIsNeverVouchedFor(t *testing.T) {
	for name, f := range kinds {
		for which := range 3 {
			for bit := 14 * 8; bit < 8*(f.hdrLen()+24); bit++ {
				frames := f.run(t, 3, 24)
				frames[which][bit/8] ^= 1 << (bit % 8)
				if result, _ := parse(frames[which]); result != parseOK {
					continue
				}
				units, _ := merge(true, toPort(frames...))
				alone := slices.ContainsFunc(units, func(u groUnit) bool {
					return u.Segs == 1 && u.VNet == vnetHdr{} && bytes.Equal(u.Data, frames[which])
				})
				if !alone {
					t.Fatalf("%s: bit %d of byte %d of frame %d flipped, and it was merged", name, bit%8, bit/8, which)
				}
			}
		}
	}
}

// flowOf names a TCP or UDP flow; another frame is a flow of its own, but for a fragment (""), which may be of any.
func flowOf(frame []byte) string {
	_, h := parse(frame)
	from, to := h.L3+8, h.L3+40
	if h.Version == 4 {
		from, to = h.L3+12, h.L3+20
	}
	switch {
	case h.Fragment:
		return ""
	case !h.Transport:
		return fmt.Sprintf("%x", frame)
	}
	return fmt.Sprintf("%x %x %d %x", frame[:h.L3], frame[from:to], h.Proto, frame[h.L4:h.L4+4])
}

// essence is a frame without what merging may lose: padding, and an IPv4 id to which DF leaves no meaning (RFC 6864).
func essence(frame []byte) []byte {
	_, h := parse(frame)
	frame = bytes.Clone(frame[:h.End])
	if h.Version == 4 && frame[20]&0x40 != 0 {
		copy(frame[18:], []byte{0, 0})
		copy(frame[24:], []byte{0, 0})
	}
	return frame
}

// checkOrder cuts the units again and fails the test unless every flow's frames come out as they went in: all of them,
// the same in essence, in order among themselves and with the fragments.
func checkOrder(t testing.TB, in [][]byte, units []groUnit) {
	t.Helper()
	var out [][]byte
	for _, u := range units {
		out = append(out, unmerge(t, u)...)
	}
	if len(out) != len(in) {
		t.Fatalf("%d frames went in, %d came out", len(in), len(out))
	}
	of := func(frames [][]byte, flow string) [][]byte {
		var its [][]byte
		for _, f := range frames {
			if name := flowOf(f); name == flow || name == "" {
				its = append(its, essence(f))
			}
		}
		return its
	}
	for _, f := range in {
		name := flowOf(f)
		if !slices.EqualFunc(of(in, name), of(out, name), bytes.Equal) {
			t.Fatalf("frames of flow %q were lost, changed or reordered", name)
		}
	}
}

func TestMergeKeepsTheOrderOfAFlow(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		flows := []flow{
			{options: timestamps}, {port: 40001}, {v6: true}, {udp: true, port: 40001}, {udp: true, v6: true},
		}
		type state struct {
			id  uint16
			seq uint32
		}
		states := make([]state, len(flows))
		var frames [][]byte
		for range rapid.IntRange(2, 40).Draw(rt, "frames") {
			i := rapid.IntRange(0, len(flows)-1).Draw(rt, "flow")
			f, s := flows[i], &states[i]
			size := rapid.SampledFrom([]int{100, 100, 100, 100, 60, 0}).Draw(rt, "size")
			flags := rapid.SampledFrom([]uint8{16, 16, 16, 16, 24, 17, 144, 20}).Draw(rt, "flags")
			event := rapid.SampledFrom([]string{"next", "next", "next", "next", "again", "gap", "damage", "fragment"}).Draw(rt, "event")
			if event == "gap" {
				s.seq += 100
				s.id++
			}
			if event == "fragment" {
				f.fragments = layers.IPv4MoreFragments
			}
			frame := f.frame(t, s.id, s.seq, flags, fill(size))
			if event == "damage" {
				frame[len(frame)-1] ^= 1
			}
			if event != "again" {
				s.seq += uint32(size)
				s.id++
			}
			frames = append(frames, frame)
		}
		units, _ := merge(true, toPort(frames...))
		checkOrder(t, frames, units)
	})
}

func FuzzGRO(f *testing.F) {
	for _, k := range kinds {
		var seed []byte
		for _, frame := range k.run(f, 3, 20) {
			seed = append(append(seed, byte(len(frame))), frame...)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var frames [][]byte
		for len(data) > 1 {
			n := min(int(data[0]), len(data)-1)
			frame := data[1 : 1+n]
			data = data[1+n:]
			if result, _ := parse(frame); result == parseOK {
				frames = append(frames, frame)
			}
		}
		frames = frames[:min(len(frames), groUnits)]
		units, _ := merge(true, toPort(frames...))
		checkOrder(t, frames, units)
	})
}

func BenchmarkMerge(b *testing.B) {
	frames := kinds["TCP4"].run(b, 46, 1410)
	b.SetBytes(46 * 1410)
	if n := mergeRounds(frames, b.N); n != 1 {
		b.Fatalf("%d units", n)
	}
}
