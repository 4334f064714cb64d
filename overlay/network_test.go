package overlay_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/internal/bubble"
	"github.com/overlane/overlane/overlay"
	"github.com/overlane/overlane/overlay/overlaytest"
)

const otherID = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

func pools(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

func TestNetworkKey(t *testing.T) {
	for name, tc := range map[string]struct {
		options []string
		pools   []netip.Prefix
		key     string
		vni     uint32 // zero: what the cluster resolves
	}{
		"vni":                 {[]string{"vni", "16777215"}, pools("10.20.0.0/16"), "vni=16777215", 16777215},
		"name":                {[]string{"network", "app"}, pools("10.20.0.0/16"), "network=app", 0},
		"subnet":              {nil, pools("10.20.1.0/16"), "subnet=10.20.0.0/16", 0},
		"IPv4 before IPv6":    {nil, pools("fd00:20::/64", "10.20.0.0/16"), "subnet=10.20.0.0/16", 0},
		"IPv6 alone":          {nil, pools("fd00:20::1/64"), "subnet=fd00:20::/64", 0},
		"labels of Docker's":  {[]string{"com.docker.network.enable_ipv4", "true", "vni", "7"}, pools("10.20.0.0/16"), "vni=7", 7},
		"pool of null driver": {[]string{"vni", "8"}, pools("0.0.0.0/0"), "vni=8", 8},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			s := spec(tc.options...)
			s.Pools = tc.pools
			h.must(h.CreateNetwork(s))
			if tc.vni == 0 {
				tc.vni = h.cluster.Resolve(tc.key)
			}
			n := h.Status().Networks[0]
			if n.Key != tc.key || n.VNI != tc.vni {
				t.Errorf("got %s with VNI %d, want %s with VNI %d", n.Key, n.VNI, tc.key, tc.vni)
			}
			if !slices.Equal(h.cluster.Networks(), []string{tc.key}) || !h.datapath.Networks()[tc.vni] {
				t.Errorf("cluster has %v, datapath has %v", h.cluster.Networks(), h.datapath.Networks())
			}
		})
	}
}

func TestNetworkOptionErrors(t *testing.T) {
	known := "known options: vni, network, com.docker.network.driver.mtu"
	for name, tc := range map[string]struct {
		options []string
		pools   []netip.Prefix
		want    []string
	}{
		"unknown":                         {[]string{"colour", "blue"}, nil, []string{`option colour="blue"`, "unknown", known}},
		"bridge's":                        {[]string{"com.docker.network.bridge.name", "br0"}, nil, []string{`com.docker.network.bridge.name="br0"`, known}},
		"vni not a number":                {[]string{"vni", "0x10"}, nil, []string{`option vni="0x10"`, "1 to 16777215", known}},
		"vni zero":                        {[]string{"vni", "0"}, nil, []string{`option vni="0"`, "1 to 16777215"}},
		"vni too large":                   {[]string{"vni", "16777216"}, nil, []string{`option vni="16777216"`, "1 to 16777215"}},
		"vni and name":                    {[]string{"vni", "5", "network", "app"}, nil, []string{`vni="5"`, `network="app"`, "together", known}},
		"name empty":                      {[]string{"network", ""}, nil, []string{`option network=""`, "1 to 128", known}},
		"name with a space":               {[]string{"network", "a b"}, nil, []string{`option network="a b"`}},
		"MTU not a number":                {[]string{"com.docker.network.driver.mtu", "big"}, nil, []string{`com.docker.network.driver.mtu="big"`, "68 to 65456", known}},
		"MTU over underlay":               {[]string{"com.docker.network.driver.mtu", "1451"}, nil, []string{`mtu="1451"`, "underlay's MTU of 1500", "at most 1450", known}},
		"encrypted wrongly":               {[]string{"encrypted", "yes"}, nil, []string{`option encrypted="yes"`, "want true", "or false", known}},
		"MTU over an encrypted network's": {[]string{"encrypted", "", "com.docker.network.driver.mtu", "1409"}, nil, []string{`mtu="1409"`, "underlay's MTU of 1500", "at most 1408", known}},
		"MTU under IPv6's":                {[]string{"com.docker.network.driver.mtu", "1279"}, pools("fd00::/64"), []string{`mtu="1279"`, "IPv6", "1280"}},
		"no subnet":                       {nil, pools("0.0.0.0/0"), []string{"no subnet", "--subnet", "-o vni=", "-o network="}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			s := spec(tc.options...)
			if tc.pools != nil {
				s.Pools = tc.pools
			}
			wantError(t, h.CreateNetwork(s), tc.want...)
			if len(h.Status().Networks) > 0 || len(h.cluster.Networks()) > 0 {
				t.Error("the refused network is there")
			}
		})
	}
}

func TestMTU(t *testing.T) {
	for name, tc := range map[string]struct {
		vtep     string
		underlay int
		options  []string
		want     int
	}{
		"IPv4 VTEP":       {"192.0.2.1", 1500, nil, 1450},
		"IPv6 VTEP":       {"2001:db8::1", 1500, nil, 1430},
		"jumbo":           {"192.0.2.1", 9000, nil, 8950},
		"encrypted":       {"192.0.2.1", 1500, []string{"encrypted", ""}, 1408},
		"and over IPv6":   {"2001:db8::1", 1500, []string{"encrypted", "true"}, 1388},
		"plain":           {"192.0.2.1", 1500, []string{"encrypted", "false"}, 1450},
		"of the loopback": {"127.0.0.1", 65536, nil, 65456},
		"smaller":         {"192.0.2.1", 1500, []string{"com.docker.network.driver.mtu", "1300"}, 1300},
		"largest":         {"192.0.2.1", 1500, []string{"com.docker.network.driver.mtu", "1450"}, 1450},
		"smallest":        {"192.0.2.1", 1500, []string{"com.docker.network.driver.mtu", "68"}, 68},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.vtep, h.mtu = netip.MustParseAddr(tc.vtep), tc.underlay
			h.restart()
			h.must(h.CreateNetwork(spec(append(tc.options, "vni", "5000")...)))
			h.create(epID, "10.20.0.2")
			if got := h.datapath.Ports()[0].MTU; got != tc.want {
				t.Errorf("port has MTU %d, want %d", got, tc.want)
			}
		})
	}
}

// A container gets what the underlay carries today; the others keep what they have, and status says that it is too much.
func TestMTUOfTheDay(t *testing.T) {
	h := newHost(t)
	h.network()
	h.run(epID, "10.20.0.2")
	h.mtu = 1300
	h.run(ep2ID, "10.20.0.3")
	wantMTUs := func(want ...int) {
		t.Helper()
		var got []int
		for _, p := range h.datapath.Ports() {
			got = append(got, p.MTU)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("ports have MTUs %v, want %v", got, want)
		}
	}
	wantMTUs(1250, 1450)
	h.Observe([]discovery.Change{{Network: discovery.Network{Key: key, VNI: 5000}, Kind: discovery.KindVTEP, VTEP: overlaytest.Peer.VTEP}})
	if n := h.Status().Networks[0]; n.Widest != 1450 {
		t.Errorf("network: %+v", n)
	}
	if p := h.Status().Paths[0]; p.Host != "host2" || p.MTU != 1400 || !strings.Contains(p.Reason, "vni=5000 1450") || !strings.Contains(p.Advice, "mtu=1350") {
		t.Errorf("path: %+v", p)
	}
	h.must(h.DeleteEndpoint(netID, epID))
	if p := h.Status().Paths[0]; p.Reason != "" {
		t.Errorf("path: %+v", p)
	}
}

// The routes to a thousand hosts are looked at while other calls go on.
func TestNobodyWaitsForTheUnderlaysMTU(t *testing.T) {
	for name, slow := range map[string]func(h *host) error{
		"a container starts": func(h *host) error { _, err := h.CreateEndpoint(endpointSpec(ep2ID, "10.20.0.3")); return err },
		"a network is created": func(h *host) error {
			another := spec("vni", "5001")
			another.ID, another.Pools = strings.Repeat("d", 64), pools("10.21.0.0/16")
			return h.CreateNetwork(another)
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.network()
			h.run(epID, "10.20.0.2")
			looks, goOn := make(chan struct{}), make(chan struct{})
			h.routes = func() { close(looks); <-goOn }
			done, left := make(chan error), make(chan error, 1)
			go func() { done <- slow(h) }()
			<-looks
			go func() { left <- h.Leave(netID, epID) }()
			select {
			case err := <-left:
				h.must(err)
			case <-time.After(10 * time.Second):
				t.Error("another container waits")
			}
			close(goOn)
			h.must(<-done)
		})
	}
}

func TestMTUOutlivesTheDaemon(t *testing.T) {
	h := newHost(t)
	h.network()
	h.mtu = 1300
	h.run(epID, "10.20.0.2")
	h.mtu = 1500
	h.restart()
	if got := h.datapath.Ports()[0].MTU; got != 1250 {
		t.Errorf("port has MTU %d, want the 1250 that it was made with", got)
	}
}

// What the user asked for is an upper bound.
func TestMTUOfTheDayAndTheOption(t *testing.T) {
	h := newHost(t)
	h.must(h.CreateNetwork(spec("vni", "5000", "com.docker.network.driver.mtu", "1300")))
	h.mtu = 9000
	h.create(epID, "10.20.0.2")
	h.mtu = 1200
	h.create(ep2ID, "10.20.0.3")
	mtus := map[int]bool{}
	for _, p := range h.datapath.Ports() {
		mtus[p.MTU] = true
	}
	if !mtus[1300] || !mtus[1150] {
		t.Errorf("ports have MTUs %v, want 1300 and 1150", mtus)
	}
}

// Hosts tell each other how long a packet they receive.
func TestReceiveMTUIsAnnounced(t *testing.T) {
	h := newHost(t)
	wait(t, "the MTU to be announced", func() bool { return h.cluster.MTU() == 1500 })
	wait(t, "the peer's to be known", func() bool { return h.datapath.ReceiveMTUs()[overlaytest.Peer.VTEP] == 1400 })
	if len(h.datapath.ReceiveMTUs()) != 1 {
		t.Errorf("known are %v", h.datapath.ReceiveMTUs())
	}
	h.receives.Store(9000)
	h.AnnounceMTU()
	if h.cluster.MTU() != 9000 {
		t.Errorf("announced is %d after the device has changed", h.cluster.MTU())
	}
}

// The datapath hears of each other host whether it takes super-frames in one piece.
func TestTakeWholeIsHeard(t *testing.T) {
	h := newHost(t)
	wait(t, "the peer's word to be known", func() bool { return h.datapath.TakeWhole()[overlaytest.Peer.VTEP] })
	if len(h.datapath.TakeWhole()) != 1 {
		t.Errorf("known are %v", h.datapath.TakeWhole())
	}
	h.datapath.SetTakeWhole(nil)
	h.Observe(peerHas(false))
	if !h.datapath.TakeWhole()[overlaytest.Peer.VTEP] {
		t.Error("the peer's VTEP is there, and its word is not known")
	}
}

func TestMTUTooSmallForIPv6(t *testing.T) {
	h := newHost(t)
	h.mtu = 1300
	s := spec("vni", "5000")
	s.Pools = pools("10.20.0.0/16", "fd00::/64")
	wantError(t, h.CreateNetwork(s), "underlay MTU 1300", "1250", "IPv6 needs 1280", overlaytest.Self.VTEP.Addr().String())
}

func TestNetworkAgain(t *testing.T) {
	h := newHost(t)
	h.network()
	h.network()
	wantError(t, h.CreateNetwork(spec("vni", "5001")), "aaaaaaaaaaaa", "vni:5000", "vni:5001")
}

func TestNetworkTwice(t *testing.T) {
	for name, tc := range map[string]struct {
		first, second []string
		want          []string
	}{
		"same vni":    {[]string{"vni", "5000"}, []string{"vni", "5000"}, []string{"aaaaaaaaaaaa", "vni=5000", "-o vni"}},
		"same name":   {[]string{"network", "app"}, []string{"network", "app"}, []string{"aaaaaaaaaaaa", "network=app", "-o network"}},
		"same subnet": {nil, nil, []string{"aaaaaaaaaaaa", "subnet=10.20.0.0/16", "--subnet"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.must(h.CreateNetwork(spec(tc.first...)))
			h.run(epID, "10.20.0.2")
			second := spec(tc.second...)
			second.ID = otherID
			wantError(t, h.CreateNetwork(second), tc.want...)
			if got := len(h.Status().Networks); got != 1 {
				t.Errorf("%d networks, want the first alone", got)
			}
		})
	}
}

// Docker removes networks without waiting for the driver's word, and may lose all it knows: when it gives a subnet away again, the network
// that had it is gone, with its addresses. Not while a container has it, or is about to start.
func TestForgottenNetwork(t *testing.T) {
	for name, c := range map[string]struct {
		happens   func(*host)
		after     time.Duration
		forgotten bool
	}{
		"no container":       {func(*host) {}, 0, true},
		"removed unheard":    {func(h *host) { h.create(epID, "10.20.0.2") }, time.Minute, true},
		"about to be joined": {func(h *host) { h.create(epID, "10.20.0.2") }, time.Second, false},
		"about to get its interface": {func(h *host) {
			h.create(epID, "10.20.0.2")
			time.Sleep(20 * time.Second)
			_, err := h.Join(netID, epID, sandbox)
			h.must(err)
		}, 15 * time.Second, false},
		"runs":                   {func(h *host) { h.run(epID, "10.20.0.2") }, time.Minute, false},
		"overlane was restarted": {(*host).restart, time.Minute, false},
		"can't be removed":       {func(h *host) { h.datapath.Fail("DelNetwork", errFault) }, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				h := newHost(t)
				first := spec()
				first.Space = "LocalDefault"
				h.must(h.CreateNetwork(first))
				c.happens(h)
				if name != "overlane was restarted" {
					h.EngineStarted()
				}
				time.Sleep(c.after)
				second := first
				second.ID = otherID
				err := h.CreateNetwork(second)
				networks := h.Status().Networks
				if c.forgotten {
					h.must(err)
					h.empty()
				}
				if want := map[bool]string{true: otherID, false: netID}[c.forgotten]; len(networks) != 1 || networks[0].ID != want || (err == nil) != c.forgotten {
					t.Errorf("networks %+v (%v), want %s alone", networks, err, want)
				}
			})
		})
	}
}

func TestVNIOfAnotherKey(t *testing.T) {
	h := newHost(t)
	h.must(h.CreateNetwork(spec("network", "app")))
	h.run(epID, "10.20.0.2")
	vni := h.Status().Networks[0].VNI
	second := spec("vni", fmt.Sprint(vni))
	second.ID = otherID
	wantError(t, h.CreateNetwork(second), fmt.Sprintf("VNI %d", vni), "aaaaaaaaaaaa", "network=app", "-o vni")
}

// Overlapping subnets are no trouble where the VNIs differ.
func TestOverlappingSubnets(t *testing.T) {
	h := newHost(t)
	h.network()
	second := spec("vni", "6000")
	second.ID = otherID
	h.must(h.CreateNetwork(second))
	for i, id := range []string{netID, otherID} {
		s := endpointSpec([]string{epID, ep2ID}[i], "10.20.0.2")
		s.NetworkID = id
		_, err := h.CreateEndpoint(s)
		h.must(err)
	}
	macs := h.datapath.MACs()
	if macs["5000 02:42:0a:14:00:02"] != "oveeeeeeeeeee" || macs["6000 02:42:0a:14:00:02"] != "ovfffffffffff" {
		t.Errorf("FDB is %v", macs)
	}
}

func TestCreateNetworkUndone(t *testing.T) {
	for _, method := range []string{"AddNetwork", "Subscribe"} {
		t.Run(method, func(t *testing.T) {
			h := newHost(t)
			h.datapath.Fail(method, errFault)
			h.cluster.Fail(method, errFault)
			wantError(t, h.CreateNetwork(spec("vni", "5000")), errFault.Error())
			if len(h.datapath.Networks()) > 0 || len(h.cluster.Networks()) > 0 {
				t.Errorf("left: datapath %v, cluster %v", h.datapath.Networks(), h.cluster.Networks())
			}
			h.restart()
			if left := h.Status().Networks; len(left) > 0 {
				t.Errorf("left in the store: %v", left)
			}
			h.network()
		})
	}
}

func TestDeleteNetwork(t *testing.T) {
	h := newHost(t)
	h.must(h.DeleteNetwork(netID)) // not known: no error
	h.network()
	h.Observe([]discovery.Change{{Network: discovery.Network{Key: key, VNI: 5000}, Kind: discovery.KindVTEP, VTEP: overlaytest.Peer.VTEP}})
	h.run(epID, "10.20.0.2") // Docker's DeleteEndpoint did not get here
	h.must(h.DeleteNetwork(netID))
	h.must(h.DeleteNetwork(netID))
	h.empty()
	if len(h.datapath.Networks()) > 0 || len(h.datapath.VTEPs()) > 0 || len(h.cluster.Networks()) > 0 {
		t.Errorf("left: %v, %v, %v", h.datapath.Networks(), h.datapath.VTEPs(), h.cluster.Networks())
	}
	h.restart()
	if left := h.Status().Networks; len(left) > 0 {
		t.Errorf("left in the store: %v", left)
	}
}

func TestUnknownNetwork(t *testing.T) {
	h := newHost(t)
	_, err := h.CreateEndpoint(endpointSpec(epID, "10.20.0.2"))
	wantError(t, err, "network aaaaaaaaaaaa", "not known", "create it again")
	_, err = h.Join(netID, epID, sandbox)
	wantError(t, err, "network aaaaaaaaaaaa", "not known")
	h.network()
	_, err = h.Join(netID, epID, sandbox)
	wantError(t, err, "endpoint eeeeeeeeeeee", "not known in network aaaaaaaaaaaa", "remove the container and create it again")
	h.must(h.DeleteNetwork(netID))
	h.must(h.Leave(netID, epID))
	h.must(h.DeleteEndpoint(netID, epID))
}

// The store may be another file by now, as after a daemon that puts a damaged one aside.
func TestTwoDaemonsWhileTheStoreIsPutAside(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h := newHost(t)
		path := filepath.Join(h.dir, "overlane.db")
		h.must(os.Rename(path, path+".aside"))
		_, err := overlay.Open(overlay.Config{Dir: h.dir})
		wantError(t, err, h.dir, "another overlane daemon", "another directory")
		h.must(os.Rename(path+".aside", path))
		h.restart()
	})
}

func TestTwoDaemonsOnOneDirectory(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h := newHost(t)
		_, err := overlay.Open(overlay.Config{Dir: h.dir})
		wantError(t, err, h.dir, "another overlane daemon", "another directory")
	})
}
