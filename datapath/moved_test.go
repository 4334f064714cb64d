package datapath_test

import "testing"

// An address that has got another MAC is found there at once: its neighbours' kernels believe in the old one for half a minute.
func TestAddressWithAnotherMAC(t *testing.T) {
	kernelPeer(t, peerWire)
	container(t, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24", hostIP6+"/64")
	for _, addr := range []string{peerIP4, peerIP6} {
		run(t, containerNS, "ip neigh replace "+addr+" lladdr "+strangerMAC+" nud reachable dev eth0")
		run(t, containerNS, "ping -q -i 0.2 -c 1 -w 3 "+addr)
	}
}
