package overlay_test

import (
	"net/netip"
	"testing"

	"github.com/overlane/overlane/internal/testns"
	"github.com/overlane/overlane/overlay"
)

// What the containers get is what the routes to the other hosts carry, wherever the VTEP's address lies.
func TestUnderlayMTU(t *testing.T) {
	testns.Enter(t)
	testns.Run(t,
		"ip link add wire mtu 1500 type veth peer name far", "ip addr add 10.9.7.1/24 dev wire", "ip link set wire up", "ip link set far up",
		"ip link add jumbo mtu 9000 type veth peer name farther", "ip addr add 10.9.8.1/24 dev jumbo", "ip link set jumbo up", "ip link set farther up",
		"ip addr add 192.0.2.1/32 dev lo",
		"ip -6 addr add fd09:7::1/64 dev wire nodad", "ip -6 addr add 2001:db8:1::1/128 dev lo nodad",
	)
	for _, c := range []struct {
		what, vtep string
		peers      []string
		setUp      string
		want       int
	}{
		{"on the wire, nobody there yet", "10.9.8.1", nil, "", 9000},
		{"on lo, nobody there and no route", "192.0.2.1", nil, "", 1500},
		{"on lo", "192.0.2.1", []string{"10.9.8.2"}, "", 9000},

		{"on lo, over IPv6", "2001:db8:1::1", []string{"fd09:7::2"}, "", 1500},
		{"by two wires", "192.0.2.1", []string{"10.9.8.2", "10.9.7.2"}, "", 1500},
		{"a peer without a route", "192.0.2.1", []string{"10.9.8.2", "198.51.100.9"}, "", 9000},
		{"on lo, nobody there: the default route", "192.0.2.1", nil, "ip route add default dev jumbo mtu 8000", 8000},
		{"a route that carries less", "10.9.8.1", []string{"10.9.9.2"}, "ip route add 10.9.9.0/24 via 10.9.8.2 mtu 1400", 1400},
		{"and one over IPv6", "fd09:7::1", []string{"fd09:9::2"}, "ip -6 route add fd09:9::/64 via fd09:7::2 mtu 1300", 1300},
		{"a rule about the VTEP's address", "10.9.8.1", []string{"10.9.11.2"}, "ip route add 10.9.11.0/24 via 10.9.8.2 && ip rule add from 10.9.8.1 lookup 101 && ip route add 10.9.11.0/24 via 10.9.8.2 mtu 1350 table 101", 1350},
		{"nobody there: the default route of its family", "2001:db8:1::1", nil, "ip -6 route add default dev jumbo mtu 7000", 7000},
		{"several ways at once", "192.0.2.1", []string{"10.9.10.2"}, "ip route add 10.9.10.0/24 nexthop via 10.9.8.2 nexthop via 10.9.7.2", 1500},
	} {
		if c.setUp != "" {
			testns.Run(t, c.setUp)
		}
		var peers []netip.Addr
		for _, p := range c.peers {
			peers = append(peers, netip.MustParseAddr(p))
		}
		if mtu, err := overlay.UnderlayMTU(netip.MustParseAddr(c.vtep), peers); err != nil || mtu != c.want {
			t.Errorf("%s: %d (%v), want %d", c.what, mtu, err, c.want)
		}
	}
	_, err := overlay.UnderlayMTU(netip.MustParseAddr("203.0.113.7"), nil)
	wantError(t, err, "203.0.113.7", "no network device")
}
