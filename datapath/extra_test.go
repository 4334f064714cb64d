package datapath_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"

	"github.com/overlane/overlane/datapath"
)

const (
	otherMAC = "02:42:0a:3e:00:07"
	otherIP4 = "10.62.0.7"
	extraIP4 = "10.62.0.50"
	extraIP6 = "fd62::50"
	innerMAC = "02:42:0a:3e:00:55" // behind the container
)

// twoContainers are one that is trusted so far, and another; sockets see all their frames.
func twoContainers(t *testing.T, trust datapath.Trust) (port datapath.PortID, sock, other raw) {
	t.Helper()
	must(t, plane.AddNetwork(vni, false))
	t.Cleanup(func() { must(t, plane.DelNetwork(vni)) })
	port = trusted(t, trust, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24", hostIP6+"/64")
	container(t, peerNS, "ovtest1", otherMAC, innerMTU, vni, otherIP4+"/24")
	return port, rawSocket(t, containerNS), rawSocket(t, peerNS)
}

// wantClaim waits until a container has claimed an address; mac is empty for the port's own.
func wantClaim(t *testing.T, port datapath.PortID, mac, addr string) {
	t.Helper()
	want := datapath.Claim{Port: port, VNI: vni, Addr: netip.MustParseAddr(addr)}
	if mac != "" {
		want.MAC = parseMAC(mac)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for {
		claims, err := plane.Claims(ctx)
		if err != nil {
			t.Fatalf("%+v was not claimed: %v", want, err)
		}
		if slices.Contains(claims, want) {
			return
		}
	}
}

func trustedPackets(t *testing.T, port datapath.PortID) uint64 {
	t.Helper()
	for _, p := range plane.Stats().Ports {
		if p.ID == port {
			return p.Trusted
		}
	}
	t.Fatalf("port %d has no counters", port)
	return 0
}

func TestTrustedAddresses(t *testing.T) {
	port, sock, other := twoContainers(t, datapath.TrustAddress)
	for _, c := range []struct {
		drop, what string
		frame      []byte
	}{
		{"spoofed_ip", "another's own address", udp4(t, hostMAC, otherIP4, otherMAC, otherIP4)},
		{"spoofed_mac", "another MAC", udp4(t, innerMAC, extraIP4, otherMAC, otherIP4)},
		{"spoofed_ip", "ARP for another's own address", arp(t, layers.ARPRequest, hostMAC, otherIP4, otherIP4)},
		{"spoofed_ip", "an ARP reply for another's own address", arp(t, layers.ARPReply, hostMAC, otherIP4, hostIP4)},
		{"spoofed_ip", "neighbour advertisement for another's own address", neighbour(t, layers.ICMPv6TypeNeighborAdvertisement, "fe80::42:aff:fe3e:7")},
		{"spoofed_mac", "ARP that names another MAC than its frame's", func() []byte {
			forged := arp(t, layers.ARPRequest, otherMAC, extraIP4, extraIP4)
			copy(forged[6:12], hardware(hostMAC))
			return forged
		}()},
		{"router", "a router advertisement", routerAdvertisement(t)},
	} {
		t.Run(c.what, func(t *testing.T) { drops(t, 1, func() { sock.send(t, c.frame) }, c.drop) })
	}
	t.Run("nobody's address", func(t *testing.T) {
		before := trustedPackets(t, port)
		frame := udp4(t, hostMAC, extraIP4, otherMAC, otherIP4)
		sock.send(t, frame)
		if got := other.receive(t); !bytes.Equal(got, frame) {
			t.Errorf("the other container got %x", got)
		}
		if n := trustedPackets(t, port); n != before+1 {
			t.Errorf("%d packets count as trusted, want one", n-before)
		}
	})
	// What is announced is nobody's business but the control plane's: it drops nothing, and reaches nobody.
	for _, c := range []struct {
		addr  string
		frame []byte
	}{
		{extraIP4, arp(t, layers.ARPRequest, hostMAC, extraIP4, extraIP4)},
		{"10.62.0.51", arp(t, layers.ARPReply, hostMAC, "10.62.0.51", "10.62.0.51")},
		{"10.62.0.52", arp(t, layers.ARPRequest, hostMAC, "0.0.0.0", "10.62.0.52")},
		{extraIP6, neighbour(t, layers.ICMPv6TypeNeighborAdvertisement, extraIP6)},
	} {
		drops(t, 1, func() { sock.send(t, c.frame) }, "probe")
		wantClaim(t, port, "", c.addr)
	}
	sock.send(t, arp(t, layers.ARPRequest, hostMAC, "10.62.0.53", otherIP4))
	wantClaim(t, port, "", "10.62.0.53")
}

// An address that was given to a port which is trusted with nothing else is the port's, and the claims of others don't change that.
func TestExtraAddressOfAnUntrustedPort(t *testing.T) {
	port, sock, other := twoContainers(t, datapath.TrustNone)
	frame := udp4(t, hostMAC, extraIP4, otherMAC, otherIP4)
	drops(t, 1, func() { sock.send(t, frame) }, "spoofed_ip")
	drops(t, 1, func() { sock.send(t, arp(t, layers.ARPRequest, hostMAC, extraIP4, extraIP4)) }, "spoofed_ip")
	must(t, plane.SetExtra(port, datapath.MAC{}, netip.MustParseAddr(extraIP4), false))
	drops(t, 1, func() { sock.send(t, arp(t, layers.ARPRequest, hostMAC, extraIP4, extraIP4)) }, "probe")
	drops(t, 1, func() { other.send(t, arp(t, layers.ARPRequest, otherMAC, extraIP4, extraIP4)) }, "spoofed_ip")
	sock.send(t, frame) // last: the other one's kernel answers it
	if got := other.receive(t); !bytes.Equal(got, frame) {
		t.Errorf("the other container got %x", got)
	}
	must(t, plane.DelExtra(port, netip.MustParseAddr(extraIP4)))
	drops(t, 1, func() { sock.send(t, frame) }, "spoofed_ip")
}

func TestTrustedMACs(t *testing.T) {
	port, sock, other := twoContainers(t, datapath.TrustMAC)
	run(t, peerNS, "echo 0 >/proc/sys/net/ipv4/icmp_ratelimit") // each test of the same address has its answer
	drops(t, 1, func() { sock.send(t, udp4(t, innerMAC, extraIP4, otherMAC, otherIP4)) }, "spoofed_mac")
	drops(t, 1, func() { sock.send(t, udp4(t, otherMAC, extraIP4, otherMAC, otherIP4)) }, "spoofed_mac")
	drops(t, 1, func() { sock.send(t, arp(t, layers.ARPRequest, innerMAC, otherIP4, hostIP4)) }, "spoofed_ip")
	sock.send(t, arp(t, layers.ARPRequest, innerMAC, extraIP4, otherIP4))
	wantClaim(t, port, innerMAC, extraIP4)
	must(t, plane.SetExtra(port, parseMAC(innerMAC), netip.MustParseAddr(extraIP4), false))
	there, back := udp4(t, innerMAC, extraIP4, otherMAC, otherIP4), udp4(t, otherMAC, otherIP4, innerMAC, extraIP4)
	sock.send(t, there)
	if got := other.receive(t); !bytes.Equal(got, there) {
		t.Errorf("the other container got %x", got)
	}
	other.send(t, back)
	isIP, isARP := toInner(0x0800), toInner(0x0806)
	sock.sees(t, func(got []byte) bool { return bytes.Equal(got, back) }, func(got []byte) bool {
		return isIP(got) && got[23] == byte(layers.IPProtocolICMPv4) // nobody listens at the other's port
	})
	// The answer to who is behind the port goes there.
	sock.send(t, arp(t, layers.ARPRequest, innerMAC, extraIP4, otherIP4))
	sock.sees(t, isARP)
	must(t, plane.DelExtra(port, netip.MustParseAddr(extraIP4)))
	drops(t, 1, func() { other.send(t, back) }, "fdb_miss")
}

// toInner tells frames of an EtherType from the other container to who is behind the port.
func toInner(etherType uint16) func([]byte) bool {
	head := binary.BigEndian.AppendUint16(append(hardware(innerMAC), hardware(otherMAC)...), etherType)
	return func(got []byte) bool { return bytes.HasPrefix(got, head) }
}

// sees waits until the socket has seen a frame of each kind, in any order.
func (s raw) sees(t *testing.T, kinds ...func([]byte) bool) {
	t.Helper()
	for len(kinds) > 0 {
		got := s.next(t)
		kinds = slices.DeleteFunc(kinds, func(is func([]byte) bool) bool { return is(got) })
	}
}

// A container that spoke to an extra address goes on with its old MAC for half a minute and more, unless it is told.
func TestMovedExtraAddressIsAnnounced(t *testing.T) {
	_, sock, _ := twoContainers(t, datapath.TrustNone)
	must(t, plane.SetNeighbour(vni, netip.MustParseAddr(peerIP4), parseMAC(peerMAC), false)) // an own one: nobody is told
	for _, addr := range []string{extraIP4, extraIP6} {
		for _, mac := range []string{peerMAC, strangerMAC} {
			must(t, plane.SetNeighbour(vni, netip.MustParseAddr(addr), parseMAC(mac), true))
			target := net.IP(netip.MustParseAddr(addr).AsSlice())
			got := sock.next(t)
			for !bytes.Equal(got[6:12], hardware(mac)) {
				if bytes.Contains(got, net.ParseIP(peerIP4).To4()) {
					t.Errorf("an own address was announced: %x", got)
				}
				got = sock.next(t)
			}
			if !bytes.Contains(got, target) {
				t.Errorf("%s at %s was announced by %x", addr, mac, got)
			}
		}
	}
	run(t, containerNS, "ip neigh replace "+extraIP4+" lladdr "+peerMAC+" dev eth0 nud reachable && ip neigh replace "+extraIP6+" lladdr "+peerMAC+" dev eth0 nud reachable")
	for _, addr := range []string{extraIP4, extraIP6} {
		must(t, plane.SetNeighbour(vni, netip.MustParseAddr(addr), parseMAC(otherMAC), true))
		waitFor(t, "the container's kernel knows the new MAC of "+addr, func() bool {
			return bytes.Contains([]byte(run(t, containerNS, "ip neigh show "+addr+" dev eth0")), []byte(otherMAC))
		})
	}
}

// A container that says all the time what it has is not heard for long, so that the others are; it is again when its claims were taken.
func TestClaimsFasterThanTheyAreTaken(t *testing.T) {
	const waiting = 32 // of one port
	port, sock, _ := twoContainers(t, datapath.TrustAddress)
	frame := arp(t, layers.ARPRequest, hostMAC, extraIP4, extraIP4)
	drops(t, waiting, func() {
		for range waiting {
			sock.send(t, frame)
		}
	}, "probe")
	drops(t, 1, func() { sock.send(t, frame) }, "claims")
	wantClaim(t, port, "", extraIP4)
	drops(t, 1, func() { sock.send(t, frame) }, "probe")
	wantClaim(t, port, "", extraIP4)
}

// Whether an address is still there its container is asked: a Linux that has it answers, and nothing of that counts as a drop.
func TestExtraAddressIsAskedFor(t *testing.T) {
	port, _, _ := twoContainers(t, datapath.TrustAddress)
	run(t, containerNS, "ip addr add "+extraIP4+"/24 dev eth0 && ip addr add "+extraIP6+"/64 dev eth0 nodad")
	// The kernel joins the address's group of RFC 4291, section 2.7.1, some time later, and hears no question before that.
	run(t, containerNS, "timeout 10 sh -c 'until ip maddr show dev eth0 | grep -q ff02::1:ff00:50; do sleep 0.01; done'")
	before := plane.Stats().Drops
	for _, addr := range []string{extraIP4, extraIP6} {
		must(t, plane.SetExtra(port, datapath.MAC{}, netip.MustParseAddr(addr), false))
		must(t, plane.AskExtra(port, netip.MustParseAddr(addr)))
		wantClaim(t, port, "", addr)
	}
	for name, n := range plane.Stats().Drops {
		if n != before[name] {
			t.Errorf("%d drops called %s", n-before[name], name)
		}
	}
}

func TestExtraAddressThatIsAnothers(t *testing.T) {
	port, _, _ := twoContainers(t, datapath.TrustMAC)
	for what, err := range map[string]error{
		"address " + otherIP4 + " is that of": plane.SetExtra(port, datapath.MAC{}, netip.MustParseAddr(otherIP4), false),
		"MAC " + otherMAC + " is port":        plane.SetExtra(port, parseMAC(otherMAC), netip.MustParseAddr(extraIP4), false),
		"want a unicast address":              plane.SetExtra(port, datapath.MAC{}, netip.MustParseAddr("224.0.0.1"), false),
	} {
		if err == nil || !bytes.Contains([]byte(err.Error()), []byte(what)) {
			t.Errorf("got %v, want %q", err, what)
		}
	}
}
