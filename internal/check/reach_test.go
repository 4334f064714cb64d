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
	says(t, gossip(Peer{Name: "host2", Gossip: netip.MustParseAddrPort("127.0.0.2:7950")}), OK, "127.0.0.2:7950 takes connections")
	says(t, gossip(Peer{Name: "host3", Gossip: netip.MustParseAddrPort("127.0.0.3:7950")}), Fail, "refused", "TCP and UDP port 7950")
}
