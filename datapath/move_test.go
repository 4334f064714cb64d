package datapath_test

import (
	"net/netip"
	"os"
	"testing"
)

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
		run(t, hostNS, "ip addr del "+before+"/24 dev wire && ip addr add "+after+"/24 dev wire")
		run(t, peerNS, "ip link set vx0 type vxlan remote "+after)
		var err error
		onHost(func() { err = plane.Move(netip.MustParseAddr(after)) })
		must(t, err)
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
