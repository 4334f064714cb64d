//go:build dptest

package dp

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"pgregory.net/rapid"
)

// linux/virtio_net.h
const (
	vnetNeedsCsum = 1
	gsoNone       = 0
	gsoTCP4       = 1
	gsoUFO        = 3
	gsoTCP6       = 4
	gsoUDP        = 5
	gsoECN        = 0x80
)

// flow describes frames of one TCP or UDP flow; the zero values of its switches are IPv4 and TCP.
type flow struct {
	v6, udp   bool
	port      uint16 // source
	tos, ttl  uint8
	label     uint32
	fragments layers.IPv4Flag
	options   []layers.TCPOption
	edit      func(*layers.IPv4, *layers.IPv6, *layers.TCP)
}

var timestamps = []layers.TCPOption{
	{OptionType: layers.TCPOptionKindNop},
	{OptionType: layers.TCPOptionKindNop},
	{OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: []byte{0, 1, 2, 3, 4, 5, 6, 7}},
}

// acknowledged is a selective acknowledgement of one block, unpadded.
var acknowledged = []layers.TCPOption{{OptionType: layers.TCPOptionKindSACK, OptionLength: 10, OptionData: []byte{1, 2, 3, 4, 5, 6, 7, 8}}}

var (
	srcMAC = []byte{2, 0x42, 10, 0, 0, 2}
	dstMAC = []byte{2, 0x42, 10, 0, 0, 3}
	src4   = netip.MustParseAddr("10.20.0.2")
	dst4   = netip.MustParseAddr("10.20.0.3")
	src6   = netip.MustParseAddr("fd00:20::2")
	dst6   = netip.MustParseAddr("fd00:20::3")
)

// frame builds a frame with right lengths and checksums. seq and flags (FIN 1, PSH 8, ACK 16, CWR 128) are TCP's.
func (f flow) frame(t testing.TB, id uint16, seq uint32, flags uint8, payload []byte) []byte {
	t.Helper()
	if f.ttl == 0 {
		f.ttl = 64
	}
	if f.port == 0 {
		f.port = 40000
	}
	eth := &layers.Ethernet{SrcMAC: srcMAC, DstMAC: dstMAC, EthernetType: layers.EthernetTypeIPv4}
	ip4 := &layers.IPv4{
		Version: 4, TOS: f.tos, Id: id, Flags: f.fragments, TTL: f.ttl, Protocol: layers.IPProtocolTCP,
		SrcIP: src4.AsSlice(), DstIP: dst4.AsSlice(),
	}
	ip6 := &layers.IPv6{
		Version: 6, TrafficClass: f.tos, FlowLabel: f.label, HopLimit: f.ttl, NextHeader: layers.IPProtocolTCP,
		SrcIP: src6.AsSlice(), DstIP: dst6.AsSlice(),
	}
	tcp := &layers.TCP{
		SrcPort: layers.TCPPort(f.port), DstPort: 50000, Seq: seq, Ack: 7000, Window: 500, Options: f.options,
		FIN: flags&1 != 0, SYN: flags&2 != 0, RST: flags&4 != 0, PSH: flags&8 != 0, ACK: flags&16 != 0,
		URG: flags&32 != 0, ECE: flags&64 != 0, CWR: flags&128 != 0,
	}
	udp := &layers.UDP{SrcPort: layers.UDPPort(f.port), DstPort: 50000}
	if f.edit != nil {
		f.edit(ip4, ip6, tcp)
	}

	var ip gopacket.SerializableLayer = ip4
	var network gopacket.NetworkLayer = ip4
	if f.v6 {
		eth.EthernetType = layers.EthernetTypeIPv6
		ip, network = ip6, ip6
	}
	var l4 gopacket.SerializableLayer = tcp
	if f.udp {
		ip4.Protocol, ip6.NextHeader = layers.IPProtocolUDP, layers.IPProtocolUDP
		l4 = udp
	}
	for _, l := range []checksummed{tcp, udp} {
		if err := l.SetNetworkLayerForChecksum(network); err != nil {
			t.Fatal(err)
		}
	}
	frame := serialize(t, eth, ip, l4, gopacket.Payload(payload))
	if !f.v6 {
		frame = frame[:14+int(ip4.Length)] // gopacket pads to 60 bytes
	}
	return frame
}

func serialize(t testing.TB, ls ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...); err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(buf.Bytes())
}

// checksummed layers sum a pseudo-header of the layer below.
type checksummed interface {
	SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
}

// l4 is where the TCP or UDP header of the flow's frames lies.
func (f flow) l4() int {
	if f.v6 {
		return 54
	}
	return 34
}

func (f flow) hdrLen() int {
	if f.udp {
		return f.l4() + 8
	}
	options := 0
	for _, o := range f.options {
		options += max(1, int(o.OptionLength))
	}
	return f.l4() + 20 + (options+3)/4*4
}

// super makes a frame what a container's kernel hands over: checksum partial, cut at size.
func (f flow) super(frame []byte, size int) ([]byte, vnetHdr) {
	vnet := vnetHdr{
		Flags: vnetNeedsCsum, Type: gsoTCP4, HdrLen: uint16(f.hdrLen()), GSOSize: uint16(size),
		CsumStart: uint16(f.l4()), CsumOffset: 16,
	}
	proto := uint32(6)
	if f.v6 {
		vnet.Type = gsoTCP6
	}
	if f.udp {
		vnet.Type, vnet.CsumOffset, proto = gsoUDP, 6, 17
	}
	frame = bytes.Clone(frame)
	addresses := frame[26:34]
	if f.v6 {
		addresses = frame[22:54]
	}
	partial := proto + uint32(len(frame)-f.l4()) + sum16(addresses)
	binary.BigEndian.PutUint16(frame[f.l4()+int(vnet.CsumOffset):], fold16(partial))
	return frame, vnet
}

// sum16 and fold16 are the checksum as RFC 1071 section 1 words it, a 16-bit word at a time.
func sum16(b []byte) (sum uint32) {
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	return sum
}

func fold16(sum uint32) uint16 {
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}

// decode fails the test unless the frame is whole and all of its checksums are right.
func decode(t testing.TB, frame []byte) gopacket.Packet {
	t.Helper()
	p := gopacket.NewPacket(bytes.Clone(frame), layers.LayerTypeEthernet, gopacket.Default)
	if e := p.ErrorLayer(); e != nil {
		t.Fatalf("frame of %d bytes does not decode: %v\n%x", len(frame), e.Error(), frame)
	}
	if l4, ok := p.TransportLayer().(checksummed); ok {
		if err := l4.SetNetworkLayerForChecksum(p.NetworkLayer()); err != nil {
			t.Fatal(err)
		}
	}
	err, bad := p.VerifyChecksums()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range bad {
		t.Fatalf("checksum of %s is %#x, want %#x\n%x", m.Layer.LayerType(), m.Actual, m.Correct, frame)
	}
	if p.Metadata().Truncated {
		t.Fatalf("frame of %d bytes is shorter than its headers say\n%x", len(frame), frame)
	}
	return p
}

// kinds are the four that segmentation and merging know.
var kinds = map[string]flow{
	"TCP4": {options: timestamps},
	"TCP6": {v6: true, options: timestamps},
	"UDP4": {udp: true},
	"UDP6": {v6: true, udp: true},
}

func drawFlow() *rapid.Generator[flow] {
	return rapid.Custom(func(t *rapid.T) flow {
		f := flow{
			v6: rapid.Bool().Draw(t, "v6"), udp: rapid.Bool().Draw(t, "udp"),
			tos: rapid.Byte().Draw(t, "tos"), ttl: rapid.Uint8Range(1, 255).Draw(t, "ttl"),
			label:     rapid.Uint32Range(0, 1<<20-1).Draw(t, "label"),
			fragments: rapid.SampledFrom([]layers.IPv4Flag{0, layers.IPv4DontFragment}).Draw(t, "DF"),
		}
		if !f.udp {
			f.options = rapid.SampledFrom([][]layers.TCPOption{nil, timestamps, acknowledged, slices.Concat(timestamps, acknowledged)}).Draw(t, "options")
		}
		ack, window := rapid.Uint32().Draw(t, "ack"), rapid.Uint16().Draw(t, "window")
		f.edit = func(_ *layers.IPv4, _ *layers.IPv6, tcp *layers.TCP) { tcp.Ack, tcp.Window = ack, window }
		return f
	})
}

// fill is payload in which no two places look alike.
func fill(n int) []byte {
	b := make([]byte, n)
	x := uint32(n)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}
