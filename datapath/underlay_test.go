package datapath_test

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/overlane/overlane/datapath"
)

// TestUnderlays runs the tests of the package anew for a device that carries VXLAN over the wire, and for the other kinds those that have
// to do with what they send and receive.
func TestUnderlays(t *testing.T) {
	if os.Getenv(underlayEnv) != "" {
		return // this is such a run
	}
	for name, u := range map[string]struct{ device, vtep, tests string }{
		"wire":       {"wire", "", "."},
		"af_packet":  {"net_af_packet0,iface=wire,qpairs=2", "", "ESP|Interop|Group|SuperFrame|Congestion|Host|NextHops|Path|Underlay|Checksum|PortsComeAndGo"},
		"tun":        {datapath.UnderlayTun, "", "TestESP|TestSuperFrames|TestInteropWithLinux"},
		"tun, IPv6 ": {datapath.UnderlayTun, "fd09:2::1", "TestSuperFrames"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each has a host of its own
			tests := exec.Command(os.Args[0], "-test.v", "-test.run", u.tests,
				"-test.skip", "Testpmd") // it keeps a CPU busy, and has nothing to do with the underlay
			if end, ok := t.Deadline(); ok { // its own comes first, and tells where it was
				tests.Args = append(tests.Args, "-test.timeout", (time.Until(end) * 9 / 10).String())
			}
			tests.Env = append(os.Environ(), underlayEnv+"="+u.device, vtepEnv+"="+u.vtep)
			out, err := tests.CombinedOutput()
			if lacks := datapath.TryWhole(); u.device == datapath.UnderlayTun && lacks != nil && strings.Contains(lacks.Error(), "Linux 6.17") {
				if err == nil || !strings.Contains(string(out), lacks.Error()) {
					t.Errorf("on this kernel the way out is not told: %v\n%s", err, out)
				}
			} else if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// What the host itself says and hears on the interface is none of overlane's business.
func TestHostIsUndisturbed(t *testing.T) {
	kernelPeer(t, peerWire)
	container(t, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24", hostIP6+"/64")
	load := start(t, containerNS, "ping", "-q", "-i", "0.001", "-c", fmt.Sprint(loadPings), "-s", "1300", peerIP4)
	copyBulk(t, hostNS, peerNS, "10.9.2.2")
	copyBulk(t, peerNS, hostNS, "10.9.2.1")
	copyBulk(t, hostNS, peerNS, "fd09:2::2")
	for _, size := range []int{0, 1, 17, 1472, 4000} { // shorter than a header, and longer than a frame
		run(t, peerNS, fmt.Sprintf("ping -q -c 10 -i 0.01 -s %d 10.9.2.1", size))
	}
	if err := load.Wait(); err != nil {
		t.Errorf("the containers' traffic meanwhile: %v: %s", err, load.output)
	}
}

// The way to a VTEP follows the kernel's neighbours and routes while traffic runs.
func TestNextHops(t *testing.T) {
	run(t, peerNS, "ip addr add 10.9.3.1/32 dev lo && echo 1 >/proc/sys/net/ipv4/conf/wire/arp_notify")
	defer run(t, peerNS, "ip addr del 10.9.3.1/32 dev lo")
	run(t, hostNS, "ip route add 10.9.3.0/24 via 10.9.2.2")
	defer run(t, hostNS, "ip route del 10.9.3.0/24")
	kernelPeer(t, netip.MustParseAddrPort("10.9.3.1:4789"))
	container(t, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24")
	throughDevice := func(what string, want int) {
		t.Helper()
		waitFor(t, what, func() bool {
			run(t, containerNS, "ping -q -c 1 -W 1 "+peerIP4+" >/dev/null || true")
			device := plane.Stats().Device
			return device == nil || device.NextHops == want
		})
	}
	reaches := func(what string) {
		t.Helper()
		waitFor(t, what, func() bool {
			return !strings.Contains(run(t, containerNS, "ping -q -c 1 -W 1 "+peerIP4+" || true"), " 0 received")
		})
	}

	throughDevice("the neighbour is resolved by the first packet", 1)
	reaches("through a gateway")
	run(t, peerNS, "ip link set wire address 02:00:00:00:00:99")
	reaches("the gateway has another MAC")
	run(t, hostNS, "ip neigh flush dev wire")
	throughDevice("the neighbour is resolved again", 1)
	reaches("after the neighbours were forgotten")
	run(t, hostNS, "ip route del 10.9.3.0/24 && ip route add blackhole 10.9.3.0/24")
	throughDevice("no route leads to the VTEP", 0)
	run(t, hostNS, "ip route del 10.9.3.0/24 && ip route add 10.9.3.0/24 via 10.9.2.2")
	throughDevice("the route is back", 1)
	reaches("after the route came back")
}

func TestUnderlayErrors(t *testing.T) {
	for want, u := range map[string]datapath.Underlay{
		"no interface of this host":        {Device: "nowhere0"},
		"takes all that the interface":     {Device: "net_af_xdp0,iface=wire"},
		"the underlay's address is for a ": {Addr: netip.MustParsePrefix("192.0.2.1/24")},
		"use an address that the host has": {Device: datapath.UnderlayTun, Addr: netip.MustParsePrefix("192.0.2.1/24")},
	} {
		if err := u.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want an error with %q", u, err, want)
		}
	}
	for _, device := range []string{"", datapath.UnderlayTun, "net_memif0,role=client", "0000:01:00.0", "01:00.0,class=vdpa"} {
		if err := (datapath.Underlay{Device: device}).Check(); err != nil {
			t.Errorf("%q: %v", device, err)
		}
	}
}
