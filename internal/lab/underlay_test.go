//go:build lab

package lab

import (
	"cmp"
	"os"
	"slices"
	"testing"
)

// underlayVariable names what carries VXLAN when all tests run for one kind: see TestAllOnUnderlays.
const underlayVariable = "LAB_UNDERLAY"

var (
	underlay    = os.Getenv(underlayVariable)
	sharedName  = "lab-" + cmp.Or(underlay, "tests")
	sharedHosts = 3
)

func init() {
	if underlay == "memif" { // a cable between two
		sharedHosts = 2
	}
}

// Each kind of device that can carry VXLAN does.
func TestUnderlays(t *testing.T) {
	c := cluster(t)
	two, third := pair(slices.Clone(c.Hosts))
	stop(t, third)
	for _, kind := range []string{"af_xdp", "af_packet", "memif"} {
		t.Run(kind, func(t *testing.T) {
			restartWith(t, two.Hosts, func(*Host) string { return "export UNDERLAY=" + kind })
			acquainted(t, two)
			network(t, two.Hosts, "app", 20)
			red, redAt := start(t, two.Hosts[0], "red", "app")
			blue, blueAt := start(t, two.Hosts[1], "blue", "app")
			reach(t, red, blueAt.IPAddress, blueAt.GlobalIPv6Address)
			download(t, red, blue, blueAt.IPAddress)
			download(t, blue, red, redAt.GlobalIPv6Address)
		})
	}
}

// pair finds the two of three hosts that start-overlane gives the ends of a memif: their addresses differ in the last bit.
func pair(hosts []*Host) (two *Cluster, third *Host) {
	slices.SortFunc(hosts, func(a, b *Host) int { return a.Addr.Compare(b.Addr) })
	if hosts[0].Addr.As4()[3]%2 == 0 {
		return &Cluster{Hosts: hosts[:2]}, hosts[2]
	}
	return &Cluster{Hosts: hosts[1:]}, hosts[0]
}
