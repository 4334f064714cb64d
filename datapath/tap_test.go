package datapath_test

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/overlane/overlane/datapath"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

func testPort(netns string) datapath.PortConfig {
	return datapath.PortConfig{
		Name: "ovtest0", Alias: testAlias + "ovtest0", Netns: netns, VNI: vni, MAC: parseMAC(hostMAC), MTU: innerMTU,
		Addrs: []netip.Addr{netip.MustParseAddr(hostIP4)},
	}
}

var movedNS = fmt.Sprintf("ovtest%d-moved", os.Getpid())

// addNamespace makes movedNS until the end, or until it is told.
func addNamespace(t *testing.T) (del func()) {
	t.Helper()
	must(t, exec.Command("ip", "netns", "add", movedNS).Run())
	del = sync.OnceFunc(func() { must(t, exec.Command("ip", "netns", "del", movedNS).Run()) })
	t.Cleanup(del)
	return del
}

// A tap tells how it is in its container, and what the namespace has beside it.
func TestTapInContainer(t *testing.T) {
	must(t, plane.AddNetwork(vni, false))
	t.Cleanup(func() { must(t, plane.DelNetwork(vni)) })
	addNamespace(t)
	container(t, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24")
	port := testPort("/run/netns/" + containerNS)
	look := func() datapath.TapState {
		t.Helper()
		s, err := plane.Tap(port)
		must(t, err)
		s.Addrs = slices.DeleteFunc(s.Addrs, netip.Addr.IsLinkLocalUnicast)
		return s
	}
	own, mac := netip.MustParseAddr(hostIP4), port.MAC
	if s := look(); s.Name != "eth0" || !s.Up || s.MAC != mac || !slices.Equal(s.Addrs, []netip.Addr{own}) || slices.Contains(s.Others, own) {
		t.Errorf("as it was made: %+v", s)
	}
	run(t, containerNS, "ip addr del "+hostIP4+"/24 dev eth0; ip addr add "+hostIP4+"/32 dev lo; ip link set eth0 down; ip link set eth0 address 02:00:00:00:77:77")
	if s := look(); s.Up || s.MAC == mac || len(s.Addrs) > 0 || !slices.Contains(s.Others, own) {
		t.Errorf("changed: %+v", s)
	}
	run(t, containerNS, "ip link del eth0")
	if s, err := plane.Tap(port); !errors.Is(err, datapath.ErrTapGone) {
		t.Errorf("gone: %+v, %v", s, err)
	}
}

// A container's interface is the container's wherever it is and whatever it is called, for the daemon that made it and for the next
// one, which takes it back from there.
func TestInContainer(t *testing.T) {
	must(t, plane.AddNetwork(vni, false))
	t.Cleanup(func() { must(t, plane.DelNetwork(vni)) })
	plain := filepath.Join(t.TempDir(), "plain")
	must(t, os.WriteFile(plain, nil, 0o600))
	sandbox := "/run/netns/" + containerNS
	for name, c := range map[string]struct {
		path   string // of the sandbox, as this process sees it
		happen string // in the sandbox
		want   bool
	}{
		"there":                               {sandbox, "true", true},
		"renamed":                             {sandbox, "ip link set eth0 down; ip link set eth0 name wan", true},
		"another alias":                       {sandbox, "ip link set eth0 alias wan", true},
		"moved":                               {sandbox, "ip link set eth0 netns " + movedNS, true},
		"moved to the daemon's namespace":     {sandbox, "ip link set eth0 name wan; ip link set wan netns " + hostNS, true},
		"given back":                          {sandbox, "ip link set eth0 name ovtest0; ip link set ovtest0 netns " + hostNS, false},
		"gone":                                {sandbox, "ip link del eth0", false},
		"sandbox is not to be seen":           {plain + "x", "true", true},
		"sandbox's mount is not to be seen":   {plain, "true", true},
		"sandbox is not to be seen, and gone": {plain, "ip link del eth0", false},
	} {
		t.Run(name, func(t *testing.T) {
			addNamespace(t)
			t.Cleanup(func() { run(t, hostNS, "ip link del wan 2>/dev/null || true") })
			id := container(t, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24")
			run(t, containerNS, c.happen)
			ask := func(who string) {
				t.Helper()
				onHost(func() {
					if got, err := plane.InContainer(testPort(c.path)); err != nil || got != c.want {
						t.Errorf("%s: got %v (%v), want %v", who, got, err, c.want)
					}
				})
			}
			ask("the daemon that made it")
			must(t, plane.ForgetPort(id))
			ask("the next daemon")
			onHost(func() {
				again, err := plane.AddPort(testPort(c.path))
				if !c.want {
					if !errors.Is(err, datapath.ErrTapGone) {
						t.Errorf("taken back: %v", err)
					}
					again, err = plane.AddPort(testPort(""))
					must(t, err)
				}
				must(t, err)
				if c.want {
					if got, err := plane.InContainer(testPort(c.path)); err != nil || !got {
						t.Errorf("taken back: got %v (%v)", got, err)
					}
				}
				must(t, plane.DelPort(again))
			})
		})
	}
}

// A daemon that took a tap back keeps its namespace by that: when the container is gone nobody else does.
func TestNamespaceThatNobodyElseKeeps(t *testing.T) {
	must(t, plane.AddNetwork(vni, false))
	t.Cleanup(func() { must(t, plane.DelNetwork(vni)) })
	del := addNamespace(t)
	id := container(t, movedNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24")
	must(t, plane.ForgetPort(id))
	var again datapath.PortID
	var err error
	onHost(func() { again, err = plane.AddPort(testPort("/run/netns/" + movedNS)) })
	must(t, err)
	del()
	waitFor(t, "the tap to be nobody's", func() bool {
		got, err := plane.InContainer(testPort("/run/netns/" + movedNS))
		return err == nil && !got
	})
	must(t, plane.DelPort(again))
}

// Sockets of this process, as those for a container's queries, keep a namespace too.
func TestNamespaceThatASocketKeeps(t *testing.T) {
	must(t, plane.AddNetwork(vni, false))
	t.Cleanup(func() { must(t, plane.DelNetwork(vni)) })
	del := addNamespace(t)
	id := container(t, movedNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24")
	inNamespace(t, movedNS, func() error {
		conn, err := net.ListenPacket("udp4", "0.0.0.0:0")
		if err == nil {
			t.Cleanup(func() { conn.Close() })
		}
		return err
	})
	del()
	waitFor(t, "the tap to be nobody's", func() bool {
		got, err := plane.InContainer(testPort("/run/netns/" + movedNS))
		return err == nil && !got
	})
	must(t, plane.DelPort(id))
}

// A container may move its interface to a namespace that is younger than the last look at all of them.
func TestNamespaceThatIsNew(t *testing.T) {
	must(t, plane.AddNetwork(vni, false))
	t.Cleanup(func() { must(t, plane.DelNetwork(vni)) })
	container(t, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24")
	unknown := testPort("/run/netns/none")
	unknown.Alias, unknown.MAC = testAlias+"none", parseMAC("02:00:00:00:09:99")
	got, err := plane.InContainer(unknown)
	must(t, err)
	if got {
		t.Error("a tap that was never made is in a container")
	}
	addNamespace(t)
	run(t, containerNS, "ip link set eth0 netns "+movedNS)
	if got, err := plane.InContainer(testPort("/run/netns/" + containerNS)); err != nil || !got {
		t.Errorf("got %v (%v), want true", got, err)
	}
}

// A thread that ends while namespaces are looked into is no sign that a tap is gone: its namespace has another path, or the look is unsure.
func TestPathThatVanishes(t *testing.T) {
	const number = 7
	addNamespace(t)
	run(t, movedNS, "ip tuntap add dev wan mode tap && ip link set wan alias "+testAlias+"wan")
	vanished, there := map[uint64]string{number: "/proc/0/ns/net"}, map[uint64]string{number: "/run/netns/" + movedNS}
	plain := filepath.Join(t.TempDir(), "plain")
	must(t, os.WriteFile(plain, nil, 0o600))
	for name, c := range map[string]struct {
		lists []map[uint64]string // the last one for good
		check func(error) bool
	}{
		"it has another path":     {[]map[uint64]string{vanished, vanished, there}, func(err error) bool { return err == nil }},
		"its paths vanish always": {[]map[uint64]string{vanished}, func(err error) bool { return err != nil && !errors.Is(err, datapath.ErrTapGone) }},
		"its mount was taken off": {[]map[uint64]string{{number: plain}}, func(err error) bool { return err != nil && !errors.Is(err, datapath.ErrTapGone) }},
		"nobody keeps it":         {[]map[uint64]string{vanished, {}}, func(err error) bool { return errors.Is(err, datapath.ErrTapGone) }},
	} {
		t.Run(name, func(t *testing.T) {
			err := datapath.LookEverywhere(func() (map[uint64]string, error) {
				list := maps.Clone(c.lists[0])
				c.lists = c.lists[min(1, len(c.lists)-1):]
				return list, nil
			}, testAlias+"wan")
			if !c.check(err) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// What may be a container's interface is not taken for another's, nor for gone: the error says how to tell.
func TestInterfaceThatMayBeIt(t *testing.T) {
	must(t, plane.AddNetwork(vni, false))
	t.Cleanup(func() { must(t, plane.DelNetwork(vni)) })
	addNamespace(t)
	run(t, movedNS, "ip tuntap add dev wan mode tap vnet_hdr multi_queue && ip link set wan address "+hostMAC)
	plane.ForgetSurvey()
	t.Cleanup(plane.ForgetSurvey)
	_, err := plane.InContainer(testPort("/run/netns/" + containerNS))
	if err == nil || !strings.Contains(err.Error(), "ip link set wan alias "+testAlias+"ovtest0") {
		t.Errorf("got %v, want an error that says how to tell", err)
	}
	if _, err := plane.AddPort(testPort("/run/netns/" + containerNS)); err == nil || errors.Is(err, datapath.ErrTapGone) {
		t.Errorf("taken: %v", err)
	}
}

// A tap may have been made for more workers than there are now, or for fewer.
func TestTapOfOtherWorkers(t *testing.T) {
	for _, queues := range []string{"one_queue", "multi_queue"} {
		t.Run(queues, func(t *testing.T) {
			run(t, hostNS, "ip tuntap add dev ovtest0 mode tap vnet_hdr "+strings.TrimPrefix(queues, "one_queue")+" && ip link set ovtest0 alias "+testAlias+"ovtest0 address "+hostMAC+fmt.Sprintf(" mtu %d", innerMTU))
			kernelPeer(t, peerWire)
			container(t, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24")
			copyBulk(t, containerNS, peerNS, peerIP4)
			copyBulk(t, peerNS, containerNS, hostIP4)
		})
	}
}

func TestPorts(t *testing.T) {
	must(t, plane.AddNetwork(vni, false))
	t.Cleanup(func() { must(t, plane.DelNetwork(vni)) })
	good := datapath.PortConfig{Name: "ovtest0", Alias: testAlias + "ovtest0", VNI: vni, MAC: parseMAC(hostMAC), MTU: innerMTU, Addrs: []netip.Addr{netip.MustParseAddr(hostIP4)}}
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
		"alias is empty":                     func(c *datapath.PortConfig) { c.Alias = "" },
		"address 10.62.0.1 is that of 02:42": func(c *datapath.PortConfig) { c.Alias, c.MAC = testAlias+"other", parseMAC(secondMAC) },
		"ovtest0 is open with VN":            func(c *datapath.PortConfig) { c.MAC = parseMAC(secondMAC) },
		"ovtest0\" instead of \"test:":       func(c *datapath.PortConfig) { c.Alias, c.MAC, c.Addrs = testAlias+"other", parseMAC(secondMAC), nil },
		"MAC 01:00:00:00:00:00: want a uni":  func(c *datapath.PortConfig) { c.MAC = datapath.MAC{1} },
		"MTU 67: want 68 to":                 func(c *datapath.PortConfig) { c.MTU = 67 },
		"address 224.0.0.1: want a unicast":  func(c *datapath.PortConfig) { c.Addrs = []netip.Addr{netip.MustParseAddr("224.0.0.1")} },
		"10.62.0.2: a port has one address":  func(c *datapath.PortConfig) { c.Addrs = append(c.Addrs, netip.MustParseAddr("10.62.0.2")) },
		"VNI 0: want 1 to 16777215":          func(c *datapath.PortConfig) { c.VNI = 0 },
		"VNI 7: no such network":             func(c *datapath.PortConfig) { c.VNI = 7 },
		"MAC 02:42:0a:3e:00:01 is port ovte": func(c *datapath.PortConfig) { c.Alias = testAlias + "other" },
		"tap is gone": func(c *datapath.PortConfig) {
			c.Alias, c.MAC, c.Addrs, c.Netns = testAlias+"other", parseMAC(secondMAC), nil, "/run/netns/"+containerNS
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
	must(t, plane.AddNetwork(vni, false))
	t.Cleanup(func() { must(t, plane.DelNetwork(vni)) })
	plane.ForgetSurvey()
	_, err := plane.AddPort(datapath.PortConfig{Name: "ovtest0", Alias: testAlias + "ovtest0", Netns: "/run/netns/none", VNI: vni, MAC: parseMAC(hostMAC), MTU: innerMTU})
	if !errors.Is(err, datapath.ErrTapGone) {
		t.Errorf("%v, want %v", err, datapath.ErrTapGone)
	}
}

// A container that takes its own interface away costs the worker nothing.
func TestTapDeleted(t *testing.T) {
	must(t, plane.AddNetwork(vni, false))
	t.Cleanup(func() { must(t, plane.DelNetwork(vni)) })
	container(t, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24")
	run(t, containerNS, "ip link del eth0")
	runtime.GC() // else it may come now
	var before, after unix.Rusage
	began := time.Now()
	must(t, unix.Getrusage(unix.RUSAGE_SELF, &before))
	run(t, containerNS, "ping -q -c 10 -i 0.1 127.0.0.1")
	must(t, unix.Getrusage(unix.RUSAGE_SELF, &after))
	used := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
	if took := time.Since(began); used > took/2 { // a worker that goes on reading takes it all
		t.Errorf("%v of CPU time in %v", used, took)
	}
}

// Two VTEPs may share an address: when one goes, the other's packets are still known.
func TestVTEPsOfOneAddress(t *testing.T) {
	must(t, plane.AddNetwork(vni, false))
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
	must(t, plane.AddNetwork(vni, false))
	t.Cleanup(func() { must(t, plane.DelNetwork(vni)) })
	mac := parseMAC(peerMAC)
	for want, err := range map[string]error{
		"VNI 0: want 1 to 16777215":                plane.AddNetwork(0, false),
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
