package overlay_test

import (
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/overlay"
)

var (
	vip    = netip.MustParseAddr("10.20.0.50")
	behind = discovery.MAC{0x02, 0, 0, 0, 0, 0x55}
)

// trusting is a host whose network trusts its containers, with two of them.
func trusting(t *testing.T, trust string) *host {
	t.Helper()
	h := newHost(t)
	h.must(h.CreateNetwork(spec("vni", "5000", "trust", trust)))
	h.run(epID, "10.20.0.2")
	h.run(ep2ID, "10.20.0.3")
	return h
}

// port is an endpoint's, by its address.
func (h *host) port(addr string) datapath.PortID {
	h.t.Helper()
	for _, p := range h.Status().Datapath.Ports {
		for _, c := range h.datapath.Ports() {
			if c.Name == p.Name && slices.Contains(c.Addrs, netip.MustParseAddr(addr)) {
				return p.ID
			}
		}
	}
	h.t.Fatalf("no port has %s", addr)
	return 0
}

// claim has the container with an own address claim another.
func (h *host) claim(own string, mac discovery.MAC, addr netip.Addr) {
	h.t.Helper()
	h.datapath.Claim(datapath.Claim{Port: h.port(own), VNI: 5000, MAC: datapath.MAC(mac), Addr: addr})
}

// announced are the extra addresses in an endpoint's record.
func (h *host) announced(id string) []discovery.Extra {
	for _, e := range h.cluster.Own(key) {
		if e.ID == id {
			return e.Extras
		}
	}
	return nil
}

func (h *host) waitAnnounced(id string, want ...discovery.Extra) {
	h.t.Helper()
	for deadline := time.Now().Add(patience); !slices.Equal(h.announced(id), want); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			h.t.Fatalf("endpoint %.4s announces %+v, want %+v; the datapath has %+v", id, h.announced(id), want, h.datapath.Extras())
		}
	}
}

const patience = time.Minute // for a few dozen writes to a busy disk

var markers atomic.Uint32

// settled waits until all that was claimed is looked at: one more address is claimed after it.
func (h *host) settled(own string) {
	h.t.Helper()
	n := markers.Add(1)
	marker := netip.AddrFrom4([4]byte{10, 20, byte(64 + n>>8), byte(n)})
	h.claim(own, discovery.MAC{}, marker)
	waitUntil(h.t, "a claim is taken", func() bool { _, has := h.datapath.Extras()[marker]; return has })
}

func TestClaimedAddressIsAnnouncedAndMoves(t *testing.T) {
	h := trusting(t, "mac")
	h.claim("10.20.0.2", discovery.MAC{}, vip)
	h.waitAnnounced(epID, discovery.Extra{Addr: vip})
	if x := h.datapath.Extras()[vip]; x.Port != h.port("10.20.0.2") || x.Own {
		t.Errorf("the datapath has it as %+v", x)
	}

	h.claim("10.20.0.3", discovery.MAC{}, vip)
	h.waitAnnounced(ep2ID, discovery.Extra{Addr: vip, Seq: 1})
	h.waitAnnounced(epID)

	h.claim("10.20.0.2", behind, vip)
	h.waitAnnounced(epID, discovery.Extra{MAC: behind, Addr: vip, Seq: 2})
	h.waitAnnounced(ep2ID)

	// It lives on in the store.
	h.restart()
	h.waitAnnounced(epID, discovery.Extra{MAC: behind, Addr: vip, Seq: 2})
	if x := h.datapath.Extras()[vip]; x.MAC != datapath.MAC(behind) {
		t.Errorf("after a restart the datapath has it as %+v", x)
	}

	h.must(h.Leave(netID, epID))
	if left := h.datapath.Extras(); len(left) > 0 {
		t.Errorf("left when the container left: %+v", left)
	}
}

// Another host's container claims it later: its record wins, and this host gives the address up.
func TestClaimedAddressGoesToAnotherHost(t *testing.T) {
	for name, meanwhile := range map[string]func(*host){"at once": func(*host) {}, "after a restart": (*host).restart} {
		t.Run(name, func(t *testing.T) {
			h := trusting(t, "address")
			h.claim("10.20.0.2", discovery.MAC{}, vip)
			h.waitAnnounced(epID, discovery.Extra{Addr: vip})
			meanwhile(h)
			h.waitAnnounced(epID, discovery.Extra{Addr: vip})
			claimedElsewhere(h)
		})
	}
}

func claimedElsewhere(h *host) {
	t := h.t
	t.Helper()
	theirs := rival("02:42:0a:14:00:09", "10.20.0.9", 0, false)
	theirs.Endpoint.Extras = []discovery.Extra{{Addr: vip, Seq: 4}}
	h.cluster.Announce(theirs)
	h.Observe([]discovery.Change{{Network: theirs.Network, Kind: discovery.KindAddr, VTEP: theirs.VTEP, MAC: theirs.Endpoint.MAC, Addr: vip, Extra: true}})
	h.waitAnnounced(epID)
	if x, has := h.datapath.Extras()[vip]; has {
		t.Errorf("the datapath still has it as %+v", x)
	}
	// And back.
	h.claim("10.20.0.2", discovery.MAC{}, vip)
	h.waitAnnounced(epID, discovery.Extra{Addr: vip, Seq: 5})
}

func TestClaimNeverTakesAnEndpointsOwn(t *testing.T) {
	h := trusting(t, "mac")
	remote := rival("02:42:0a:14:00:09", "10.20.0.9", 0, false)
	h.cluster.Announce(remote)
	local := h.Status().Endpoints[1]
	for _, x := range []discovery.Extra{
		{Addr: netip.MustParseAddr("10.20.0.3")},
		{Addr: remote.Endpoint.Addrs[0]},
		{MAC: local.MAC, Addr: vip},
		{MAC: remote.Endpoint.MAC, Addr: vip},
	} {
		h.claim("10.20.0.2", x.MAC, x.Addr)
	}
	h.settled("10.20.0.2")
	if all := h.datapath.Extras(); len(all) != 1 {
		t.Errorf("taken: %+v", all)
	}
	// An endpoint that gets it for its own, here or elsewhere, is not refused for the claim, and has it.
	h.claim("10.20.0.2", discovery.MAC{}, vip)
	h.settled("10.20.0.3")
	h.create("third", vip.String())
	if _, has := h.datapath.Extras()[vip]; has {
		t.Error("the claim still stands against the endpoint's own address")
	}
}

// A container whose claims never end is heard now and then: each change is written to disk, and goes to all hosts.
func TestEndlessClaims(t *testing.T) {
	h := trusting(t, "mac")
	for i := range 5 * overlay.ExtraBurst {
		h.claim("10.20.0.2", discovery.MAC{2, 0, 0, 0, 0, byte(1 + i%2)}, vip)
	}
	h.settled("10.20.0.3")
	if x := h.announced(epID); len(x) != 1 || x[0].Seq > 2*overlay.ExtraBurst {
		t.Errorf("after %d claims %+v is announced", 5*overlay.ExtraBurst, x)
	}
}

// The claim of a container that is gone is no one's, though its port's number is another's by now.
func TestClaimWithoutTrust(t *testing.T) {
	h := trusting(t, "address")
	untrusted := endpointSpec("third", "10.20.0.4")
	untrusted.Options = map[string]string{"trust": "none"}
	_, err := h.CreateEndpoint(untrusted)
	h.must(err)
	_, err = h.Join(netID, "third", sandbox)
	h.must(err)
	h.claim("10.20.0.4", discovery.MAC{}, vip)
	h.claim("10.20.0.2", behind, vip)
	h.settled("10.20.0.3")
	if all := h.datapath.Extras(); len(all) != 1 {
		t.Errorf("taken: %+v", all)
	}
}

func TestClaimsHaveALimit(t *testing.T) {
	h := trusting(t, "address")
	for i := range discovery.MaxExtras + 5 {
		h.claim("10.20.0.2", discovery.MAC{}, netip.MustParseAddr(fmt.Sprintf("10.20.7.%d", i+1)))
	}
	h.settled("10.20.0.3")
	if n := len(h.announced(epID)); n != discovery.MaxExtras {
		t.Errorf("%d extra addresses are announced, want %d", n, discovery.MaxExtras)
	}
}

// An address that its container no longer answers for is given up.
func TestClaimsAge(t *testing.T) {
	h := trusting(t, "address")
	h.claim("10.20.0.2", discovery.MAC{}, vip)
	h.waitAnnounced(epID, discovery.Extra{Addr: vip})
	ask := func() { h.AskExtras(); h.settled("10.20.0.3") }
	for range 10 {
		ask()
	}
	h.waitAnnounced(epID, discovery.Extra{Addr: vip})
	h.datapath.Fail("AskExtra", errFault)
	for range 3 {
		ask()
	}
	h.waitAnnounced(epID, discovery.Extra{Addr: vip})
	h.AskExtras()
	h.waitAnnounced(epID)
}

// What can't be announced is refused, and the rest stays announced.
func TestTooManyLinkLocalIPs(t *testing.T) {
	h := newHost(t)
	h.network()
	addrs := []netip.Addr{netip.MustParseAddr("10.20.0.2")}
	for i := range discovery.MaxAddrs {
		addrs = append(addrs, netip.AddrFrom4([4]byte{169, 254, 7, byte(1 + i)}))
	}
	h.datapath.ChangeTaps(func(s *datapath.TapState) { s.Addrs = slices.Clone(addrs) })
	h.run(epID, "10.20.0.2")
	waitUntil(t, "as many as can be are announced", func() bool {
		own := h.cluster.Own(key)
		return len(own) == 1 && slices.Equal(own[0].Addrs, addrs[:discovery.MaxAddrs])
	})
}

// The option of an endpoint goes before that of its network, and both are checked.
func TestTrustIsChosen(t *testing.T) {
	h := newHost(t)
	wantError(t, h.CreateNetwork(spec("trust", "all")), `option trust="all"`, "none, address or mac")
	h.must(h.CreateNetwork(spec("vni", "5000", "trust", "address")))
	for id, c := range map[string]struct {
		given string
		want  datapath.Trust
	}{epID: {"", datapath.TrustAddress}, ep2ID: {"none", datapath.TrustNone}, "third": {"mac", datapath.TrustMAC}} {
		s := endpointSpec(id, fmt.Sprintf("10.20.1.%d", len(id)+int(id[0])%7))
		if c.given != "" {
			s.Options = map[string]string{"trust": c.given}
		}
		_, err := h.CreateEndpoint(s)
		h.must(err)
		for _, p := range h.datapath.Ports() {
			if p.Alias == "overlane:"+id && p.Trust != c.want {
				t.Errorf("%.5s has trust %d, want %d", id, p.Trust, c.want)
			}
		}
	}
	for name, value := range map[string]string{"trust": "root", "trsut": "mac"} {
		s := endpointSpec("fourth", "10.20.2.2")
		s.Options = map[string]string{name: value}
		_, err := h.CreateEndpoint(s)
		wantError(t, err, fmt.Sprintf("driver-opt %s=%q", name, value), "known options: trust")
	}
}

// Docker sets --link-local-ip on the interface, and tells a driver nothing.
func TestLinkLocalIPIsTheEndpointsOwn(t *testing.T) {
	h := newHost(t)
	h.network()
	linkLocal := netip.MustParseAddr("169.254.7.7")
	h.datapath.ChangeTaps(func(s *datapath.TapState) { s.Addrs = append(s.Addrs, linkLocal, vip, netip.MustParseAddr("fe80::1")) })
	h.run(epID, "10.20.0.2")
	has := func() bool {
		own := h.cluster.Own(key)
		return len(own) == 1 && slices.Equal(own[0].Addrs, []netip.Addr{netip.MustParseAddr("10.20.0.2"), linkLocal})
	}
	waitUntil(t, "the link-local address is announced", has)
	if x := h.datapath.Extras(); len(x) != 1 || !x[linkLocal].Own {
		t.Errorf("the datapath has %+v", x)
	}
	// The second container of that address does not get it.
	h.run(ep2ID, "10.20.0.3")
	waitUntil(t, "that is said", func() bool { return len(h.cluster.Own(key)) == 2 })
	h.restart()
	waitUntil(t, "it is announced after a restart", func() bool {
		own := h.cluster.Own(key)
		return slices.ContainsFunc(own, func(e discovery.Endpoint) bool { return e.ID == epID && slices.Contains(e.Addrs, linkLocal) }) &&
			!slices.ContainsFunc(own, func(e discovery.Endpoint) bool { return e.ID == ep2ID && slices.Contains(e.Addrs, linkLocal) })
	})
	h.must(h.Leave(netID, epID))
	if s := h.Status().Endpoints; slices.ContainsFunc(s, func(e overlay.EndpointStatus) bool { return len(e.LinkLocal) > 0 }) || len(h.datapath.Extras()) > 0 {
		t.Errorf("left when the container left: %+v, %+v", s, h.datapath.Extras())
	}
}

func waitUntil(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
