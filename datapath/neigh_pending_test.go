package datapath_test

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"
)

// Who asks for an address before its record has come need not ask again: Linux would do so after a second.
func TestAnswerThatComesLate(t *testing.T) {
	must(t, plane.AddNetwork(vni, false))
	t.Cleanup(func() { must(t, plane.DelNetwork(vni)) })
	container(t, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24", hostIP6+"/64")
	sock := rawSocket(t, containerNS)
	for _, c := range []struct {
		drop, target string
		request      []byte
	}{
		{"arp_unknown", peerIP4, arp(t, layers.ARPRequest, hostMAC, hostIP4, peerIP4)},
		{"nd_unknown", peerIP6, neighbour(t, layers.ICMPv6TypeNeighborSolicitation, peerIP6)},
	} {
		drops(t, 1, func() { sock.send(t, c.request) }, c.drop)
		target := netip.MustParseAddr(c.target)
		must(t, plane.SetNeighbour(vni, target, parseMAC(peerMAC), false))
		answers := func(frame []byte) bool {
			return bytes.HasPrefix(frame, append(hardware(hostMAC), hardware(peerMAC)...)) && bytes.Contains(frame, net.IP(target.AsSlice()))
		}
		for frame := sock.next(t); !answers(frame); frame = sock.next(t) {
		}
	}
}

// answered says whether a container hears of an address that is known now.
func answered(t *testing.T, sock raw, mac, target string, wait time.Duration) bool {
	t.Helper()
	must(t, unix.SetsockoptTimeval(int(sock), unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 5000}))
	must(t, plane.SetNeighbour(vni, netip.MustParseAddr(target), parseMAC(peerMAC), false))
	t.Cleanup(func() { plane.DelNeighbour(vni, netip.MustParseAddr(target)) })
	buffer := make([]byte, 65536)
	for end := time.Now().Add(wait); time.Now().Before(end); {
		n, err := unix.Read(int(sock), buffer)
		if err == nil && bytes.HasPrefix(buffer[:n], append(hardware(mac), hardware(peerMAC)...)) && bytes.Contains(buffer[:n], net.ParseIP(target).To4()) {
			return true
		}
	}
	return false
}

func askMany(t *testing.T, sock raw, mac, from string, block, n int) {
	drops(t, n, func() {
		for i := range n {
			sock.send(t, arp(t, layers.ARPRequest, mac, from, fmt.Sprintf("10.62.%d.%d", block, i+1)))
		}
	}, "arp_unknown")
}

// One container that asks for many addresses takes the others' pending requests from them.
func TestOneContainerCrowdsOutTheOthers(t *testing.T) {
	must(t, plane.AddNetwork(vni, false))
	t.Cleanup(func() { must(t, plane.DelNetwork(vni)) })
	container(t, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24")
	sock := rawSocket(t, containerNS)
	const otherMAC, otherIP = "02:42:0a:3e:00:07", "10.62.0.7"
	container(t, peerNS, "ovtest1", otherMAC, innerMTU, vni, otherIP+"/24")
	other := rawSocket(t, peerNS)
	drops(t, 1, func() { other.send(t, arp(t, layers.ARPRequest, otherMAC, otherIP, "10.62.9.9")) }, "arp_unknown")
	askMany(t, sock, hostMAC, hostIP4, 10, 100)
	if !answered(t, other, otherMAC, "10.62.9.9", time.Second) {
		t.Error("a container's only request is forgotten: another one asked for 100 addresses")
	}
}
