package check

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/overlane/overlane/internal/testns"
)

// own is a daemon's configuration on lo.
func own() Config {
	return Config{VXLANPort: 4789, Gossip: netip.MustParseAddrPort("127.0.0.1:7950"), Metrics: ":9750"}
}

func TestFreePorts(t *testing.T) {
	testns.Enter(t)
	results := ports(own())
	for i, name := range []string{"port 4789/udp", "port 7950/tcp", "port 7950/udp", "port 9750/tcp"} {
		says(t, results[i], OK, "free")
		if results[i].Check != name {
			t.Errorf("%s, want %s", results[i].Check, name)
		}
	}
	c := own()
	c.Gossip = netip.MustParseAddrPort("198.51.100.1:7950") // comes with the daemon
	says(t, ports(c)[1], OK, "free")
}

func TestTakenPorts(t *testing.T) {
	testns.Enter(t)
	vxlan, err := net.ListenPacket("udp", "127.0.0.1:4789")
	if err != nil {
		t.Fatal(err)
	}
	defer vxlan.Close()
	gossip, err := net.Listen("tcp", "[::]:7950")
	if err != nil {
		t.Fatal(err)
	}
	defer gossip.Close()
	this := fmt.Sprintf("check.test (process %d)", os.Getpid())
	results := ports(own())
	says(t, results[0], Fail, "taken by "+this, "--vxlan-port")
	says(t, results[1], Fail, "taken by "+this, "--gossip-port")
	says(t, results[2], OK, "free")

	rename(t, "overlane")
	says(t, ports(own())[0], Warn, fmt.Sprintf("taken by overlane (process %d)", os.Getpid()), "--control-socket")

	c := own()
	c.Daemon = os.Getpid()
	says(t, ports(c)[0], OK, "the daemon has it")
	says(t, ports(c)[1], OK, "the daemon has it")
}

// rename gives this process another name until the test ends.
func rename(t *testing.T, name string) {
	t.Helper()
	before, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/proc/self/comm", []byte(name), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.WriteFile("/proc/self/comm", before, 0) })
}

func TestPortTakenByTheKernel(t *testing.T) {
	testns.Enter(t)
	testns.Run(t, "ip link add vx7 type vxlan id 7 dstport 4789", "ip link set vx7 up")
	says(t, ports(own())[0], Fail, "the kernel's vxlan device vx7", "ip link del vx7")

	namespaces := named(t, "swarm")
	testns.Run(t, "ip link set vx7 netns "+namespaces[0]+" up")
	says(t, ports(own())[0], Fail, "does not show", "of a swarm", "--vxlan-port")
}
