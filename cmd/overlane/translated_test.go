package main

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/internal/testns"
	"github.com/overlane/overlane/overlay"
)

// What this host sends to a member leaves from an address that nobody takes VXLAN from: the table of members says so.
func TestMembersToWhomTheSourceIsRewritten(t *testing.T) {
	testns.Enter(t)
	testns.Run(t, "ip link add wire type veth peer name far", "ip link set wire up", "ip link set far up",
		"ip addr add 192.0.2.1/24 dev wire", "ip addr add 192.0.2.5/24 dev wire", "ip neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev wire",
		"iptables -t nat -A POSTROUTING -o wire -j MASQUERADE")
	conn, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP("192.0.2.5")}, &net.UDPAddr{IP: net.ParseIP("192.0.2.2"), Port: 4789})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("a packet")); err != nil {
		t.Fatal(err)
	}
	members := translated([]overlay.MemberStatus{
		{Host: "host1", State: discovery.StateAlive, VTEP: netip.MustParseAddrPort("192.0.2.5:4789"), Self: true},
		{Host: "host2", State: discovery.StateAlive, VTEP: netip.MustParseAddrPort("192.0.2.2:4789")},
		{Host: "host3", State: discovery.StateAlive, VTEP: netip.MustParseAddrPort("192.0.2.3:4789")},
	})
	for i, want := range []string{"", "from 192.0.2.5 to 192.0.2.1, where it is dropped as vtep_unknown: iptables -t nat -A POSTROUTING -o wire -j MASQUERADE", ""} {
		if m := members[i]; !strings.Contains(m.Reason, want) || (want == "") != (m.Reason == "") || (want == "") != (m.Advice == "") {
			t.Errorf("%s: %+v, want %q", m.Host, m.Health, want)
		}
	}
}
