//go:build lab

package lab

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// An address that moves from one trusted container to another, as keepalived moves it, is reached where it is by all hosts, and by a
// container whose kernel remembered it elsewhere. Who is not trusted can't take it, and nobody can take another's own.
func testTrust(t *testing.T, c *Cluster) {
	floating := netip.MustParseAddr("10.20.9.9")
	network(t, c.Hosts, "app", 20, "-o", "trust=address")
	red, redAt := start(t, c.Hosts[0], "red", "app", "--cap-add", "NET_ADMIN")
	blue, blueAt := start(t, c.Hosts[1], "blue", "app", "--cap-add", "NET_ADMIN")
	green, err := c.Hosts[2].Run(t.Context(), "green", "--network", "name=app,driver-opt=trust=none", "--cap-add", "NET_ADMIN")
	must(t, err)
	greenAt := attachment(t, green, "app")
	reach(t, green, redAt.IPAddress, blueAt.IPAddress)

	take := func(from *Container, addr netip.Addr) {
		t.Helper()
		_, err := from.Exec(t.Context(), "sh", "-ec", fmt.Sprintf("ip address add %[1]s/16 dev eth0 && arping -q -U -c 1 -w 1 -I eth0 %[1]s || :", addr))
		must(t, err)
	}
	at := func(mac string) {
		t.Helper()
		began := time.Now()
		eventually(t, "green's kernel has the floating address at "+mac, settleTimeout, func() error {
			out, err := green.Exec(t.Context(), "sh", "-c", fmt.Sprintf("/usr/bin/ping -n -c 1 -W 1 %[1]s; ip neigh show %[1]s dev eth0", floating))
			if err == nil && (!strings.Contains(out, " 1 received") || !strings.Contains(out, mac)) {
				err = fmt.Errorf("%s", out)
			}
			return err
		})
		t.Logf("green reached it after %v", time.Since(began))
	}
	take(red, floating)
	at(redAt.MacAddress)
	_, err = red.Exec(t.Context(), "ip", "address", "del", floating.String()+"/16", "dev", "eth0")
	must(t, err)
	take(blue, floating)
	at(blueAt.MacAddress)

	spoofed := func(h *Host) uint64 { return status(t, h).Datapath.Drops["spoofed_ip"] }
	before := spoofed(green.Host)
	take(green, floating)
	if spoofed(green.Host) == before {
		t.Error("a container that is not trusted announced the floating address, and no drop called spoofed_ip counts it")
	}
	before = spoofed(blue.Host)
	take(blue, greenAt.IPAddress)
	if spoofed(blue.Host) == before {
		t.Error("a trusted container announced another's own address, and no drop called spoofed_ip counts it")
	}
	reach(t, red, floating, greenAt.IPAddress)
	if records := shell(t, red.Host, "overlane status records"); !strings.Contains(records, "+"+floating.String()) {
		t.Errorf("`overlane status records` does not show the floating address:\n%s", records)
	}
}

// Docker tells a driver nothing of --link-local-ip.
func testLinkLocal(t *testing.T, c *Cluster) {
	network(t, c.Hosts[:2], "app", 20)
	red, _ := start(t, c.Hosts[0], "red", "app", "--link-local-ip", "169.254.7.7")
	start(t, c.Hosts[1], "blue", "app", "--link-local-ip", "169.254.7.8")
	reach(t, red, netip.MustParseAddr("169.254.7.8"))
}
