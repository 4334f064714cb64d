package datapath_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/overlane/overlane/datapath"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

func TestHasTap(t *testing.T) {
	must(t, plane.AddNetwork(vni))
	t.Cleanup(func() { must(t, plane.DelNetwork(vni)) })
	container(t, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24")
	plain := filepath.Join(t.TempDir(), "plain")
	must(t, os.WriteFile(plain, nil, 0o600))
	for name, c := range map[string]struct {
		path, alias string
		want        bool
	}{
		"there":                {"/run/netns/" + containerNS, "test:ovtest0", true},
		"elsewhere":            {"/run/netns/" + hostNS, "test:ovtest0", false},
		"another alias":        {"/run/netns/" + containerNS, "test:ovtest1", false},
		"namespace is gone":    {plain + "x", "test:ovtest0", false},
		"namespace is unbound": {plain, "test:ovtest0", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := plane.HasTap(c.path, c.alias); err != nil || got != c.want {
				t.Errorf("got %v (%v), want %v", got, err, c.want)
			}
		})
	}
}

// A tap may have been made for more workers than there are now, or for fewer.
func TestTapOfOtherWorkers(t *testing.T) {
	for _, queues := range []string{"one_queue", "multi_queue"} {
		t.Run(queues, func(t *testing.T) {
			run(t, hostNS, "ip tuntap add dev ovtest0 mode tap vnet_hdr "+strings.TrimPrefix(queues, "one_queue")+" && ip link set ovtest0 alias test:ovtest0 address "+hostMAC+fmt.Sprintf(" mtu %d", innerMTU))
			kernelPeer(t, peerWire)
			container(t, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24")
			copyBulk(t, containerNS, peerNS, peerIP4)
			copyBulk(t, peerNS, containerNS, hostIP4)
		})
	}
}

func TestPorts(t *testing.T) {
	must(t, plane.AddNetwork(vni))
	t.Cleanup(func() { must(t, plane.DelNetwork(vni)) })
	good := datapath.PortConfig{Name: "ovtest0", Alias: "test:ovtest0", VNI: vni, MAC: parseMAC(hostMAC), MTU: innerMTU, Addrs: []netip.Addr{netip.MustParseAddr(hostIP4)}}
	add := func(c datapath.PortConfig) (id datapath.PortID, err error) {
		onHost(func() { id, err = plane.AddPort(c) })
		return id, err
	}
	id, err := add(good)
	must(t, err)
	if again, err := add(good); err != nil || again != id {
		t.Errorf("the same port again is %d (%v), want %d", again, err, id)
	}
	if taps := run(t, hostNS, "ip -br link show ovtest0 | wc -l"); taps != "1" {
		t.Errorf("%s taps, want 1", taps)
	}
	for want, change := range map[string]func(*datapath.PortConfig){
		`port name "a-name-of-sixteen": want 1 to 15`: func(c *datapath.PortConfig) { c.Name = "a-name-of-sixteen" },
		"alias is empty":                      func(c *datapath.PortConfig) { c.Alias = "" },
		"address 10.62.0.1 is that of 02:42":  func(c *datapath.PortConfig) { c.Alias, c.MAC = "test:other", parseMAC(secondMAC) },
		"alias test:ovtest0 is open with VN":  func(c *datapath.PortConfig) { c.MAC = parseMAC(secondMAC) },
		"with alias \"test:ovtest0\" instead": func(c *datapath.PortConfig) { c.Alias, c.MAC, c.Addrs = "test:other", parseMAC(secondMAC), nil },
		"MAC 01:00:00:00:00:00: want a uni":   func(c *datapath.PortConfig) { c.MAC = datapath.MAC{1} },
		"MTU 67: want 68 to":                  func(c *datapath.PortConfig) { c.MTU = 67 },
		"address 224.0.0.1: want a unicast":   func(c *datapath.PortConfig) { c.Addrs = []netip.Addr{netip.MustParseAddr("224.0.0.1")} },
		"10.62.0.2: a port has one address":   func(c *datapath.PortConfig) { c.Addrs = append(c.Addrs, netip.MustParseAddr("10.62.0.2")) },
		"VNI 0: want 1 to 16777215":           func(c *datapath.PortConfig) { c.VNI = 0 },
		"VNI 7: no such network":              func(c *datapath.PortConfig) { c.VNI = 7 },
		"MAC 02:42:0a:3e:00:01 is port ovte":  func(c *datapath.PortConfig) { c.Alias = "test:other" },
		"tap is gone": func(c *datapath.PortConfig) {
			c.Alias, c.MAC, c.Addrs, c.Netns = "test:other", parseMAC(secondMAC), nil, "/run/netns/"+containerNS
		},
	} {
		bad := good
		change(&bad)
		if _, err := add(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %q, want %q", err, want)
		}
	}
	if err := plane.DelNetwork(vni); err == nil || !strings.Contains(err.Error(), "1 ports are left") {
		t.Errorf("a network with a port was removed: %v", err)
	}
	for range 2 {
		onHost(func() { must(t, plane.DelPort(id)) })
	}
	if out := run(t, hostNS, "ip -br link show ovtest0 2>&1 || true"); !strings.Contains(out, "does not exist") {
		t.Errorf("the tap is left: %s", out)
	}
}

// A port whose tap is in no namespace is told apart from other failures.
func TestTapGone(t *testing.T) {
	must(t, plane.AddNetwork(vni))
	t.Cleanup(func() { must(t, plane.DelNetwork(vni)) })
	_, err := plane.AddPort(datapath.PortConfig{Name: "ovtest0", Alias: "test:ovtest0", Netns: "/run/netns/none", VNI: vni, MAC: parseMAC(hostMAC), MTU: innerMTU})
	if !errors.Is(err, datapath.ErrTapGone) {
		t.Errorf("%v, want %v", err, datapath.ErrTapGone)
	}
}

// A container that takes its own interface away costs the worker nothing.
func TestTapDeleted(t *testing.T) {
	must(t, plane.AddNetwork(vni))
	t.Cleanup(func() { must(t, plane.DelNetwork(vni)) })
	container(t, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24")
	run(t, containerNS, "ip link del eth0")
	var before, after unix.Rusage
	must(t, unix.Getrusage(unix.RUSAGE_SELF, &before))
	run(t, containerNS, "ping -q -c 10 -i 0.1 127.0.0.1")
	must(t, unix.Getrusage(unix.RUSAGE_SELF, &after))
	used := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
	if used > 200*time.Millisecond {
		t.Errorf("%v of CPU time in a second", used)
	}
}

// Two VTEPs may share an address: when one goes, the other's packets are still known.
func TestVTEPsOfOneAddress(t *testing.T) {
	must(t, plane.AddNetwork(vni))
	t.Cleanup(func() { must(t, plane.DelNetwork(vni)) })
	container(t, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24")
	sock, peer := rawSocket(t, containerNS), vtepSocket(t)
	other := netip.AddrPortFrom(peerWire.Addr(), 4790)
	arrives := func() {
		t.Helper()
		sent := udp4(t, peerMAC, peerIP4, hostMAC, hostIP4)
		_, err := peer.WriteToUDPAddrPort(vxlan(8, vni, sent), netip.AddrPortFrom(hostWire, 4789))
		must(t, err)
		sock.receive(t)
	}
	must(t, plane.SetMAC(vni, parseMAC(peerMAC), peerWire))
	arrives()
	must(t, plane.SetMAC(vni, parseMAC(secondMAC), other))
	arrives()
	must(t, plane.DelMAC(vni, parseMAC(secondMAC)))
	arrives()
}

func TestBadEntries(t *testing.T) {
	must(t, plane.AddNetwork(vni))
	t.Cleanup(func() { must(t, plane.DelNetwork(vni)) })
	mac := parseMAC(peerMAC)
	for want, err := range map[string]error{
		"VNI 0: want 1 to 16777215":                plane.AddNetwork(0),
		"VNI 7: no such network":                   plane.AddVTEP(7, peerWire),
		"MAC 33:33:00:00:00:01: want a unicast":    plane.SetMAC(vni, parseMAC("33:33:00:00:00:01"), peerWire),
		"VTEP 239.1.1.1:4789: want a unicast":      plane.SetMAC(vni, mac, netip.MustParseAddrPort("239.1.1.1:4789")),
		"VTEP 10.9.2.2:0: want a unicast":          plane.AddVTEP(vni, netip.AddrPortFrom(peerWire.Addr(), 0)),
		"VTEP [fe80::1%wire]:4789: want a unicast": plane.AddVTEP(vni, netip.MustParseAddrPort("[fe80::1%wire]:4789")),
		"address ff02::1: want a unicast":          plane.SetNeighbour(vni, netip.MustParseAddr("ff02::1"), mac, false),
		"opened before: DPDK starts once":          reopened(),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	must(t, plane.AddVTEP(vni, peerWire)) // the network is as it was
}

func reopened() error {
	_, err := datapath.Open(datapath.Config{CPUs: []int{0}, VTEP: hostWire, Port: 4789, Log: logrus.New()})
	return err
}
