package datapath_test

import (
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/overlane/overlane/datapath"
	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// The testbed: a host whose datapath runs in this process, containers on it, and a peer that is a Linux vxlan device, each
// in a network namespace. The wire between host and peer is a veth pair of MTU 1500 with IPv4 and IPv6.
const (
	vni      = 4200
	hostMAC  = "02:42:0a:3e:00:01"
	peerMAC  = "02:42:0a:3e:00:02"
	innerMTU = 1430 // what IPv6 outside leaves

	// underlayEnv names the underlay's device when the tests run for one: see TestUnderlays.
	underlayEnv = "OVERLANE_TEST_UNDERLAY"
	// vtepEnv is the host's VTEP address when they run for another one.
	vtepEnv = "OVERLANE_TEST_VTEP"
)

var (
	hostNS      = fmt.Sprintf("ovtest%d-host", os.Getpid())
	containerNS = fmt.Sprintf("ovtest%d-container", os.Getpid())
	testAlias   = fmt.Sprintf("test:%d:", os.Getpid()) // before a tap's name: taps of other runs are not ours
	peerNS      = fmt.Sprintf("ovtest%d-peer", os.Getpid())

	hostWire  = netip.MustParseAddr("10.9.2.1")
	peerWire  = netip.MustParseAddrPort("10.9.2.2:4789")
	peerWire6 = netip.MustParseAddrPort("[fd09:2::2]:4789")

	nativeDir = fmt.Sprintf("/run/ovtest%d", os.Getpid())

	plane    *datapath.Datapath
	hostWork = make(chan func())
)

func TestMain(m *testing.M) {
	code := 1
	defer func() { os.Exit(code) }()
	if os.Getenv(pretendEnv) != "" {
		datapath.PretendHugepages()
	}
	removeNamespaces() // of this process, where it starts again
	defer removeNamespaces()
	if err := makeNamespaces(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	ready := make(chan error)
	go hostThread(ready)
	if err := <-ready; err != nil {
		fmt.Fprintln(os.Stderr, "datapath:", err)
		return
	}
	code = m.Run()
	onHost(func() { plane.Close() })
}

// usableCPUs are those that the process may use.
func usableCPUs() (cpus []int) {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		panic(err)
	}
	for cpu := range len(allowed) * 64 {
		if allowed.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	return cpus
}

// hostThread is the daemon's thread: it lives in the host's namespace, and so do the sockets and taps made on it.
func hostThread(ready chan<- error) {
	runtime.LockOSThread()
	ns, err := netns.GetFromName(hostNS)
	if err == nil {
		err = netns.Set(ns)
	}
	if err == nil {
		log := logrus.New()
		log.SetLevel(logrus.DebugLevel)
		underlay := os.Getenv(underlayEnv)
		cpus := usableCPUs()
		cpus = cpus[:min(2, len(cpus))]
		if underlay == "wire" {
			cpus = cpus[:1] // net_af_xdp sees one queue of a veth, however many it has
		}
		plane, err = datapath.Open(datapath.Config{CPUs: cpus, VTEP: ownVTEP(), Port: 4789, Underlay: datapath.Underlay{Device: underlay}, Log: log, NativeDir: nativeDir})
	}
	ready <- err
	for work := range hostWork {
		work()
	}
}

func ownVTEP() netip.Addr {
	return netip.MustParseAddr(cmp.Or(os.Getenv(vtepEnv), hostWire.String()))
}

func onHost(work func()) {
	done := make(chan struct{})
	hostWork <- func() { defer close(done); work() }
	<-done
}

func makeNamespaces() error {
	for _, line := range []string{
		"ip netns add " + hostNS, "ip netns add " + containerNS, "ip netns add " + peerNS,
		"ip -n " + containerNS + " link set lo up", "ip -n " + peerNS + " link set lo up", "ip -n " + hostNS + " link set lo up",
		"ip link add wire netns " + hostNS + " type veth peer name wire netns " + peerNS,
		"ip -n " + hostNS + " addr add 10.9.2.1/24 dev wire", "ip -n " + peerNS + " addr add 10.9.2.2/24 dev wire",
		"ip -n " + hostNS + " addr add fd09:2::1/64 dev wire nodad", "ip -n " + peerNS + " addr add fd09:2::2/64 dev wire nodad",
		"ip -n " + hostNS + " link set wire up", "ip -n " + peerNS + " link set wire up",
	} {
		if out, err := exec.Command("sh", "-c", line).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", line, err, out)
		}
	}
	return nil
}

func removeNamespaces() {
	for _, ns := range []string{hostNS, containerNS, peerNS} {
		exec.Command("ip", "netns", "del", ns).Run()
	}
	os.RemoveAll(nativeDir)
}

func parseMAC(text string) (m datapath.MAC) {
	fmt.Sscanf(text, "%02x:%02x:%02x:%02x:%02x:%02x", &m[0], &m[1], &m[2], &m[3], &m[4], &m[5])
	return m
}

// container makes a port on the network and moves its tap into the namespace as eth0, as Docker does.
func container(t testing.TB, ns, tap, mac string, mtu int, vni uint32, addrs ...string) datapath.PortID {
	t.Helper()
	return trusted(t, datapath.TrustNone, ns, tap, mac, mtu, vni, addrs...)
}

// trusted is a container that is trusted.
func trusted(t testing.TB, trust datapath.Trust, ns, tap, mac string, mtu int, vni uint32, addrs ...string) datapath.PortID {
	t.Helper()
	config := datapath.PortConfig{Name: tap, Alias: testAlias + tap, VNI: vni, MAC: parseMAC(mac), MTU: mtu, Trust: trust}
	for _, addr := range addrs {
		config.Addrs = append(config.Addrs, netip.MustParsePrefix(addr).Addr())
	}
	var id datapath.PortID
	var err error
	onHost(func() { id, err = plane.AddPort(config) })
	must(t, err)
	t.Cleanup(func() { onHost(func() { err = plane.DelPort(id) }); must(t, err) })
	run(t, hostNS, "ip link set "+tap+" netns "+ns)
	// Duplicate detection and solicitations of its own would count among the drops.
	run(t, ns, "ip link set "+tap+" name eth0 && cd /proc/sys/net/ipv6/conf/eth0 && echo 0 >dad_transmits && echo 0 >router_solicitations && ip link set eth0 up")
	for _, addr := range addrs {
		run(t, ns, "ip addr add "+addr+" dev eth0 nodad")
	}
	return id
}
