package datapath_test

import (
	"net/netip"
	"os"
	"testing"
)

// moveHost gives the host another address, of which the peer in a namespace is told.
func moveHost(t *testing.T, peer, before, after string) {
	t.Helper()
	run(t, hostNS, "ip addr del "+before+"/24 dev wire && ip addr add "+after+"/24 dev wire")
	run(t, peer, "ip link set vx0 type vxlan remote "+after)
	var err error
	onHost(func() { err = plane.Move(netip.MustParseAddr(after)) })
	must(t, err)
}

// What a router says of packets that left from the new address is heard, and what was learned of the way from the old one is forgotten.
func TestPathMTUAfterMove(t *testing.T) {
	if os.Getenv(underlayEnv) != "" {
		return // a device keeps the address that it was opened with
	}
	vtep := netip.MustParseAddrPort("10.9.4.2:4789")
	far := farPeer(t, vtep)
	container(t, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24")
	to := func(before, after string) {
		t.Helper()
		moveHost(t, far, before, after)
		run(t, hostNS, "ip route add 10.9.4.0/24 via 10.9.2.2") // it went with the address
	}
	to("10.9.2.1", "10.9.2.7")
	carries(t, vtep, 1500)
	copyBulk(t, containerNS, far, peerIP4)
	carries(t, vtep, 1400)
	to("10.9.2.7", "10.9.2.1")
	if mtu := pathMTU(vtep); mtu != 1500 {
		t.Errorf("the path from another address carries %d", mtu)
	}
}

// The host has another address: what containers send leaves from it, as soon as the pipeline is told.
func TestMoveToAnotherAddress(t *testing.T) {
	if os.Getenv(underlayEnv) != "" {
		return // a device keeps the address that it was opened with
	}
	kernelPeer(t, peerWire)
	container(t, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24")
	run(t, containerNS, "ping -q -c 1 -W 5 "+peerIP4)
	to := func(before, after string) {
		t.Helper()
		moveHost(t, peerNS, before, after)
		run(t, containerNS, "ping -q -c 3 -i 0.01 -W 5 "+peerIP4)
	}
	to("10.9.2.1", "10.9.2.7")
	onHost(func() {
		if plane.Move(netip.MustParseAddr("10.9.2.99")) == nil || plane.Move(netip.MustParseAddr("fd09:2::1")) == nil {
			t.Error("it sends from an address that the host does not have, or of another family")
		}
	})
	run(t, containerNS, "ping -q -c 3 -i 0.01 -W 5 "+peerIP4)
	to("10.9.2.7", "10.9.2.1")
}
