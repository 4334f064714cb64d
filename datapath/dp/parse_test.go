//go:build dptest

package dp

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// ip6Frame is an IPv6 packet whose headers behind the fixed one are given as they are.
func ip6Frame(next byte, rest ...byte) []byte {
	frame := append(append(bytes.Clone(dstMAC), srcMAC...), 0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, next, 64)
	frame = append(append(append(frame, src6.AsSlice()...), dst6.AsSlice()...), rest...)
	binary.BigEndian.PutUint16(frame[18:], uint16(len(rest)))
	return frame
}

// ext is an extension header of 8 bytes, and udp8 a UDP header without payload.
func ext(next byte) []byte { return []byte{next, 0, 1, 4, 0, 0, 0, 0} }

var udp8 = []byte{0x9c, 0x40, 0xc3, 0x50, 0, 8, 0, 0}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestParseFindsTheHeaders(t *testing.T) {
	tcp4 := flow{options: timestamps}.frame(t, 1, 2, 16, fill(100))
	options4 := flow{edit: func(ip *layers.IPv4, _ *layers.IPv6, _ *layers.TCP) {
		ip.Options = []layers.IPv4Option{{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}}}
	}}.frame(t, 1, 2, 16, fill(3))
	fragment4 := func(flags layers.IPv4Flag, offset uint16) []byte {
		return flow{edit: func(ip *layers.IPv4, _ *layers.IPv6, _ *layers.TCP) {
			ip.Flags, ip.FragOffset = flags, offset
		}}.frame(t, 1, 2, 16, fill(100))
	}
	arp := serialize(t, &layers.Ethernet{SrcMAC: srcMAC, DstMAC: dstMAC, EthernetType: layers.EthernetTypeARP}, gopacket.Payload(fill(28)))
	whole := func(n int) frameHdrs {
		return frameHdrs{L3: 14, L4: 34, Payload: 34 + n, EtherType: 0x800, Version: 4, Proto: 6, Transport: true}
	}
	six := func(l4, payload int, proto uint8) frameHdrs {
		return frameHdrs{L3: 14, L4: l4, Payload: payload, EtherType: 0x86dd, Version: 6, Proto: proto, Transport: payload > l4}
	}
	with := func(h frameHdrs, edit func(*frameHdrs)) frameHdrs { edit(&h); return h }
	for name, c := range map[string]struct {
		frame []byte
		want  frameHdrs // End: the frame's length
	}{
		"TCP over IPv4":            {tcp4, whole(32)},
		"UDP over IPv4":            {flow{udp: true}.frame(t, 1, 0, 0, fill(9)), with(whole(8), func(h *frameHdrs) { h.Proto = 17 })},
		"IPv4 options":             {options4, with(whole(20), func(h *frameHdrs) { h.L4 = 38; h.Payload = 58 })},
		"first fragment":           {fragment4(layers.IPv4MoreFragments, 0), with(whole(0), func(h *frameHdrs) { h.Fragment = true; h.Transport = false })},
		"last fragment":            {fragment4(0, 100), with(whole(0), func(h *frameHdrs) { h.Fragment = true; h.Transport = false })},
		"TCP over IPv6":            {flow{v6: true}.frame(t, 0, 2, 16, fill(100)), six(54, 74, 6)},
		"UDP over IPv6":            {flow{v6: true, udp: true}.frame(t, 0, 0, 0, fill(100)), six(54, 62, 17)},
		"hop-by-hop, destination":  {ip6Frame(0, join(ext(60), ext(17), udp8)...), six(70, 78, 17)},
		"routing header":           {ip6Frame(43, join(ext(17), udp8)...), with(six(62, 70, 17), func(h *frameHdrs) { h.Routing = true })},
		"IPv6 fragment":            {ip6Frame(44, join([]byte{17, 0, 0, 1, 0, 0, 0, 0}, udp8)...), with(six(62, 62, 17), func(h *frameHdrs) { h.Fragment = true })},
		"middle of fragmented":     {ip6Frame(44, join([]byte{60, 0, 1, 1, 0, 0, 0, 0}, []byte{1})...), with(six(62, 62, 60), func(h *frameHdrs) { h.Fragment = true })},
		"ICMPv6":                   {ip6Frame(58, 135, 0, 0, 0), six(54, 54, 58)},
		"no next header":           {ip6Frame(59), six(54, 54, 59)},
		"authentication header":    {ip6Frame(51, fill(3)...), six(54, 54, 51)},
		"longest chain":            {ip6Frame(60, join(bytes.Repeat(ext(60), ip6ExtMax-1), ext(17), udp8)...), six(54+8*ip6ExtMax, 62+8*ip6ExtMax, 17)},
		"UDP with trailing option": {ip6Frame(17, append(bytes.Clone(udp8), 1, 2, 3)...), six(54, 62, 17)},
		"ARP":                      {arp, frameHdrs{L3: 14, L4: 14, Payload: 14, EtherType: 0x806}},
		"Ethernet header alone":    {arp[:14:14], frameHdrs{L3: 14, L4: 14, Payload: 14, EtherType: 0x806}},
	} {
		c.want.End = len(c.frame)
		result, got := parse(c.frame)
		if wantResult := map[bool]int{true: parseOK, false: parseNotIP}[c.want.Version != 0]; result != wantResult {
			t.Errorf("%s: result %d, want %d", name, result, wantResult)
		} else if got != c.want {
			t.Errorf("%s:\n%+v, want\n%+v", name, got, c.want)
		}
		padded := append(bytes.Clone(c.frame), make([]byte, 18)...)
		if _, got := parse(padded); c.want.Version != 0 && got != c.want {
			t.Errorf("%s with padding:\n%+v, want\n%+v", name, got, c.want)
		}
	}
}

func TestParseTruncatedAtEveryByte(t *testing.T) {
	frames := [][]byte{ip6Frame(0, join(ext(60), ext(43), ext(17), udp8)...), ip6Frame(44, join(ext(17), udp8)...)}
	for _, f := range kinds {
		frames = append(frames, f.frame(t, 1, 2, 16, fill(10)))
	}
	for _, frame := range frames {
		for n := range frame {
			want := parseMalformed
			if n < 14 {
				want = parseRunt
			}
			if got, _ := parse(frame[:n]); got != want {
				t.Errorf("%d of %d bytes: result %d, want %d\n%x", n, len(frame), got, want, frame)
			}
		}
	}
}

// cut shortens a frame to n bytes and its IP length with it, so that what is missing is missed further in.
func cut(frame []byte, n int) []byte {
	frame = bytes.Clone(frame[:n])
	if frame[12] == 8 {
		binary.BigEndian.PutUint16(frame[16:], uint16(n-14))
	} else {
		binary.BigEndian.PutUint16(frame[18:], uint16(n-54))
	}
	return frame
}

func TestParseTruncatedInsideTheIPPacket(t *testing.T) {
	chain := ip6Frame(0, join(ext(60), ext(43), ext(6), flow{v6: true}.frame(t, 1, 2, 16, nil)[54:])...)
	for name, c := range map[string]struct {
		frame       []byte
		ip, payload int
	}{
		"TCP over IPv4":  {flow{options: timestamps}.frame(t, 1, 2, 16, fill(4)), 34, 66},
		"TCP over IPv6":  {flow{v6: true, options: timestamps}.frame(t, 1, 2, 16, fill(4)), 54, 86},
		"extensions":     {chain, 54, len(chain)},
		"IPv6 fragments": {ip6Frame(60, join(ext(44), []byte{17, 0, 1, 1, 0, 0, 0, 0}, fill(4))...), 54, 70},
	} {
		for n := c.ip; n <= len(c.frame); n++ {
			want := parseMalformed
			if n >= c.payload {
				want = parseOK
			}
			if got, _ := parse(cut(c.frame, n)); got != want {
				t.Errorf("%s, %d bytes of %d: result %d, want %d", name, n, len(c.frame), got, want)
			}
		}
	}
}

func TestParseHeadersThatLie(t *testing.T) {
	tcp4, udp4 := flow{}.frame(t, 1, 2, 16, fill(10)), flow{udp: true}.frame(t, 1, 0, 0, fill(10))
	tcp6 := flow{v6: true}.frame(t, 0, 2, 16, fill(10))
	set := func(frame []byte, at int, b ...byte) []byte {
		frame = bytes.Clone(frame)
		copy(frame[at:], b)
		return frame
	}
	for name, c := range map[string]struct {
		frame []byte
		want  int
	}{
		"version 6 in IPv4":              {set(tcp4, 14, 0x65), parseMalformed},
		"version 4 in IPv6":              {set(tcp6, 14, 0x40), parseMalformed},
		"IPv4 header of 16 bytes":        {set(tcp4, 14, 0x44), parseMalformed},
		"IPv4 header beyond its packet":  {set(udp4, 14, 0x4f), parseMalformed},
		"IPv4 length below its header":   {set(tcp4, 16, 0, 19), parseMalformed},
		"IPv4 length beyond the frame":   {set(tcp4, 16, 0, byte(len(tcp4)-13)), parseMalformed},
		"IPv4 length that leaves no TCP": {set(tcp4, 16, 0, 39), parseMalformed},
		"IPv6 length beyond the frame":   {set(tcp6, 18, 0, byte(len(tcp6)-53)), parseMalformed},
		"TCP header of 16 bytes":         {set(tcp4, 46, 0x40), parseMalformed},
		"TCP header beyond the packet":   {set(tcp4, 46, 0xf0), parseMalformed},
		"UDP length below its header":    {set(udp4, 38, 0, 7), parseMalformed},
		"UDP length beyond the packet":   {set(udp4, 38, 0, 19), parseMalformed},
		"extension beyond the packet":    {ip6Frame(0, join([]byte{17, 1, 0, 0, 0, 0, 0, 0}, udp8[:7])...), parseMalformed},
		"fragment header cut short":      {ip6Frame(44, 17, 0, 0, 1, 0, 0, 0), parseMalformed},
		"one extension too many":         {ip6Frame(60, join(bytes.Repeat(ext(60), ip6ExtMax), ext(17), udp8)...), parseMalformed},
		"802.1Q":                         {set(tcp4, 12, 0x81, 0), parseVLAN},
		"802.1ad":                        {set(tcp4, 12, 0x88, 0xa8), parseVLAN},
		"802.1Q cut short":               {set(tcp4, 12, 0x81, 0)[:14], parseVLAN},
	} {
		if got, _ := parse(c.frame); got != c.want {
			t.Errorf("%s: result %d, want %d", name, got, c.want)
		}
	}
}

// Entropy of the source port: flows that differ in one number only must spread over all ports, and all bits of the hash.
func TestFlowHashSpreads(t *testing.T) {
	for name, f := range kinds {
		var buckets [64]int
		seen := map[uint32]bool{}
		for port := range 6400 {
			f.port = uint16(1024 + port)
			h := flowHash(f.frame(t, 1, 2, 16, nil))
			seen[h] = true
			buckets[h%64]++
			buckets[h>>26]++
		}
		if len(seen) < 6390 {
			t.Errorf("%s: 6400 flows have %d hashes", name, len(seen))
		}
		for i, n := range buckets {
			// 200 expected with a deviation of 14.
			if n < 120 || n > 280 {
				t.Errorf("%s: bucket %d has %d of 12800, want about 200", name, i, n)
			}
		}
	}
}

func TestFlowHashIsOfTheFlowAlone(t *testing.T) {
	for name, f := range kinds {
		base := flowHash(f.frame(t, 1, 2, 16, fill(100)))
		same := f
		same.tos, same.ttl = 3, 5
		if flowHash(same.frame(t, 9, 100, 24, fill(50))) != base {
			t.Errorf("%s: hash depends on more than the flow", name)
		}
		frame := f.frame(t, 1, 2, 16, fill(100))
		addresses := map[bool][2]int{false: {26, 34}, true: {22, 54}}[f.v6]
		for at := addresses[0]; at < addresses[1]+4; at++ {
			frame[at] ^= 1
			if flowHash(frame) == base {
				t.Errorf("%s: hash does not depend on byte %d", name, at)
			}
			frame[at] ^= 1
		}
	}
	arp := func(last byte) []byte { return append(append(bytes.Clone(dstMAC), 2, 0, 0, 0, 0, last), 8, 6) }
	if flowHash(arp(1)) == flowHash(arp(2)) {
		t.Error("hash of a frame that is not IP does not depend on its source MAC")
	}
}

// The fragments of a datagram take one path: only the first has ports.
func TestFlowHashOfFragments(t *testing.T) {
	fragment := func(flags layers.IPv4Flag, offset, port uint16) uint32 {
		return flowHash(flow{port: port, edit: func(ip *layers.IPv4, _ *layers.IPv6, _ *layers.TCP) {
			ip.Flags, ip.FragOffset = flags, offset
		}}.frame(t, 1, 2, 16, fill(100)))
	}
	if fragment(layers.IPv4MoreFragments, 0, 1) != fragment(0, 185, 2) {
		t.Error("first and last fragment of a datagram have different hashes")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(ip6Frame(0, join(ext(60), ext(43), ext(17), udp8)...))
	for _, k := range kinds {
		f.Add(k.frame(f, 1, 2, 16, fill(10)))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		result, h := parse(frame)
		if result != parseOK && result != parseNotIP {
			return
		}
		if h.L3 != 14 || h.L4 < h.L3 || h.Payload < h.L4 || h.End < h.Payload || h.End > len(frame) {
			t.Fatalf("%d bytes: %+v", len(frame), h)
		}
		flowHash(frame)
	})
}
