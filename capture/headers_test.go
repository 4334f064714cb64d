package capture_test

import (
	"net"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/overlane/overlane/capture"
	"github.com/overlane/overlane/datapath"
)

func serialize(t testing.TB, all ...gopacket.SerializableLayer) []byte {
	t.Helper()
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true}, all...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func ethernet(kind layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: kind}
}

// frames are some of each kind, by what is said of them.
func frames(t testing.TB) map[string][]byte {
	ip4 := func(proto layers.IPProtocol) *layers.IPv4 {
		return &layers.IPv4{Version: 4, TTL: 64, Protocol: proto, SrcIP: net.IP{10, 0, 0, 1}, DstIP: net.IP{10, 0, 0, 2}}
	}
	options := ip4(layers.IPProtocolTCP)
	options.Options = []layers.IPv4Option{{OptionType: 1}, {OptionType: 1}, {OptionType: 1}, {OptionType: 0}}
	fragment := ip4(layers.IPProtocolUDP)
	fragment.FragOffset = 100
	ip6 := func(proto layers.IPProtocol) *layers.IPv6 {
		return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: proto, SrcIP: net.ParseIP("fd00::1"), DstIP: net.ParseIP("fd00::2")}
	}
	hop := &layers.IPv6HopByHop{}
	hop.NextHeader = layers.IPProtocolUDP
	hop.Options = []*layers.IPv6HopByHopOption{{OptionType: 1, OptionData: []byte{0, 0, 0, 0}, OptionLength: 4, ActualLength: 6}}
	tcp := &layers.TCP{SrcPort: 40000, DstPort: 80, Seq: 1000, SYN: true, DataOffset: 5}
	udp := &layers.UDP{SrcPort: 5353, DstPort: 53}
	icmp := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 7, Seq: 9}
	payload := gopacket.Payload("secret")
	return map[string][]byte{
		"TCP 10.0.0.1:40000 > 10.0.0.2:80 [S] seq 1000, 6 bytes": serialize(t, ethernet(layers.EthernetTypeIPv4), options, tcp, payload),
		"UDP 10.0.0.1:5353 > 10.0.0.2:53, 6 bytes":               serialize(t, ethernet(layers.EthernetTypeIPv4), ip4(layers.IPProtocolUDP), udp, payload),
		"10.0.0.1 > 10.0.0.2, IP protocol 17, ":                  serialize(t, ethernet(layers.EthernetTypeIPv4), fragment, payload, payload),
		"ICMP 10.0.0.1 > 10.0.0.2 echo request, id 7, seq 9":     serialize(t, ethernet(layers.EthernetTypeIPv4), ip4(layers.IPProtocolICMPv4), icmp, payload),
		"TCP [fd00::1]:40000 > [fd00::2]:80 [S] seq 1000, ":      serialize(t, ethernet(layers.EthernetTypeIPv6), ip6(layers.IPProtocolTCP), tcp, payload),
		"UDP [fd00::1]:5353 > [fd00::2]:53, 6 bytes":             serialize(t, ethernet(layers.EthernetTypeIPv6), ip6(layers.IPProtocolIPv6HopByHop), hop, udp, payload),
		"ARP 10.0.0.1 asks for 10.0.0.2": serialize(t, ethernet(layers.EthernetTypeARP), &layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: 1,
			SourceHwAddress: []byte{2, 0, 0, 0, 0, 1}, SourceProtAddress: []byte{10, 0, 0, 1}, DstHwAddress: make([]byte, 6), DstProtAddress: []byte{10, 0, 0, 2},
		}),
		"20 bytes that are no IP": append(serialize(t, ethernet(0x88b5)), 1, 2, 3, 4, 5, 6)[:20],
	}
}

func TestDescribeKinds(t *testing.T) {
	for want, f := range frames(t) {
		if got := capture.Describe(capture.Packet{Captured: captured(f, 1)}).Packet; !strings.HasPrefix(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// What is cut off anywhere, or changed anywhere, is described somehow.
func FuzzDescribe(f *testing.F) {
	for _, frame := range frames(f) {
		for n := range len(frame) + 1 {
			f.Add(frame[:n], uint32(len(frame)))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, length uint32) {
		p := capture.Packet{Captured: captured(data, 1)}
		p.Len = int(length % (1 << 17))
		for _, payload := range []bool{false, true} {
			p.Payload = payload
			p.VTEP = datapath.Captured{}.VTEP
			if e := capture.Describe(p); e.Packet == "" {
				t.Error("nothing is said")
			}
		}
	})
}
