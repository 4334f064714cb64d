//go:build dptest

package dp

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// send is a card in software: it does what it is asked to, as rte_mbuf_core.h words it, and nothing else.
func (g given) send(t rapid.TB) [][]byte {
	t.Helper()
	if !g.vxlan {
		return [][]byte{g.bytes}
	}
	switch {
	case g.outer4 == g.outer6 || g.inner4 == g.inner6 || g.tcpChecksum == g.udpChecksum:
		t.Fatalf("contradictory wishes: %+v", g)
	case g.outer4 != g.outerIPChecksum || g.outer6 != g.outerUDP || g.cut && (g.ipChecksum != g.inner4 || !g.tcpChecksum):
		t.Fatalf("wishes leave a checksum out: %+v", g)
	}
	var packets [][]byte
	for i, packet := range g.segments() {
		g.fill(packet, i)
		packets = append(packets, packet)
	}
	return packets
}

// segments are packets that are still alike but for their payload.
func (g given) segments() (packets [][]byte) {
	if !g.cut {
		return [][]byte{g.bytes}
	}
	headers := g.outerL2 + g.outerL3 + g.l2 + g.l3 + g.l4
	for payload := range slices.Chunk(g.bytes[headers:], g.size) {
		packets = append(packets, slices.Concat(g.bytes[:headers], payload))
	}
	last := len(packets) - 1
	for i, packet := range packets {
		tcp := packet[headers-g.l4:]
		binary.BigEndian.PutUint32(tcp[4:], binary.BigEndian.Uint32(tcp[4:])+uint32(i*g.size))
		if i < last {
			tcp[13] &^= 1 | 8 // FIN and PSH
		}
	}
	return packets
}

// fill completes lengths, where the packet is one of several, and checksums. What is in a checksum's place is a part of its sum.
func (g given) fill(packet []byte, i int) {
	outerIP := packet[g.outerL2:]
	outerUDP := outerIP[g.outerL3:]
	innerIP := outerUDP[g.l2:]
	innerL4 := innerIP[g.l3:]
	var outerLen, innerLen uint32
	if g.cut {
		outerLen, innerLen = uint32(len(outerUDP)), uint32(len(innerL4))
		setLength(outerIP, g.outer4)
		setLength(innerIP, g.inner4)
		binary.BigEndian.PutUint16(outerUDP[4:], uint16(len(outerUDP)))
		if g.inner4 {
			binary.BigEndian.PutUint16(innerIP[4:], binary.BigEndian.Uint16(innerIP[4:])+uint16(i))
		}
	}
	if g.ipChecksum {
		binary.BigEndian.PutUint16(innerIP[10:], ^fold16(sum16(innerIP[:g.l3])))
	}
	at := 16
	if g.udpChecksum {
		at = 6
	}
	sum := ^fold16(sum16(innerL4) + innerLen)
	if sum == 0 && g.udpChecksum {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(innerL4[at:], sum)
	if g.outerIPChecksum {
		binary.BigEndian.PutUint16(outerIP[10:], ^fold16(sum16(outerIP[:g.outerL3])))
	}
	if g.outerUDP {
		sum := ^fold16(sum16(outerUDP) + outerLen)
		if sum == 0 {
			sum = 0xffff
		}
		binary.BigEndian.PutUint16(outerUDP[6:], sum)
	}
}

func setLength(ip []byte, is4 bool) {
	if is4 {
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	} else {
		binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-40))
	}
}

// onUnderlay has the container's peer behind a VTEP of the family until the test ends.
func onUnderlay(t *testing.T, d devices, v6 bool) {
	if !v6 {
		return
	}
	setOwnVTEP(netip.MustParseAddr("2001:db8::1"))
	vtep, err := AddVTEP(netip.AddrPortFrom(netip.MustParseAddr("2001:db8::2"), vxlanPort))
	check(t, err)
	check(t, SetNextHop(vtep, d.underlay, nextHopMAC))
	check(t, SetMACVTEP(ethVNI, [6]byte(dstMAC), vtep))
	t.Cleanup(func() {
		check(t, SetMACVTEP(ethVNI, [6]byte(dstMAC), d.vtep))
		check(t, DelVTEP(vtep))
		setOwnVTEP(ethOwn)
	})
}

// bySoftware are the packets that a frame with its virtio-net header becomes without a card's help.
func (d devices) bySoftware(frame []byte) (packets [][]byte) {
	setCard(d.underlay, cardHas{})
	for _, g := range toCard(d.port, d.underlay, frame) {
		packets = append(packets, g.bytes)
	}
	return packets
}

// What is no card's business goes out, or is dropped, as by software.
func TestCardIsNotAsked(t *testing.T) {
	d := onDevices()
	t.Cleanup(func() { setCard(d.underlay, cardHas{}) })
	tcp, udp := flow{}, flow{udp: true}
	for what, c := range map[string]struct {
		f      flow
		length int
		edit   func(v *vnetHdr, frame *[]byte)
	}{
		"bytes behind the packet":    {udp, 100, func(v *vnetHdr, frame *[]byte) { *frame = append(*frame, 1, 2, 3) }},
		"a checksum elsewhere":       {udp, 100, func(v *vnetHdr, _ *[]byte) { v.CsumOffset = 10 }},
		"a sum from elsewhere on":    {tcp, 100, func(v *vnetHdr, _ *[]byte) { v.CsumStart += 2; v.CsumOffset -= 2 }},
		"no checksum to compute":     {tcp, 100, func(v *vnetHdr, _ *[]byte) { v.Flags = 0 }},
		"longer than the device's":   {tcp, 1440, func(*vnetHdr, *[]byte) {}},
		"longer than a buffer":       {tcp, 4000, func(*vnetHdr, *[]byte) {}},
		"segments too long":          {tcp, 4000, func(v *vnetHdr, _ *[]byte) { v.Type, v.GSOSize = gsoTCP4, 1440 }},
		"segments too short":         {tcp, 4000, func(v *vnetHdr, _ *[]byte) { v.Type, v.GSOSize = gsoTCP4, 255 }},
		"super-frame of one segment": {tcp, 100, func(v *vnetHdr, _ *[]byte) { v.Type, v.GSOSize = gsoTCP4, 1000 }},
		"super-frame without a size": {tcp, 4000, func(v *vnetHdr, _ *[]byte) { v.Type, v.GSOSize = gsoTCP4, 0 }},
		"super-frame of a lie":       {tcp, 4000, func(v *vnetHdr, _ *[]byte) { v.Type, v.GSOSize = gsoTCP6, 1000 }},
		"super-frame of UDP":         {udp, 4000, func(v *vnetHdr, _ *[]byte) { v.Type, v.GSOSize = gsoUDP, 1000 }},
		"too long with headers":      {tcp, 65450, func(v *vnetHdr, _ *[]byte) { v.Type, v.GSOSize = gsoTCP4, 1300 }},
	} {
		frame, vnet := c.f.super(c.f.frame(t, 1, 1, 16, fill(c.length)), 0)
		vnet.Type = gsoNone
		c.edit(&vnet, &frame)
		frame = slices.Concat(vnet.bytes(), frame)
		want := d.bySoftware(frame)
		setCard(d.underlay, cardHas{txChecksums: true, outerUDP: true, tso: true, maxSegs: 65535})
		got := toCard(d.port, d.underlay, frame)
		if !slices.EqualFunc(got, want, func(g given, w []byte) bool { return !g.vxlan && bytes.Equal(g.bytes, w) }) {
			t.Errorf("%s: %d packets, want %d as by software", what, len(got), len(want))
		}
	}
}

// handed is a frame for a card.
type handed struct {
	flow   flow
	size   int // of a segment
	length int // of the payload
	flags  uint8
	whole  bool // a super-frame
	card   cardHas
}

// drawHanded draws what any card may get; or, sure to be cut up, what one that has all cuts up itself.
func drawHanded(rt *rapid.T, sure bool) handed {
	h := handed{
		flow: drawFlow().Draw(rt, "flow"), size: rapid.IntRange(256, 1300).Draw(rt, "size"), whole: true,
		flags: 16 | rapid.SampledFrom([]uint8{0, 1, 8, 9, 64}).Draw(rt, "flags"), card: cardHas{txChecksums: true, outerUDP: true, tso: true, maxSegs: 65535},
	}
	if sure {
		h.flow.udp, h.length = false, rapid.IntRange(h.size+1, min(60*h.size, 65000)).Draw(rt, "length")
		return h
	}
	if rapid.Bool().Draw(rt, "short") {
		h.size = rapid.IntRange(8, 255).Draw(rt, "short size")
	}
	if rapid.IntRange(0, 5).Draw(rt, "CWR") == 5 {
		h.flags |= 128
	}
	h.length = rapid.IntRange(1, min(60*h.size, 65000)).Draw(rt, "length")
	if h.whole = rapid.Bool().Draw(rt, "whole"); !h.whole {
		h.length = min(h.length, h.size)
	}
	h.card.outerUDP, h.card.tso = rapid.IntRange(0, 4).Draw(rt, "outer UDP") > 0, rapid.IntRange(0, 4).Draw(rt, "TSO") > 0
	h.card.maxSegs = rapid.SampledFrom([]int{1, 8, 255, 65535}).Draw(rt, "most pieces")
	return h
}

// Whatever a card does itself, the same packets leave.
func TestCardSendsWhatSoftwareDoes(t *testing.T) {
	d := onDevices()
	t.Cleanup(func() { setCard(d.underlay, cardHas{}) })
	for name, v6 := range map[string]bool{"IPv4": false, "IPv6": true} {
		t.Run(name, func(t *testing.T) {
			onUnderlay(t, d, v6)
			for _, sure := range []bool{true, false} {
				rapid.Check(t, func(rt *rapid.T) { checkHanded(t, rt, d, drawHanded(rt, sure), sure) })
			}
		})
	}
}

func checkHanded(t *testing.T, rt *rapid.T, d devices, h handed, sure bool) {
	frame, vnet := h.flow.super(h.flow.frame(t, rapid.Uint16().Draw(rt, "id"), rapid.Uint32().Draw(rt, "seq"), h.flags, fill(h.length)), h.size)
	if !h.whole {
		vnet.Type, vnet.GSOSize = gsoNone, 0
	}
	frame = slices.Concat(vnet.bytes(), frame)
	want := d.bySoftware(frame)
	var got [][]byte
	setCard(d.underlay, h.card)
	for _, g := range toCard(d.port, d.underlay, frame) {
		if g.pieces > h.card.maxSegs || g.cut && !h.card.tso || g.outerUDP && !h.card.outerUDP || sure && !(g.vxlan && g.cut) {
			rt.Fatalf("a card that has %+v gets %+v", h.card, g)
		}
		got = append(got, g.send(rt)...)
	}
	if len(want) == 0 || !slices.EqualFunc(got, want, bytes.Equal) {
		rt.Fatalf("%d packets, want %d\n got %x\nwant %x", len(got), len(want), got, want)
	}
}

// A driver is asked for nothing that it does not have, and what is used takes all of its parts.
func TestCardIsAskedForWhatItHas(t *testing.T) {
	if tooMuch, tx, rx, tso := askCard(0, 0); tooMuch || !tx || !rx || !tso {
		t.Errorf("of a card that has all: checksums sent %v, received %v, TSO %v", tx, rx, tso)
	}
	if tooMuch, tx, rx, tso := askCard(^uint64(0), ^uint64(0)); tooMuch || tx || rx || tso {
		t.Errorf("of a card that has nothing: asked for it %v, checksums sent %v, received %v, TSO %v", tooMuch, tx, rx, tso)
	}
	for bit := range 64 {
		if tooMuch, tx, _, tso := askCard(1<<bit, 0); tooMuch || tso && !tx {
			t.Errorf("of a card without transmit offload %d it is wanted", bit)
		}
		if tooMuch, _, _, _ := askCard(0, 1<<bit); tooMuch {
			t.Errorf("of a card without receive offload %d it is wanted", bit)
		}
	}
}

// A card's word that a checksum is right spares the sum; that it is wrong, or no word, does not.
func TestCardChecksums(t *testing.T) {
	d := onDevices()
	t.Cleanup(func() { setCard(d.underlay, cardHas{}) })
	for _, v6 := range []bool{false, true} {
		onUnderlay(t, d, v6)
		o := d.inwards()
		if v6 {
			o.src, o.dst = netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("2001:db8::1")
		}
		o.checksum = true
		right := o.packet(t, back(flow{}.frame(t, 1, 1, 16, fill(101))))
		wrong := bytes.Clone(right)
		wrong[len(wrong)-1]++
		for _, has := range []bool{false, true} {
			setCard(d.underlay, cardHas{rxChecksums: has})
			for _, tunnel := range []bool{false, true} {
				for _, outer := range []cardWord{wordUnknown, wordGood, wordBad} {
					for _, inner := range []cardWord{wordUnknown, wordGood, wordBad} {
						checked, drop := fromCard(d.underlay, right, tunnel, outer, inner)
						if want := has && tunnel && inner == wordGood; drop != "" || checked != want {
							t.Errorf("IPv6 %v, card's word counts %v, tunnel %v, outer %v, inner %v: checked %v, want %v; drop %q", v6, has, tunnel, outer, inner, checked, want, drop)
						}
						want := "underlay_checksum"
						if has && outer == wordGood {
							want = ""
						}
						if _, drop := fromCard(d.underlay, wrong, tunnel, outer, inner); drop != want {
							t.Errorf("IPv6 %v, card's word counts %v, outer %v: wrong checksum, drop %q, want %q", v6, has, outer, drop, want)
						}
					}
				}
			}
		}
	}
}

// What a card has checked is merged without a look at its checksum, what it has not checked only with a right one.
func TestCardChecksumsOfMerged(t *testing.T) {
	for name, f := range kinds {
		frames := toPort(f.run(t, 3, 100)...)
		frames[1].Data[len(frames[1].Data)-1]++
		for _, checked := range []bool{false, true} {
			want := 1
			if !checked {
				want = 3
			}
			for i := range frames {
				frames[i].Checked = checked
			}
			if units, _ := merge(true, frames); len(units) != want {
				t.Errorf("%s, a wrong checksum amid three frames, all checked %v: %d units, want %d", name, checked, len(units), want)
			}
		}
	}
}

// What a driver refuses is counted, and the packets around it leave.
func TestCardRefuses(t *testing.T) {
	d := onDevices()
	setCard(d.underlay, cardHas{txChecksums: true})
	t.Cleanup(func() { setCard(d.underlay, cardHas{}) })
	for packets := 1; packets <= mostGiven; packets++ {
		before, counted := harnessDrop("offload"), harnessSent()
		sent, refused := cardRefuses(d.underlay, packets), uint64(packets/2)
		if sent != packets-packets/2 || harnessDrop("offload") != before+refused || harnessSent() != counted+uint64(sent) {
			t.Fatalf("of %d packets %d left, %d were counted as sent and %d as dropped", packets, sent, harnessSent()-counted, harnessDrop("offload")-before)
		}
	}
}
