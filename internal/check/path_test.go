package check

import (
	"net/netip"
	"testing"

	"github.com/overlane/overlane/internal/testns"
)

// wire puts this host, 10.9.5.1, before a router whose way on to the peer, 10.9.6.2, carries 1400 bytes.
func wire(t *testing.T) (router, peer string) {
	t.Helper()
	testns.Enter(t)
	namespaces := named(t, "router", "peer")
	router, peer = namespaces[0], namespaces[1]
	testns.Run(t,
		"ip link add near type veth peer name near netns "+router,
		"ip -n "+router+" link add far type veth peer name far netns "+peer,
		"ip addr add 10.9.5.1/24 dev near", "ip addr add fd09:5::1/64 dev near nodad", "ip link set near up",
		"ip -n "+router+" addr add 10.9.5.9/24 dev near", "ip -n "+router+" addr add fd09:5::9/64 dev near nodad",
		"ip -n "+router+" addr add 10.9.6.9/24 dev far", "ip -n "+router+" addr add fd09:6::9/64 dev far nodad",
		"ip -n "+router+" link set near up", "ip -n "+router+" link set far up mtu 1400",
		"ip netns exec "+router+" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1",
		"ip -n "+peer+" addr add 10.9.6.2/24 dev far", "ip -n "+peer+" addr add fd09:6::2/64 dev far nodad", "ip -n "+peer+" link set far up",
		"ip route add default via 10.9.5.9", "ip route add default via fd09:5::9",
		"ip -n "+peer+" route add default via 10.9.6.9", "ip -n "+peer+" route add default via fd09:6::9",
		"ping -q -c 1 -w 9 10.9.6.2", "ping -q -c 1 -w 9 fd09:6::2", // until the addresses may be used
	)
	return router, peer
}

func to(addr string) Peer { return Peer{Name: "host2", VTEP: netip.MustParseAddrPort(addr)} }

func from(addr string) Config { return Config{VTEP: netip.MustParseAddr(addr), UnderlayMTU: 1500} }

func TestPathNarrowerThanTheDevice(t *testing.T) {
	router, peer := wire(t)
	says(t, path(from("10.9.5.1"), to("10.9.5.9:4789")), OK, "MTU 1500", "up to 1450")

	c := from("10.9.5.1")
	says(t, path(c, to("10.9.6.2:4789")), Fail, "MTU 1400", "up to 1350", "get 1450", "com.docker.network.driver.mtu=1350", "to 1500")
	c.NetworkMTU = 1350
	says(t, path(c, to("10.9.6.2:4789")), OK, "MTU 1400", "up to 1350")
	c = from("10.9.5.1")
	c.Encrypt = true
	says(t, path(c, to("10.9.6.2:4789")), Fail, "MTU 1400: containers of encrypted networks may have up to 1308, and get 1408", "com.docker.network.driver.mtu=1308", "to 1500")
	c.EncryptedMTU = 1308
	says(t, path(c, to("10.9.6.2:4789")), OK, "encrypted networks may have up to 1308, and get 1308")
	c.NetworkMTU = 1380
	says(t, path(c, to("10.9.6.2:4789")), Fail, "MTU 1400: containers may have up to 1350, and get 1380; containers of encrypted networks", "mtu=1350", "to 1430")
	says(t, path(from("fd09:5::1"), to("[fd09:6::2]:4789")), Fail, "MTU 1400", "up to 1330", "get 1430", "mtu=1330")

	// What this host's own route says, the datapath obeys.
	testns.Run(t, "ip route add 10.9.5.9/32 dev near mtu 1300")
	says(t, path(from("10.9.5.1"), to("10.9.5.9:4789")), Fail, "MTU 1300", "up to 1250")

	// A router that says nothing of what it drops.
	testns.Run(t, "ip netns exec "+router+" iptables -A OUTPUT -p icmp --icmp-type fragmentation-needed -j DROP")
	says(t, path(from("10.9.5.1"), to("10.9.6.2:4789")), Fail, "MTU 1400")

	testns.Run(t, "ip netns exec "+peer+" sysctl -qw net.ipv4.icmp_echo_ignore_all=1")
	says(t, path(from("10.9.5.1"), to("10.9.6.2:4789")), Warn, "10.9.6.2 answers no ICMP echo", "pass ICMP echo between 10.9.5.1 and 10.9.6.2")
}

func TestPathOfADeviceThatComesWithTheDaemon(t *testing.T) {
	c := from("198.51.100.1")
	c.UnderlayMTU = 0
	says(t, path(c, to("198.51.100.2:4789")), Warn, "198.51.100.1 is on this host while the daemon runs", "start the daemon")
}
