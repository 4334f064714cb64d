package xdp

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"
)

const (
	pass = 2 // enum xdp_action, linux/bpf.h
	take = 4
)

// load has the kernel check the program, with a socket on the one queue that test runs come from.
func load(t *testing.T) (*ebpf.Program, *ebpf.Map) {
	t.Helper()
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(Object))
	must(t, err)
	collection, err := ebpf.NewCollection(spec)
	must(t, err)
	t.Cleanup(collection.Close)
	socket, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(socket) })
	must(t, collection.Maps["xsks_map"].Put(uint32(0), uint32(socket)))
	return collection.Programs[programName], collection.Maps[wantedName]
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func packet(t *testing.T, all ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buffer := gopacket.NewSerializeBuffer()
	must(t, gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true}, append(all, gopacket.Payload(make([]byte, 60)))...))
	return buffer.Bytes()
}

func vxlan4(t *testing.T, dst string, port uint16) []byte {
	return packet(t, &layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: make([]byte, 6), EthernetType: layers.EthernetTypeIPv4},
		&layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: []byte{192, 0, 2, 2}, DstIP: netip.MustParseAddr(dst).AsSlice()},
		&layers.UDP{SrcPort: 50000, DstPort: layers.UDPPort(port)})
}

func vxlan6(t *testing.T, dst string, port uint16) []byte {
	return packet(t, &layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: make([]byte, 6), EthernetType: layers.EthernetTypeIPv6},
		&layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: netip.MustParseAddr("2001:db8::2").AsSlice(), DstIP: netip.MustParseAddr(dst).AsSlice()},
		&layers.UDP{SrcPort: 50000, DstPort: layers.UDPPort(port)})
}

// edited is the packet with a byte changed.
func edited(p []byte, at int, to byte) []byte {
	p = slices.Clone(p)
	p[at] = to
	return p
}

func TestFilter(t *testing.T) {
	program, filter := load(t)
	plain4, plain6 := vxlan4(t, "192.0.2.1", 4789), vxlan6(t, "2001:db8::1", 4789)
	for _, c := range []struct {
		what   string
		vtep   string
		packet []byte
		want   uint32
	}{
		{"VXLAN over IPv4", "192.0.2.1:4789", plain4, take},
		{"VXLAN over IPv6", "[2001:db8::1]:4789", plain6, take},
		{"to another IPv4 address", "192.0.2.1:4789", vxlan4(t, "192.0.2.3", 4789), pass},
		{"to another IPv6 address", "[2001:db8::1]:4789", vxlan6(t, "2001:db8::3", 4789), pass},
		{"to another port over IPv4", "192.0.2.1:4789", vxlan4(t, "192.0.2.1", 4790), pass},
		{"to another port over IPv6", "[2001:db8::1]:4789", vxlan6(t, "2001:db8::1", 4790), pass},
		{"to a port of our own choice", "192.0.2.1:4790", vxlan4(t, "192.0.2.1", 4790), take},
		{"IPv4 for a VTEP with IPv6", "[2001:db8::1]:4789", plain4, pass},
		{"IPv6 for a VTEP with IPv4", "192.0.2.1:4789", plain6, pass},
		{"TCP over IPv4", "192.0.2.1:4789", edited(plain4, 23, 6), pass},
		{"TCP over IPv6", "[2001:db8::1]:4789", edited(plain6, 20, 6), pass},
		{"IPv4 options", "192.0.2.1:4789", edited(plain4, 14, 0x46), pass},
		{"first fragment", "192.0.2.1:4789", edited(plain4, 20, 0x20), pass},
		{"last fragment", "192.0.2.1:4789", edited(plain4, 21, 1), pass},
		{"IPv6 fragment", "[2001:db8::1]:4789", edited(plain6, 20, 44), pass},
		{"VLAN tag", "192.0.2.1:4789", slices.Concat(plain4[:12], []byte{0x81, 0, 0, 1}, plain4[12:]), pass},
		{"ARP", "192.0.2.1:4789", edited(plain4, 13, 6), pass},
		{"short IPv4", "192.0.2.1:4789", plain4[:41], pass},
		{"short IPv6", "[2001:db8::1]:4789", plain6[:61], pass},
		{"Ethernet alone", "192.0.2.1:4789", plain4[:14], pass},
	} {
		vtep := netip.MustParseAddrPort(c.vtep)
		must(t, filter.Put(uint32(0), wanted{vtep.Addr().As16(), [2]byte{byte(vtep.Port() >> 8), byte(vtep.Port())}}))
		if got, err := program.Run(&ebpf.RunOptions{Data: c.packet, DataOut: make([]byte, len(c.packet)+256)}); err != nil || got != c.want {
			t.Errorf("%s: action %d (%v), want %d", c.what, got, err, c.want)
		}
	}
	must(t, filter.Put(uint32(0), wanted{}))
	if got, err := program.Run(&ebpf.RunOptions{Data: plain4, DataOut: make([]byte, len(plain4)+256)}); err != nil || got != pass {
		t.Errorf("before a VTEP was named: action %d (%v), want %d", got, err, pass)
	}
}
