package datapath_test

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket/layers"
)

// An address that has got another MAC is found there at once: its neighbours' kernels believe in the old one for half a minute.
func TestAddressWithAnotherMAC(t *testing.T) {
	kernelPeer(t, peerWire)
	container(t, boxSpace, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24", hostIP6+"/64")
	for _, addr := range []string{peerIP4, peerIP6} {
		run(t, boxSpace, "ip neigh replace "+addr+" lladdr "+strangerMAC+" nud reachable dev eth0")
		run(t, boxSpace, "ping -q -i 0.2 -c 1 -w 3 "+addr)
	}
}

// Who asks for an address before its record has come need not ask again: Linux would do so after a second.
func TestAnswerThatComesLate(t *testing.T) {
	must(t, plane.AddNetwork(vni))
	t.Cleanup(func() { must(t, plane.DelNetwork(vni)) })
	container(t, boxSpace, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24", hostIP6+"/64")
	box := rawSocket(t, boxSpace)
	for _, c := range []struct {
		drop, target string
		question     []byte
	}{
		{"arp_unknown", peerIP4, arp(t, layers.ARPRequest, hostMAC, hostIP4, peerIP4)},
		{"nd_unknown", peerIP6, neighbour(t, layers.ICMPv6TypeNeighborSolicitation, peerIP6)},
	} {
		drops(t, 1, func() { box.send(t, c.question) }, c.drop)
		target := netip.MustParseAddr(c.target)
		must(t, plane.SetNeighbour(vni, target, parseMAC(peerMAC)))
		answers := func(frame []byte) bool {
			return bytes.HasPrefix(frame, append(hardware(hostMAC), hardware(peerMAC)...)) && bytes.Contains(frame, net.IP(target.AsSlice()))
		}
		for frame := box.next(t); !answers(frame); frame = box.next(t) {
		}
	}
}
