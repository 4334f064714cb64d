//go:build lab

package lab

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// A Linux vxlan device, which speaks no gossip, is in a network by a line in a file, and both sides reach each other.
func TestStaticVTEP(t *testing.T) {
	const (
		vni = 5000
		mac = "02:42:0a:14:09:09"
	)
	addr := netip.MustParseAddr("10.20.9.9")
	c := cluster(t)
	here, linux := c.Hosts[0], c.Hosts[1]
	stop(t, linux)
	restartWith(t, c.Hosts[:1], func(*Host) string {
		return fmt.Sprintf("echo '%d %s %s %s # a Linux host' >/etc/static; export OVERLANE_STATIC=/etc/static", vni, mac, addr, linux.Addr)
	})
	network(t, c.Hosts[:1], "app", 20, "--opt", fmt.Sprint("vni=", vni))
	red, redAt := start(t, here, "red", "app")

	putBack(t, func() { shell(t, linux, "ip link del vx0") })
	shell(t, linux, strings.Join([]string{
		fmt.Sprintf("ip link add vx0 address %s mtu 1450 type vxlan id %d dstport 4789 local %s", mac, vni, linux.Addr),
		fmt.Sprintf("bridge fdb append %s dev vx0 dst %s", redAt.MacAddress, here.Addr),
		fmt.Sprintf("ip addr add %s/16 dev vx0 && ip link set vx0 up", addr),
		fmt.Sprintf("ip neigh replace %s lladdr %s dev vx0", redAt.IPAddress, redAt.MacAddress),
	}, "\n"))
	reach(t, red, addr)
	shell(t, linux, fmt.Sprintf("for i in 1 2 3; do ping -q -c 1 -W 5 %s || exit; done", redAt.IPAddress))
	if records := strings.Join(recordsOf(t, here), "\n"); !strings.Contains(records, mac) {
		t.Errorf("`overlane status records` does not show it:\n%s", records)
	}
}
