package datapath_test

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"
)

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
	container(t, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24", hostIP6+"/64")
	sock := rawSocket(t, containerNS)
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
		{"router", "a router advertisement", routerAdvertisement(t)},
		{"router_solicited", "a router solicitation", routerSolicitation(t)},
		{"vlan", "a VLAN tag", tagged(udp4(t, hostMAC, hostIP4, peerMAC, peerIP4))},
		{"fdb_miss", "a MAC nobody has", udp4(t, hostMAC, hostIP4, strangerMAC, peerIP4)},
		{"hairpin", "itself", udp4(t, hostMAC, hostIP4, hostMAC, hostIP4)},
		{"arp_unknown", "ARP for an address nobody has", arp(t, layers.ARPRequest, hostMAC, hostIP4, "10.62.0.77")},
		{"nd_unknown", "solicitation for an address nobody has", neighbour(t, layers.ICMPv6TypeNeighborSolicitation, "fd62::77")},
		{"probe", "announcement of its own address", arp(t, layers.ARPRequest, hostMAC, hostIP4, hostIP4)},
	} {
		t.Run(c.what, func(t *testing.T) { drops(t, 1, func() { sock.send(t, c.frame) }, c.drop) })
	}
	t.Run("cut short", func(t *testing.T) {
		for _, whole := range [][]byte{udp4(t, hostMAC, hostIP4, peerMAC, peerIP4), tcp6(t, hostMAC, hostIP6, peerMAC, peerIP6)} {
			drops(t, len(whole)-15, func() {
				for n := 15; n < len(whole); n++ {
					sock.send(t, whole[:n])
				}
			}, "malformed")
		}
	})
}

// Through the virtio-net header a container says where the kernel that sends writes a checksum: it must not be used to
// change what was checked before.
func TestChecksumFieldIsNotTrusted(t *testing.T) {
	kernelPeer(t, peerWire)
	container(t, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24", hostIP6+"/64")
	sock := rawSocket(t, containerNS)
	const packetVnetHdr = 15 // PACKET_VNET_HDR of linux/if_packet.h
	must(t, unix.SetsockoptInt(int(sock), unix.SOL_PACKET, packetVnetHdr, 1))
	peer := rawSocketOn(t, peerNS, "vx0")
	for name, c := range map[string]struct {
		frame         []byte
		start, offset byte
	}{
		"ARP sender":         {arp(t, layers.ARPReply, hostMAC, hostIP4, peerIP4), 20, 10},
		"IPv4 source":        {udp4(t, hostMAC, hostIP4, peerMAC, peerIP4), 20, 8},
		"neighbour's target": {neighbour(t, layers.ICMPv6TypeNeighborAdvertisement, hostIP6), 54, 22},
	} {
		t.Run(name, func(t *testing.T) {
			const needsCsum = 1
			drops(t, 1, func() { sock.send(t, append([]byte{needsCsum, 0, 0, 0, 0, 0, c.start, 0, c.offset, 0}, c.frame...)) }, "offload")
			// The container's kernel speaks too, to groups that it joins: what follows marks the end, and only a frame with the
			// same Ethernet header is the forged one.
			last := tcp6(t, hostMAC, hostIP6, peerMAC, peerIP6)
			sock.send(t, append(make([]byte, 10), last...))
			for got := peer.next(t); !bytes.Equal(got, last); got = peer.next(t) {
				if bytes.HasPrefix(got, c.frame[:14]) {
					t.Errorf("the peer got %x", got)
				}
			}
		})
	}
}

func TestUnderlayIsNotTrusted(t *testing.T) {
	const otherVNI, otherMAC = 4201, "02:42:0a:3e:00:03"
	must(t, plane.AddNetwork(vni, false))
	must(t, plane.AddNetwork(otherVNI, false))
	t.Cleanup(func() { must(t, plane.DelNetwork(vni)); must(t, plane.DelNetwork(otherVNI)) })
	must(t, plane.SetMAC(vni, parseMAC(peerMAC), peerWire))
	must(t, plane.SetMAC(vni, parseMAC(otherMAC), netip.MustParseAddrPort("10.9.2.3:4789")))
	container(t, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24", hostIP6+"/64")
	run(t, peerNS, "ip addr add 10.9.2.66/24 dev wire")
	t.Cleanup(func() { run(t, peerNS, "ip addr del 10.9.2.66/24 dev wire") })
	good := udp4(t, peerMAC, peerIP4, hostMAC, hostIP4)

	from := func(addr string) net.Conn {
		var conn net.Conn
		inNamespace(t, peerNS, func() (err error) {
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
		{"vxlan_flags", "without the I flag", peer, vxlan(0, vni, good)},
		{"esp_spi", "with other flags, which may be an SPI", peer, vxlan(0xf7, vni, good)},
		{"vni_unknown", "with a VNI that is not here", peer, vxlan(8, 4999, good)},
		{"src_unknown", "in a network where the sender has nobody", peer, vxlan(8, otherVNI, good)},
		{"src_unknown", "with a source nobody announced", peer, vxlan(8, vni, udp4(t, strangerMAC, peerIP4, hostMAC, hostIP4))},
		{"spoofed_mac", "with a source of another VTEP", peer, vxlan(8, vni, udp4(t, otherMAC, peerIP4, hostMAC, hostIP4))},
		{"spoofed_mac", "with a source of this host", peer, vxlan(8, vni, udp4(t, hostMAC, hostIP4, hostMAC, hostIP4))},
		{"spoofed_ip", "with an address of this host's container as source", peer, vxlan(8, vni, udp4(t, peerMAC, hostIP4, hostMAC, hostIP4))},
		{"spoofed_ip", "with ARP for an address of this host's container", peer, vxlan(8, vni, arp(t, layers.ARPReply, peerMAC, hostIP4, hostIP4))},
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
		sock := rawSocket(t, containerNS)
		packet := vxlan(0xff, vni, good)
		packet[1], packet[2], packet[3], packet[7] = 0xff, 0xff, 0xff, 0xff
		_, err := peer.Write(packet)
		must(t, err)
		if got := sock.receive(t); !bytes.Equal(got, good) {
			t.Errorf("the container got\n%x, sent was\n%x", got, good)
		}
	})
}
