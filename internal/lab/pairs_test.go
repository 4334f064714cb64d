//go:build lab

package lab

import (
	"fmt"
	"net/netip"
	"testing"
)

// Each container reaches the others by address and by name, whatever their hosts run, and an address that moves from host to host.
func TestEveryPair(t *testing.T) {
	const moving = "10.63.0.200"
	c := cluster(t)
	shell(t, c.Hosts[0], "overlane network create --ipv6 --subnet 10.63.0.0/24 --subnet fd00:63::/64 pairs")
	subnetOf(t, c.Hosts, "pairs", true)
	containers, at := make([]*Container, len(c.Hosts)), make([]Attachment, len(c.Hosts))
	for i, h := range c.Hosts {
		containers[i], at[i] = start(t, h, fmt.Sprint("pair", i), "pairs", "--dns", "127.0.0.1")
	}
	for _, from := range containers {
		for i, to := range containers {
			reach(t, from, at[i].IPAddress, at[i].GlobalIPv6Address)
			called(t, from, to.Name, at[i].IPAddress)
		}
	}
	for i, h := range c.Hosts {
		name := fmt.Sprint("moved", i)
		moved, _ := start(t, h, name, "pairs", "--ip", moving)
		for _, from := range containers {
			called(t, from, name, netip.MustParseAddr(moving))
			reach(t, from, netip.MustParseAddr(moving))
		}
		must(t, moved.Remove(t.Context()))
	}
}
