//go:build dptest

package dp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/ip4defrag"
	"github.com/gopacket/gopacket/layers"
)

// narrow has the path to the VTEP carry so many bytes of the containers' IP packets.
func (b testBench) narrow(t testing.TB, inner int) {
	t.Helper()
	if err := SetMTU(b.vtep, inner+50); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { SetMTU(b.vtep, math.MaxUint32) })
}

// send takes a frame on its way out, alone or as a super-frame of segments with so many bytes of payload, and returns what its
// container was told, and how many frames were dropped.
func (b testBench) send(f flow, t testing.TB, payload, segment int) (answers [][]byte, dropped uint64) {
	t.Helper()
	frame := f.frame(t, 7, 1, 16, fill(payload))
	vnet := vnetHdr{}
	if segment > 0 {
		frame, vnet = f.super(frame, segment)
	}
	before := harnessDrops()
	encapExact(b.port, append(vnet.bytes(), frame...))
	return b.delivered(), harnessDrops() - before
}

// datagram is the next frame at the VTEP.
func (b testBench) datagram(t testing.TB) []byte {
	t.Helper()
	if err := b.peer.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 65536)
	n, _, err := b.peer.ReadFrom(buffer)
	if err != nil {
		t.Fatal(err)
	}
	return buffer[8:n]
}

// Who forbids fragments is told how long a packet may be, by the destination, with the packet that was too long; one of that
// length goes.
func TestSenderIsToldOfThePath(t *testing.T) {
	b := bench()
	const df = layers.IPv4DontFragment
	for name, c := range map[string]struct {
		flow
		payload, segment int
		quoted           int // bytes of IP packet, as its header says
	}{
		"UDP over IPv4":          {flow{udp: true, fragments: df}, 1373, 0, 1401},
		"TCP over IPv4":          {flow{fragments: df, options: timestamps}, 1400, 0, 1452},
		"TCP super-frame":        {flow{fragments: df}, 20000, 1361, 1401},
		"UDP over IPv6":          {flow{v6: true, udp: true}, 1353, 0, 1401},
		"TCP over IPv6":          {flow{v6: true}, 1390, 0, 1450},
		"IPv6 TCP super-frame":   {flow{v6: true}, 20000, 1341, 1401},
		"as long as they may be": {flow{v6: true}, 65000, 1400, 1460},
	} {
		t.Run(name, func(t *testing.T) {
			b.narrow(t, 1400)
			answers, dropped := b.send(c.flow, t, c.payload, c.segment)
			if len(answers) != 1 || dropped != 1 {
				t.Fatalf("%d answers, %d frames dropped", len(answers), dropped)
			}
			packet := gopacket.NewPacket(answers[0], layers.LayerTypeEthernet, gopacket.Default)
			eth := packet.LinkLayer().(*layers.Ethernet)
			if !bytes.Equal(eth.SrcMAC, dstMAC) || !bytes.Equal(eth.DstMAC, srcMAC) {
				t.Errorf("from %s to %s", eth.SrcMAC, eth.DstMAC)
			}
			sums(t, answers[0])
			var mtu, length int
			var quote []byte
			if c.v6 {
				ip, icmp := packet.NetworkLayer().(*layers.IPv6), packet.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
				if ip.SrcIP.String() != dst6.String() || ip.DstIP.String() != src6.String() || icmp.TypeCode != layers.CreateICMPv6TypeCode(layers.ICMPv6TypePacketTooBig, 0) || len(ip.Contents)+len(ip.Payload) > 1280 {
					t.Errorf("%v %v, %d bytes", ip, icmp, len(ip.Payload))
				}
				mtu, quote = int(binary.BigEndian.Uint32(icmp.Payload)), icmp.Payload[4:]
				length = 40 + int(binary.BigEndian.Uint16(quote[4:]))
			} else {
				ip, icmp := packet.NetworkLayer().(*layers.IPv4), packet.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
				if ip.SrcIP.String() != dst4.String() || ip.DstIP.String() != src4.String() || icmp.TypeCode != layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4CodeFragmentationNeeded) || ip.Length > 576 {
					t.Errorf("%v %v", ip, icmp)
				}
				mtu, quote = int(icmp.Seq), icmp.Payload
				length = int(binary.BigEndian.Uint16(quote[2:]))
			}
			if mtu != 1400 || length != c.quoted {
				t.Errorf("told of %d bytes for a packet of %d, want 1400 and %d", mtu, length, c.quoted)
			}
			whole := c.flow.frame(t, 7, 1, 16, fill(c.quoted-(c.flow.hdrLen()-14)))[14:]
			// Of a super-frame the checksum is not yet written.
			if c.segment == 0 && !bytes.HasPrefix(whole, quote) || !bytes.Equal(whole[:20], quote[:20]) {
				t.Errorf("quoted is\n%x, sent was\n%x", quote, whole[:len(quote)])
			}
			b.drain(t)
			fits := c.flow.frame(t, 7, 1, 16, fill(1400-(c.flow.hdrLen()-14)))
			encapExact(b.port, append(vnetHdr{}.bytes(), fits...))
			if n := b.arrived(t); n != 8+14+1400 {
				t.Errorf("%d bytes arrived", n)
			}
		})
	}
}

// What may be fragmented arrives in pieces that the path carries, and is the same when put together.
func TestFragmentsBeforeEncapsulation(t *testing.T) {
	b := bench()
	for name, c := range map[string]struct {
		flow
		payload, segment, inner int
	}{
		"UDP":                    {flow{udp: true}, 1400, 0, 1400},
		"UDP in many":            {flow{udp: true}, 60000, 0, 576},
		"UDP super-frame":        {flow{udp: true}, 6000, 1400, 1000},
		"TCP":                    {flow{}, 1400, 0, 1000},
		"TCP super-frame":        {flow{}, 30000, 1400, 1400},
		"no multiple of 8":       {flow{udp: true}, 3001, 0, 1003},
		"the narrowest of paths": {flow{udp: true}, 3001, 0, 68},
		"to a group":             {flow{udp: true, edit: func(ip *layers.IPv4, _ *layers.IPv6, _ *layers.TCP) { ip.DstIP = []byte{224, 0, 0, 5} }}, 1400, 0, 1000},
		"with options": {flow{udp: true, edit: func(ip *layers.IPv4, _ *layers.IPv6, _ *layers.TCP) {
			ip.Options = []layers.IPv4Option{{OptionType: 7, OptionLength: 7, OptionData: make([]byte, 5)}, {OptionType: 0x94, OptionLength: 4, OptionData: []byte{0, 0}}}
		}}, 1400, 0, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			b.drain(t)
			b.narrow(t, c.inner)
			if answers, dropped := b.send(c.flow, t, c.payload, c.segment); len(answers) > 0 || dropped > 0 {
				t.Fatalf("%d answers, %d frames dropped", len(answers), dropped)
			}
			segment := c.segment
			if segment == 0 {
				segment = c.payload
			}
			for from, id := 0, 7; from < c.payload; from, id = from+segment, id+1 {
				want := fill(c.payload)[from:min(from+segment, c.payload)]
				if got := b.assembled(t, c.inner, uint16(id)); !bytes.HasSuffix(got, want) || len(got) > len(want)+40 {
					t.Fatalf("put together %d bytes of payload, want %d, at %d", len(got), len(want), from)
				}
			}
		})
	}
}

// assembled puts an IP packet together and returns what is behind its IP header; every fragment is right by itself.
func (b testBench) assembled(t *testing.T, inner int, id uint16) []byte {
	t.Helper()
	defragmenter := ip4defrag.NewIPv4Defragmenter()
	for {
		frame := b.datagram(t)
		ip := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default).NetworkLayer().(*layers.IPv4)
		if int(ip.Length) > inner || len(frame) != 14+int(ip.Length) || fold16(sum16(frame[14:14+4*int(ip.IHL)])) != 0xffff || ip.Id != id {
			t.Fatalf("fragment of %d bytes in a frame of %d: %v", ip.Length, len(frame), ip)
		}
		if ip.FragOffset > 0 && bytes.Contains(ip.Contents[20:], []byte{7, 7}) {
			t.Errorf("an option that is not to be copied is in %x", ip.Contents)
		}
		if len(ip.Contents) > 20 && !bytes.Contains(ip.Contents, []byte{0x94, 4, 0, 0}) {
			t.Errorf("an option that is to be copied is not in %x", ip.Contents)
		}
		if ip.FragOffset == 0 && ip.Flags&layers.IPv4MoreFragments == 0 {
			return ip.Payload
		}
		if ip, err := defragmenter.DefragIPv4(ip); err != nil {
			t.Fatal(err)
		} else if ip != nil {
			return ip.Payload
		}
	}
}

// A fragment is cut as a packet is: it keeps its place, and says that more follow if it said so.
func TestFragmentsOfFragments(t *testing.T) {
	b := bench()
	b.drain(t)
	b.narrow(t, 1000)
	for _, c := range []struct{ flags, last layers.IPv4Flag }{{0, 0}, {layers.IPv4MoreFragments, layers.IPv4MoreFragments}} {
		f := flow{udp: true, edit: func(ip *layers.IPv4, _ *layers.IPv6, _ *layers.TCP) { ip.FragOffset, ip.Flags = 100, c.flags }}
		b.send(f, t, 1400, 0)
		for i, want := range []struct {
			offset uint16
			flags  layers.IPv4Flag
		}{{100, layers.IPv4MoreFragments}, {100 + 976/8, c.last}} {
			ip := gopacket.NewPacket(b.datagram(t), layers.LayerTypeEthernet, gopacket.Default).NetworkLayer().(*layers.IPv4)
			if ip.FragOffset != want.offset || ip.Flags != want.flags {
				t.Errorf("piece %d: offset %d, flags %v, want %v", i, ip.FragOffset, ip.Flags, want)
			}
		}
	}
}

// Nobody is told of what ICMP must not speak of; it is counted.
func TestWhoIsNotTold(t *testing.T) {
	b := bench()
	icmp := func(kind byte) []byte {
		frame := flow{udp: true, fragments: layers.IPv4DontFragment, edit: func(ip *layers.IPv4, _ *layers.IPv6, _ *layers.TCP) { ip.Protocol = layers.IPProtocolICMPv4 }}.frame(t, 1, 1, 0, fill(1200))
		frame[23], frame[34] = 1, kind
		return frame
	}
	icmp6 := func(kind byte) []byte {
		frame := flow{v6: true, udp: true}.frame(t, 1, 1, 0, fill(1300))
		frame[20], frame[54] = 58, kind
		return frame
	}
	unspecified := flow{udp: true, fragments: layers.IPv4DontFragment, edit: func(ip *layers.IPv4, _ *layers.IPv6, _ *layers.TCP) { ip.SrcIP = make([]byte, 4) }}.frame(t, 1, 1, 0, fill(1200))
	later := flow{udp: true, edit: func(ip *layers.IPv4, _ *layers.IPv6, _ *layers.TCP) {
		ip.Flags, ip.FragOffset = layers.IPv4DontFragment, 100
	}}.frame(t, 1, 1, 0, fill(1200))
	group := bytes.Clone(icmp(8))
	group[0] |= 1
	other := append(bytes.Clone(icmp(8)[:12]), append([]byte{0x88, 0xb5}, fill(1200)...)...)
	for name, c := range map[string]struct {
		frame []byte
		inner int
		told  int
	}{
		"an echo":                          {icmp(8), 1000, 1},
		"an error":                         {icmp(3), 1000, 0},
		"an echo over IPv6":                {icmp6(128), 1280, 1},
		"an error over IPv6":               {icmp6(1), 1280, 0},
		"IPv6 on a path too narrow for it": {icmp6(128), 1279, 0},
		"no sender":                        {unspecified, 1000, 0},
		"a later fragment":                 {later, 1000, 0},
		"to a group":                       {group, 1000, 0},
		"neither IPv4 nor IPv6":            {other, 1000, 0},
	} {
		t.Run(name, func(t *testing.T) {
			b.narrow(t, c.inner)
			before := harnessDrops()
			encapExact(b.port, append(vnetHdr{}.bytes(), c.frame...))
			if told := len(b.delivered()); told != c.told || harnessDrops() != before+1 {
				t.Errorf("told %d times, %d frames dropped", told, harnessDrops()-before)
			}
		})
	}
}

// A container that does not listen is not told of every packet.
func TestAnswersAreLimited(t *testing.T) {
	b := bench()
	b.narrow(t, 1000)
	told, sent := 0, 0
	for began := time.Now(); sent < 2000; sent++ {
		answers, dropped := b.send(flow{udp: true, fragments: layers.IPv4DontFragment}, t, 1200, 0)
		if dropped != 1 {
			t.Fatalf("%d dropped of one", dropped)
		}
		told += len(answers)
		if most := 66 + int(time.Since(began)/time.Millisecond); told > most {
			t.Fatalf("told of %d, want at most %d", told, most)
		}
	}
	if told < 1 {
		t.Error("told of nothing")
	}
}

// Every length of frame on paths of every width neither reads nor writes out of bounds, and is accounted for.
func FuzzTooBig(f *testing.F) {
	for _, frame := range examples(f) {
		f.Add(append(make([]byte, vnetLen), frame...), uint16(60))
		f.Add(append([]byte{1, 1, 66, 0, 20, 0, 34, 0, 16, 0}, frame...), uint16(70))
		f.Add(append([]byte{1, 5, 42, 0, 20, 0, 34, 0, 6, 0}, frame...), uint16(90))
	}
	b := bench()
	f.Fuzz(func(t *testing.T, frame []byte, mtu uint16) {
		if len(frame) < vnetLen || len(frame) > 65471 || mtu < 36 {
			return
		}
		if err := SetMTU(b.vtep, int(mtu)); err != nil {
			t.Fatal(err)
		}
		defer SetMTU(b.vtep, math.MaxUint32)
		before := harnessDrops() + harnessSent()
		encapExact(b.port, frame)
		if len(b.delivered()) == 0 && harnessDrops()+harnessSent() == before {
			t.Fatal("neither counted, answered nor sent")
		}
	})
}

// sums wants the checksums of an answer right.
func sums(t *testing.T, answer []byte) {
	t.Helper()
	ip := answer[14:]
	if ip[0]>>4 == 4 {
		if fold16(sum16(ip[:20])) != 0xffff || fold16(sum16(ip[20:])) != 0xffff {
			t.Errorf("checksums of %x", answer)
		}
		return
	}
	pseudo := append(bytes.Clone(ip[8:40]), 0, 0, ip[4], ip[5], 0, 0, 0, 58)
	if fold16(sum16(append(pseudo, ip[40:]...))) != 0xffff {
		t.Errorf("checksum of %s", fmt.Sprintf("%x", answer))
	}
}

// bytes is the header as a tap gives it.
func (v vnetHdr) bytes() []byte {
	b := []byte{v.Flags, v.Type}
	for _, field := range []uint16{v.HdrLen, v.GSOSize, v.CsumStart, v.CsumOffset} {
		b = binary.NativeEndian.AppendUint16(b, field)
	}
	return b
}
