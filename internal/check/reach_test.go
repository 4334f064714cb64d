package check

import (
	"net"
	"net/netip"
	"testing"

	"github.com/overlane/overlane/internal/testns"
)

func TestPeersThatTakeVXLANOrDoNot(t *testing.T) {
	testns.Enter(t)
	silent, err := net.ListenPacket("udp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	testns.Run(t, "iptables -A OUTPUT -d 127.0.0.4 -j DROP")
	results := vxlan(Config{Peers: []Peer{
		{Name: "silent", VTEP: netip.MustParseAddrPort(silent.LocalAddr().String())},
		to("127.0.0.3:4789"), to("127.0.0.4:4789"), to("192.0.2.1:4789"),
	}})
	if len(results) != 4 {
		t.Fatalf("%d results, want 4: %+v", len(results), results)
	}
	says(t, results[0], OK, "nothing refuses it", "can't be told")
	says(t, results[1], Fail, "nothing there takes UDP port 4789", "start overlane there")
	says(t, results[2], Fail, "this host's firewall drops it", "127.0.0.4:4789")
	says(t, results[3], Fail, "unreachable", "a route to 192.0.2.1")
}

func TestPeersThatGossipOrDoNot(t *testing.T) {
	testns.Enter(t)
	l, err := net.Listen("tcp", "127.0.0.2:7950")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	own := netip.MustParseAddr("127.0.0.1")
	says(t, Gossip(own, Peer{Name: "host2", Gossip: netip.MustParseAddrPort("127.0.0.2:7950")}), OK, "127.0.0.2:7950 takes connections")
	says(t, Gossip(own, Peer{Name: "host3", Gossip: netip.MustParseAddrPort("127.0.0.3:7950")}), Fail, "refused", "TCP and UDP port 7950")
}

// As on machines of Vagrant's: each advertises 10.0.2.15, and takes no connection at the address by which the others know it.
func TestPeersThatAdvertiseOneAddress(t *testing.T) {
	testns.Enter(t)
	testns.Run(t, "ip link add nat type veth", "ip addr add 10.0.2.15/24 dev nat", "ip link set nat up",
		"ip link add lan type veth peer name far", "ip addr add 192.0.2.1/24 dev lan", "ip link set lan up", "ip link set far up",
		"iptables -A OUTPUT -d 192.0.2.2 -p tcp -j REJECT --reject-with tcp-reset")
	r := Gossip(netip.MustParseAddr("10.0.2.15"), Peer{Name: "host2", Gossip: netip.MustParseAddrPort("192.0.2.2:7950")})
	says(t, r, Fail, "this host advertises 10.0.2.15", "--advertise 192.0.2.1 here", "else start overlane there")
	silent := Gossip(netip.MustParseAddr("192.0.2.1"), Peer{Name: "host3", Gossip: netip.MustParseAddrPort("192.0.2.3:7950")})
	says(t, silent, Fail, "timeout", "TCP and UDP port 7950", "no answer of any kind")
}
