package datapath_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"
)

const (
	strangerMAC = "02:42:0a:3e:00:99"
	payload     = "long enough that Ethernet needs no padding"
)

// frame is an Ethernet frame with an inner packet; checksums and lengths are right.
func frame(t *testing.T, source, destination string, network gopacket.NetworkLayer, rest ...gopacket.SerializableLayer) []byte {
	t.Helper()
	ethernet := &layers.Ethernet{SrcMAC: hardware(source), DstMAC: hardware(destination), EthernetType: layers.EthernetTypeIPv4}
	stack := []gopacket.SerializableLayer{ethernet}
	switch ip := network.(type) {
	case *layers.IPv6:
		ethernet.EthernetType = layers.EthernetTypeIPv6
		stack = append(stack, ip)
	case *layers.IPv4:
		stack = append(stack, ip)
	case nil:
		ethernet.EthernetType = layers.EthernetTypeARP
	}
	for _, layer := range rest {
		if sum, ok := layer.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			must(t, sum.SetNetworkLayerForChecksum(network))
		}
	}
	buffer := gopacket.NewSerializeBuffer()
	must(t, gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, append(stack, rest...)...))
	return buffer.Bytes()
}

func hardware(text string) net.HardwareAddr { m := parseMAC(text); return m[:] }

func udp4(t *testing.T, sourceMAC, source, destinationMAC, destination string) []byte {
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.ParseIP(source), DstIP: net.ParseIP(destination)}
	return frame(t, sourceMAC, destinationMAC, ip, &layers.UDP{SrcPort: 1000, DstPort: 9}, gopacket.Payload(payload))
}

func tcp6(t *testing.T, sourceMAC, source, destinationMAC, destination string) []byte {
	ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP, SrcIP: net.ParseIP(source), DstIP: net.ParseIP(destination)}
	return frame(t, sourceMAC, destinationMAC, ip, &layers.TCP{SrcPort: 1000, DstPort: 9, ACK: true, Window: 100}, gopacket.Payload(payload))
}

func arp(t *testing.T, operation uint16, sourceMAC, source, target string) []byte {
	return frame(t, sourceMAC, "ff:ff:ff:ff:ff:ff", nil, &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: operation,
		SourceHwAddress: hardware(sourceMAC), SourceProtAddress: net.ParseIP(source).To4(),
		DstHwAddress: make([]byte, 6), DstProtAddress: net.ParseIP(target).To4(),
	})
}

func neighbour(t *testing.T, kind uint8, target string) []byte {
	ip := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: net.ParseIP(hostIP6), DstIP: net.ParseIP("ff02::1")}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)}
	if kind == layers.ICMPv6TypeNeighborAdvertisement {
		return frame(t, hostMAC, "33:33:00:00:00:01", ip, icmp, &layers.ICMPv6NeighborAdvertisement{TargetAddress: net.ParseIP(target)})
	}
	return frame(t, hostMAC, "33:33:00:00:00:01", ip, icmp, &layers.ICMPv6NeighborSolicitation{TargetAddress: net.ParseIP(target)})
}

func tagged(plain []byte) []byte {
	return append(append(append([]byte{}, plain[:12]...), 0x81, 0, 0, 5), plain[12:]...)
}

func vxlan(flags byte, id uint32, inner []byte) []byte {
	header := make([]byte, 8, 8+len(inner))
	binary.BigEndian.PutUint32(header[4:], id<<8)
	header[0] = flags
	return append(header, inner...)
}

// drops wants the counters of these names together to grow by just n.
func drops(t *testing.T, n int, send func(), names ...string) {
	t.Helper()
	count := func() (sum uint64) {
		stats := plane.Stats()
		for _, name := range names {
			one, ok := stats.Drops[name]
			if !ok {
				t.Fatalf("no drop is called %s", name)
			}
			sum += one
		}
		return sum
	}
	before := count()
	send()
	waitFor(t, fmt.Sprintf("%d drops called %v", n, names), func() bool { return count() >= before+uint64(n) })
	if got := count() - before; got != uint64(n) {
		t.Errorf("%d drops called %v, want %d", got, names, n)
	}
}

func TestContainerIsNotTrusted(t *testing.T) {
	kernelPeer(t, peerWire)
	container(t, boxSpace, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24", hostIP6+"/64")
	var socket int
	inSpace(t, boxSpace, func() (err error) {
		device, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		socket, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
		if err != nil {
			return err
		}
		return unix.Bind(socket, &unix.SockaddrLinklayer{Ifindex: device.Index})
	})
	defer unix.Close(socket)
	send := func(frame []byte) {
		_, err := unix.Write(socket, frame)
		must(t, err)
	}
	for _, c := range []struct {
		drop, what string
		frame      []byte
	}{
		{"spoofed_mac", "another's MAC", udp4(t, strangerMAC, hostIP4, peerMAC, peerIP4)},
		{"spoofed_ip", "another's IPv4 address", udp4(t, hostMAC, "10.62.0.9", peerMAC, peerIP4)},
		{"spoofed_ip", "another's IPv6 address", tcp6(t, hostMAC, "fd62::9", peerMAC, peerIP6)},
		{"spoofed_ip", "another's link-local address", tcp6(t, hostMAC, "fe80::9", peerMAC, peerIP6)},
		{"spoofed_ip", "ARP for another's address", arp(t, layers.ARPReply, hostMAC, "10.62.0.9", peerIP4)},
		{"spoofed_ip", "neighbour advertisement for another's address", neighbour(t, layers.ICMPv6TypeNeighborAdvertisement, peerIP6)},
		{"vlan", "a VLAN tag", tagged(udp4(t, hostMAC, hostIP4, peerMAC, peerIP4))},
		{"fdb_miss", "a MAC nobody has", udp4(t, hostMAC, hostIP4, strangerMAC, peerIP4)},
		{"hairpin", "itself", udp4(t, hostMAC, hostIP4, hostMAC, hostIP4)},
		{"arp_unknown", "ARP for an address nobody has", arp(t, layers.ARPRequest, hostMAC, hostIP4, "10.62.0.77")},
		{"nd_unknown", "solicitation for an address nobody has", neighbour(t, layers.ICMPv6TypeNeighborSolicitation, "fd62::77")},
		{"probe", "announcement of its own address", arp(t, layers.ARPRequest, hostMAC, hostIP4, hostIP4)},
	} {
		t.Run(c.what, func(t *testing.T) { drops(t, 1, func() { send(c.frame) }, c.drop) })
	}
	t.Run("cut short", func(t *testing.T) {
		for _, whole := range [][]byte{udp4(t, hostMAC, hostIP4, peerMAC, peerIP4), tcp6(t, hostMAC, hostIP6, peerMAC, peerIP6)} {
			drops(t, len(whole)-15, func() {
				for n := 15; n < len(whole); n++ {
					send(whole[:n])
				}
			}, "malformed")
		}
	})
}

func TestUnderlayIsNotTrusted(t *testing.T) {
	const otherVNI, otherMAC = 4201, "02:42:0a:3e:00:03"
	must(t, plane.AddNetwork(vni))
	must(t, plane.AddNetwork(otherVNI))
	t.Cleanup(func() { must(t, plane.DelNetwork(vni)); must(t, plane.DelNetwork(otherVNI)) })
	must(t, plane.SetMAC(vni, parseMAC(peerMAC), peerWire))
	must(t, plane.SetMAC(vni, parseMAC(otherMAC), netip.MustParseAddrPort("10.9.2.3:4789")))
	container(t, boxSpace, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24", hostIP6+"/64")
	run(t, peerSpace, "ip addr add 10.9.2.66/24 dev wire")
	t.Cleanup(func() { run(t, peerSpace, "ip addr del 10.9.2.66/24 dev wire") })
	good := udp4(t, peerMAC, peerIP4, hostMAC, hostIP4)

	from := func(addr string) net.Conn {
		var conn net.Conn
		inSpace(t, peerSpace, func() (err error) {
			dialer := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(addr)}}
			conn, err = dialer.Dial("udp", "10.9.2.1:4789")
			return err
		})
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	peer, stranger := from("10.9.2.2"), from("10.9.2.66")
	for _, c := range []struct {
		drop, what string
		sender     net.Conn
		packet     []byte
	}{
		{"vtep_unknown", "from no VTEP", stranger, vxlan(8, vni, good)},
		{"vxlan_flags", "without the I flag", peer, vxlan(0xf7, vni, good)},
		{"vni_unknown", "with a VNI that is not here", peer, vxlan(8, 4999, good)},
		{"src_unknown", "in a network where the sender has nobody", peer, vxlan(8, otherVNI, good)},
		{"src_unknown", "with a source nobody announced", peer, vxlan(8, vni, udp4(t, strangerMAC, peerIP4, hostMAC, hostIP4))},
		{"spoofed_mac", "with a source of another VTEP", peer, vxlan(8, vni, udp4(t, otherMAC, peerIP4, hostMAC, hostIP4))},
		{"spoofed_mac", "with a source of this host", peer, vxlan(8, vni, udp4(t, hostMAC, hostIP4, hostMAC, hostIP4))},
		{"spoofed_mac", "with a group address as source", peer, vxlan(8, vni, udp4(t, "33:33:00:00:00:01", peerIP4, hostMAC, hostIP4))},
		{"vlan", "with an inner tag", peer, vxlan(8, vni, tagged(good))},
		{"fdb_miss", "for a MAC nobody has", peer, vxlan(8, vni, udp4(t, peerMAC, peerIP4, strangerMAC, hostIP4))},
		{"not_local", "for a MAC of another host", peer, vxlan(8, vni, udp4(t, peerMAC, peerIP4, otherMAC, hostIP4))},
	} {
		t.Run(c.what, func(t *testing.T) {
			drops(t, 1, func() { _, err := c.sender.Write(c.packet); must(t, err) }, c.drop)
		})
	}
	t.Run("cut short", func(t *testing.T) {
		for _, inner := range [][]byte{good, tcp6(t, peerMAC, peerIP6, hostMAC, hostIP6)} {
			whole := vxlan(8, vni, inner)
			drops(t, len(whole), func() {
				for n := range whole {
					_, err := peer.Write(whole[:n])
					must(t, err)
				}
			}, "runt", "malformed")
		}
	})
	t.Run("reserved bits are ignored", func(t *testing.T) {
		before := plane.Stats()
		packet := vxlan(0xff, vni, good)
		packet[1], packet[2], packet[3], packet[7] = 0xff, 0xff, 0xff, 0xff
		_, err := peer.Write(packet)
		must(t, err)
		waitFor(t, "the packet at the container", func() bool { return plane.Stats().Ports[0].TxPackets > before.Ports[0].TxPackets })
	})
}
