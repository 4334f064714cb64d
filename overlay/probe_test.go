package overlay_test

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/hostnet"
	"github.com/overlane/overlane/overlay"
	"github.com/overlane/overlane/overlay/overlaytest"
)

// probeBox is a namespace that a probe is moved into.
type probeBox struct {
	h    *host
	path string
	up   *hostnet.Interface
	fail error
}

func (b *probeBox) Path() string  { return b.path }
func (b *probeBox) HasIPv6() bool { return true }

func (b *probeBox) Move(i hostnet.Interface) error {
	if b.fail != nil {
		return b.fail
	}
	b.up = &i
	b.h.taps.Move(i.Alias, b.path)
	return nil
}

// probe makes one on a network of its own.
func (h *host) probe() (*overlay.Probe, *probeBox) {
	h.t.Helper()
	box := &probeBox{h: h, path: sandbox}
	addrs := []netip.Prefix{netip.MustParsePrefix("198.18.0.1/15"), netip.MustParsePrefix("fd6f::1/64")}
	p, err := h.AddProbe(overlay.ProbeSpec{Own: overlay.OwnNetwork{Name: "overlane-test-1", VNI: 4711, Addrs: addrs}, Name: "probe", Sandbox: box})
	h.must(err)
	return p, box
}

// A probe is like a container's endpoint on a network of its own, and nothing is left of both.
func TestProbe(t *testing.T) {
	h := newHost(t)
	p, box := h.probe()
	if p.MTU != 1450 || p.Network != "network=overlane-test-1" || len(p.Addrs) != 2 || box.up == nil || !slices.Equal(box.up.Addrs, p.Addrs) {
		t.Errorf("%+v, up as %+v", p, box.up)
	}
	own := h.cluster.Own(p.Network)
	if len(own) != 1 || own[0].Names != "probe" || len(own[0].Addrs) != 2 {
		t.Errorf("announced: %+v", own)
	}
	if served := h.names.Served()[box.path]; !slices.Equal(served, []string{p.Network}) {
		t.Errorf("served for %v", served)
	}
	_, err := h.AddProbe(overlay.ProbeSpec{Own: overlay.OwnNetwork{Name: "overlane-test-2", VNI: 4711, Addrs: p.Addrs}, Sandbox: box})
	wantError(t, err, "VNI 4711")
	stats := h.datapath.Stats()
	if endpoints, _ := h.TrafficOf(stats); len(endpoints) > 0 || len(h.NetworkTraffic(stats)) > 0 {
		t.Errorf("what metrics would have names of: endpoints %+v, networks %+v", endpoints, h.NetworkTraffic(stats))
	}
	h.must(h.RemoveProbe(p))
	h.wantDetached()
	if s := h.Status(); len(s.Networks) > 0 || len(h.datapath.Networks()) > 0 || len(h.names.Served()) > 0 {
		t.Errorf("left: %+v, served %v", s.Networks, h.names.Served())
	}
}

// On a network of Docker's a probe has an address of the pool, which is given back.
func TestProbeOnNetwork(t *testing.T) {
	h := newHost(t)
	h.pooled()
	h.NameNetwork(netID, "app")
	box := &probeBox{h: h, path: sandbox}
	p, err := h.AddProbe(overlay.ProbeSpec{Network: "app", Name: "probe", Sandbox: box})
	h.must(err)
	if p.Called != "app" || len(h.leases()) != 1 || len(p.Addrs) != 1 {
		t.Errorf("%+v, leases %v", p, h.leases())
	}
	h.must(h.RemoveProbe(p))
	h.wantDetached()
	if len(h.Status().Networks) != 1 {
		t.Error("Docker's network is gone")
	}
	_, err = h.AddProbe(overlay.ProbeSpec{Network: "other", Sandbox: box})
	if !errors.Is(err, overlay.ErrNotHere) {
		t.Errorf("a network that is not there: %v", err)
	}
	box.fail = errFault
	for _, spec := range []overlay.ProbeSpec{{Network: "app", Sandbox: box}, {Own: overlay.OwnNetwork{Name: "overlane-test-1", VNI: 4711, Addrs: []netip.Prefix{netip.MustParsePrefix("198.18.0.1/15")}}, Sandbox: box}} {
		if _, err := h.AddProbe(spec); !errors.Is(err, errFault) {
			t.Errorf("a probe that can't be moved: %v", err)
		}
		h.wantDetached()
	}
	if len(h.Status().Networks) != 1 {
		t.Errorf("networks: %+v", h.Status().Networks)
	}
}

// Where Docker hands out addresses, on each host for itself, there is none for a probe.
func TestProbeWithoutPool(t *testing.T) {
	h := newHost(t)
	h.must(h.CreateNetwork(overlay.NetworkSpec{ID: netID, Pools: []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16")}}))
	_, err := h.AddProbe(overlay.ProbeSpec{Network: "10.20.0.0/16", Sandbox: &probeBox{h: h, path: sandbox}})
	wantError(t, err, "handed out by Docker", "without -n")
}

// A host that has the network otherwise is named.
func TestProbeOfANetworkThatIsOtherwiseElsewhere(t *testing.T) {
	h := newHost(t)
	box := &probeBox{h: h, path: sandbox}
	p, err := h.AddProbe(overlay.ProbeSpec{Own: overlay.OwnNetwork{Name: "other", VNI: 4711, Addrs: []netip.Prefix{netip.MustParsePrefix("198.18.0.1/15")}}, Sandbox: box})
	h.must(err)
	const want = "host1 has network vni=5000 with VNI 5000, and host2 has network=other with VNI 5000" // as the stand-in of the cluster has it
	if other := h.Otherwise(p)[overlaytest.Peer.ID]; other.Reason != want || other.Advice == "" {
		t.Errorf("%+v, want %s", other, want)
	}
	if left := h.Unapplied(p); len(left) > 0 {
		t.Errorf("not applied: %v", left)
	}
	h.must(h.RemoveProbe(p))
	if gone := h.Unapplied(p); len(gone) != 1 {
		t.Errorf("after its end: %v", gone)
	}
}

// A daemon that is killed leaves a probe in its store; its namespace is gone then, and the next daemon forgets both probe and network.
func TestProbeOfAKilledDaemon(t *testing.T) {
	h := newHost(t)
	_, box := h.probe()
	h.taps.Lose(box.up.Alias)
	h.restart()
	wait(t, "all is forgotten", func() bool { s := h.Status(); return len(s.Networks)+len(s.Endpoints) == 0 })
}

// A host that is attached to the network stays so when the probe goes, and the other way round.
func TestProbeBesideAttachment(t *testing.T) {
	h := newHost(t)
	h.cluster.Forget()
	_, _, err := h.RequestPool(overlay.PoolSpec{Subnet: netip.MustParsePrefix("10.20.0.0/16")})
	h.must(err)
	h.attach("subnet=10.20.0.0/16")
	box := &probeBox{h: h, path: sandbox}
	p, err := h.AddProbe(overlay.ProbeSpec{Network: "10.20.0.0/16", Sandbox: box})
	h.must(err)
	_, err = h.DetachHost("10.20.0.0/16")
	h.must(err)
	if s := h.Status(); len(s.Networks) != 1 || len(s.Endpoints) != 1 {
		t.Errorf("the network is %+v, with %+v", s.Networks, s.Endpoints)
	}
	h.must(h.RemoveProbe(p))
	h.wantDetached()
	if s := h.Status(); len(s.Networks) > 0 {
		t.Errorf("left: %+v", s.Networks)
	}
}

// An address is another host's probe's when packets to it go there: not when it is a container's, on whatever host, or another member announces it.
func TestProbeThatIsAnnounced(t *testing.T) {
	h := newHost(t)
	p, _ := h.probe()
	at := netip.MustParseAddr("198.18.0.2")
	record := func(names string) discovery.Record {
		return discovery.Record{Network: discovery.Network{Key: p.Network, VNI: 4711}, Endpoint: discovery.Endpoint{MAC: discovery.MAC{2, 0, 0, 0, 0, 2}, Addrs: []netip.Addr{at, p.Addrs[0].Addr()}, Names: names}}
	}
	hidden, strange := record("probe-2"), record("probe-2")
	hidden.Hidden, strange.Owner = true, "33333333333333333333333333333333"
	for _, test := range []struct {
		name    string
		records []discovery.Record
		addr    netip.Addr
		want    bool
	}{
		{"its probe's", []discovery.Record{record("probe-2")}, at, true},
		{"nobody's", nil, at, false},
		{"a container's", []discovery.Record{record("db")}, at, false},
		{"another member's", []discovery.Record{strange}, at, false},
		{"another member's first", []discovery.Record{strange, record("probe-2")}, at, false},
		{"not in force", []discovery.Record{hidden}, at, false},
		{"also this host's", []discovery.Record{record("probe-2")}, p.Addrs[0].Addr(), false},
	} {
		h.cluster.Announce(test.records...)
		if is := h.Announced(p, overlaytest.Peer.ID, "probe-2", test.addr); is != test.want {
			t.Errorf("%s: %v", test.name, is)
		}
	}
}
