package hostnet

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/overlane/overlane/internal/testns"
)

// kept is a host whose rules stay until the test ends: they go with the socket that owns them, which the collector closes when nobody has it any more.
func kept(t *testing.T) *Host {
	h := new(Host)
	t.Cleanup(func() { runtime.KeepAlive(h) })
	return h
}

// spoofTest is a host with a container behind a bridge that masquerades it, as Docker's does, another host of the cluster behind a card, and a
// third one that this host forwards for.
func spoofTest(t *testing.T) {
	testns.Enter(t)
	box, other, spoke := namespace("box"), namespace("other"), namespace("spoke")
	for _, ns := range []string{box, other, spoke} {
		testns.Run(t, "ip netns add "+ns)
		t.Cleanup(func() { output("ip netns del " + ns) })
	}
	testns.Run(t,
		"sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0",
		"ip link add docker_gwbridge type bridge", "ip addr add 172.18.0.1/16 dev docker_gwbridge", "ip addr add fd18::1/64 dev docker_gwbridge nodad", "ip link set docker_gwbridge up",
		"ip link add box type veth peer name eth0 netns "+box, "ip link set box master docker_gwbridge up",
		"ip link add up0 type veth peer name eth0 netns "+other, "ip addr add 192.0.2.1/24 dev up0", "ip addr add 2001:db8::1/64 dev up0 nodad", "ip link set up0 up",
		"ip link add up1 type veth peer name eth0 netns "+spoke, "ip addr add 198.51.100.1/24 dev up1", "ip link set up1 up",
		"nft add table inet nat", "nft 'add chain inet nat post { type nat hook postrouting priority 100; }'", "nft add rule inet nat post iifname docker_gwbridge masquerade",
	)
	for ns, addrs := range map[string][]string{box: {"172.18.0.2/16", "fd18::2/64"}, other: {"192.0.2.2/24", "2001:db8::2/64"}, spoke: {"198.51.100.2/24", "198.51.100.3/24"}} {
		for _, addr := range addrs {
			testns.Run(t, fmt.Sprintf("ip -n %s addr add %s dev eth0 nodad", ns, addr))
		}
		testns.Run(t, "ip -n "+ns+" link set eth0 up", "ip -n "+ns+" link set lo up")
	}
	testns.Run(t, "ip -n "+box+" route add default via 172.18.0.1", "ip -n "+box+" -6 route add default via fd18::1",
		"ip -n "+other+" route add 198.51.100.0/24 via 192.0.2.1", "ip -n "+spoke+" route add default via 198.51.100.1",
		"ip -n "+box+" addr add 198.51.100.2/32 dev lo") // with NET_RAW it needs none
}

// arrives says whether a datagram gets from one namespace's address to an address and port in another; empty: this host.
func arrives(t *testing.T, from, source, to, at string) bool {
	t.Helper()
	var l *net.UDPConn
	listen := func() (err error) {
		l, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(at)))
		return err
	}
	send := func() error {
		conn, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(source), 0)), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(at)))
		if err != nil {
			return err
		}
		defer conn.Close()
		for range 3 {
			if _, err := conn.Write([]byte("x")); err != nil {
				return err
			}
		}
		return nil
	}
	in := func(ns string, do func() error) {
		if ns == "" {
			must(t, do())
			return
		}
		within(t, namespace(ns), do)
	}
	in(to, listen)
	defer l.Close()
	in(from, send)
	must(t, l.SetReadDeadline(time.Now().Add(time.Second)))
	_, err := l.Read(make([]byte, 1))
	return err == nil
}

// A container can't pass for its host, nor for another host of the cluster, to anybody's VTEP; what is not the cluster's it reaches as before,
// and hosts reach each other through this one.
func TestAntispoof(t *testing.T) {
	spoofTest(t)
	type way struct{ from, source, to, at string }
	forged := []way{
		{"box", "172.18.0.2", "other", "192.0.2.2:4789"},
		{"box", "fd18::2", "other", "[2001:db8::2]:4789"},
		{"box", "198.51.100.2", "other", "192.0.2.2:4789"}, // with the address of the third one
		{"box", "198.51.100.2", "", "192.0.2.1:4789"},
	}
	honest := []way{
		{"", "192.0.2.1", "other", "192.0.2.2:4789"},
		{"other", "192.0.2.2", "", "192.0.2.1:4789"},
		{"spoke", "198.51.100.2", "other", "192.0.2.2:4789"},
		{"spoke", "198.51.100.3", "other", "192.0.2.2:4789"}, // which joins only now
		{"box", "172.18.0.2", "other", "192.0.2.2:5000"},
		{"box", "172.18.0.2", "other", "192.0.2.2:7950"}, // gossip tells by its key
		{"box", "fd18::2", "other", "[2001:db8::2]:5000"},
	}
	all := func(when string, ways []way, want bool) {
		t.Helper()
		for _, w := range ways {
			if got := arrives(t, w.from, w.source, w.to, w.at); got != want {
				t.Errorf("%s: from %s %s to %s arrives: %v", when, w.from, w.source, w.at, got)
			}
		}
	}
	var vteps []netip.AddrPort
	for _, host := range []string{"192.0.2.1", "192.0.2.2", "2001:db8::2", "198.51.100.2"} {
		vteps = append(vteps, netip.AddrPortFrom(netip.MustParseAddr(host), 4789))
	}
	all("before", forged, true)
	all("before", honest, true)
	h := kept(t)
	must(t, h.Antispoof(vteps[:1]))
	must(t, h.Antispoof(vteps))
	all("with the rules", forged, false)
	all("with the rules", honest, true)
	testns.Run(t, "nft flush ruleset")
	all("rules flushed", forged[2:], false)
	must(t, h.Antispoof(nil))
	all("no hosts", forged[3:], true)
}

// A thousand hosts are as good as one.
func TestAntispoofOfManyHosts(t *testing.T) {
	spoofTest(t)
	var vteps []netip.AddrPort
	for i := range 5000 {
		vteps = append(vteps, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 4789),
			netip.AddrPortFrom(netip.AddrFrom16([16]byte{0xfd, 1, 14: byte(i >> 8), 15: byte(i)}), 4789))
	}
	h := kept(t)
	for range 2 {
		must(t, h.Antispoof(append(vteps, netip.MustParseAddrPort("192.0.2.2:4789"))))
		if arrives(t, "box", "172.18.0.2", "other", "192.0.2.2:4789") {
			t.Error("a forged packet arrives")
		}
		vteps = vteps[:8000]
	}
	out, err := output("nft list table inet overlane-antispoof")
	if err != nil {
		t.Fatalf("%v: %.2000s", err, out)
	}
	for host, want := range map[string]bool{"10.1.0.0": true, "10.1.15.159": true, "10.1.15.160": false, "192.0.2.2": true} {
		if strings.Contains(out, host+" . 4789") != want {
			t.Errorf("%s is listed: %v", host, !want)
		}
	}
	// Newer nft ends where it is not told what the keys of a set are, and a set without is listed as of type integer or none.
	for _, of := range []string{"iface_index . iface_index", "ipv4_addr . inet_service", "ipv6_addr . inet_service", "ipv4_addr", "ipv6_addr"} {
		if !strings.Contains(out, "type "+of+"\n") {
			t.Errorf("no set of type %s in\n%.2000s", of, out)
		}
	}
}

// What a bridge switches from one machine to another passes, also where br_netfilter takes it through the host's rules, and the host has no
// address on the bridge.
func TestAntispoofLeavesSwitchedPackets(t *testing.T) {
	spoofTest(t)
	one, two := namespace("one"), namespace("two")
	testns.Run(t, "ip link add br0 type bridge", "ip link set br0 up")
	for i, ns := range []string{one, two} {
		link := fmt.Sprint("vm", i)
		testns.Run(t, "ip netns add "+ns, "ip link add "+link+" type veth peer name eth0 netns "+ns, "ip link set "+link+" master br0 up",
			fmt.Sprintf("ip -n %s addr add 203.0.113.%d/24 dev eth0", ns, i+1), "ip -n "+ns+" link set eth0 up")
		t.Cleanup(func() { output("ip netns del " + ns) })
	}
	testns.Run(t, "sysctl -qw net.bridge.bridge-nf-call-iptables=1", "nft add table inet seen", "nft 'add chain inet seen forward { type filter hook forward priority -400; }'",
		"nft add rule inet seen forward udp dport 4789 counter")
	h := kept(t)
	for _, vteps := range [][]string{{"203.0.113.2:4789"}, {"203.0.113.1:4789", "203.0.113.2:4789"}} { // the first is no host of the cluster, and is one
		var all []netip.AddrPort
		for _, v := range vteps {
			all = append(all, netip.MustParseAddrPort(v))
		}
		must(t, h.Antispoof(all))
		if !arrives(t, "one", "203.0.113.1", "two", "203.0.113.2:4789") {
			t.Errorf("with %v a packet that is switched does not arrive", vteps)
		}
	}
	out, err := output("nft list table inet seen")
	must(t, err)
	if strings.Contains(out, "packets 0") {
		t.Errorf("the packets did not pass the rules: %s", out)
	}
}
