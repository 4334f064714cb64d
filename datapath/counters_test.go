package datapath_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/overlane/overlane/datapath"
)

// What is dropped of a container's packets is counted for its port, and for no other; what a worker takes is counted by bursts.
func TestCountersOfPorts(t *testing.T) {
	port, sock, other := twoContainers(t, datapath.TrustNone)
	of := func(wanted bool) map[string]uint64 {
		counted := map[string]uint64{}
		for _, p := range plane.Stats().Ports {
			if (p.ID == port) == wanted {
				maps.Copy(counted, p.Drops)
			}
		}
		return counted
	}
	taken := func() (packets, bursts uint64) {
		for _, w := range plane.Stats().Bursts {
			packets += w.Ports.Packets
			for _, n := range w.Ports.Sizes {
				bursts += n
			}
		}
		return packets, bursts
	}
	drops(t, 1, func() { sock.send(t, udp4(t, innerMAC, hostIP4, otherMAC, otherIP4)) }, "spoofed_mac")
	packets, bursts := taken()
	const n = 5
	for range n {
		drops(t, 1, func() { sock.send(t, udp4(t, hostMAC, extraIP4, otherMAC, otherIP4)) }, "spoofed_ip")
	}
	if got := of(true); got["spoofed_ip"] != n || got["spoofed_mac"] != 1 {
		t.Errorf("the port's drops are %v, want %d of spoofed_ip and one of spoofed_mac", got, n)
	}
	if got := of(false); got["spoofed_ip"]+got["spoofed_mac"] != 0 {
		t.Errorf("the other ports' drops are %v", slices.Sorted(maps.Keys(got)))
	}
	frame := udp4(t, hostMAC, hostIP4, otherMAC, otherIP4)
	sock.send(t, frame)
	other.receive(t)
	now, later := taken()
	if now-packets < n+1 || later-bursts < n || later-bursts > now-packets {
		t.Errorf("%d more packets in %d more bursts, want %d or more, of which each came after the one before was dropped", now-packets, later-bursts, n+1)
	}
}

// What a network has carried is no less once a container of it has ended.
func TestCountersOfNetworks(t *testing.T) {
	port, sock, other := twoContainers(t, datapath.TrustNone)
	frame := udp4(t, hostMAC, hostIP4, otherMAC, otherIP4)
	for range 5 {
		sock.send(t, frame)
		other.receive(t)
	}
	carried := func() datapath.Traffic {
		for _, n := range plane.Stats().Networks {
			if n.VNI == vni {
				return n.Traffic
			}
		}
		return datapath.Traffic{}
	}
	var before datapath.Traffic
	waitFor(t, "a count of 5 packets", func() bool { // a frame is there before it is counted
		before = carried()
		return before.RxPackets >= 5 && before.TxBytes >= 5*uint64(len(frame))
	})
	must(t, plane.DelPort(port))
	if after := carried(); after.RxPackets < before.RxPackets || after.RxBytes < before.RxBytes || after.TxPackets < before.TxPackets || after.TxBytes < before.TxBytes {
		t.Errorf("counted %+v after %+v", after, before)
	}
}
