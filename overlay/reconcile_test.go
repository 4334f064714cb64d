package overlay_test

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/internal/bubble"
	"github.com/overlane/overlane/overlay"
	"github.com/overlane/overlane/overlay/overlaytest"
)

var (
	net5000 = discovery.Network{Key: key, VNI: 5000}
	mac2    = discovery.MAC{0x02, 0x42, 0x0a, 20, 0, 2}
	addr2   = netip.MustParseAddr("10.20.0.2")
)

// peerHas are the changes by which Peer's endpoint comes into the view, or goes.
func peerHas(gone bool) []discovery.Change {
	return []discovery.Change{
		{Network: net5000, Kind: discovery.KindVTEP, Gone: gone, VTEP: overlaytest.Peer.VTEP},
		{Network: net5000, Kind: discovery.KindMAC, Gone: gone, VTEP: overlaytest.Peer.VTEP, MAC: mac2},
		{Network: net5000, Kind: discovery.KindAddr, Gone: gone, VTEP: overlaytest.Peer.VTEP, MAC: mac2, Addr: addr2},
	}
}

func (h *host) wantTables(vteps map[string]bool, macs, neighbours map[string]string) {
	h.t.Helper()
	if got := h.datapath.VTEPs(); !maps.Equal(got, vteps) {
		h.t.Errorf("flood lists %v, want %v", got, vteps)
	}
	if got := h.datapath.MACs(); !maps.Equal(got, macs) {
		h.t.Errorf("FDB %v, want %v", got, macs)
	}
	if got := h.datapath.Neighbours(); !maps.Equal(got, neighbours) {
		h.t.Errorf("neighbours %v, want %v", got, neighbours)
	}
}

func TestReconcile(t *testing.T) {
	h := newHost(t)
	h.network()
	h.Observe(peerHas(false))
	h.wantTables(map[string]bool{"5000 192.0.2.2:4789": true},
		map[string]string{"5000 02:42:0a:14:00:02": "192.0.2.2:4789"}, map[string]string{"5000 10.20.0.2": "02:42:0a:14:00:02"})
	if got := h.Status().Networks[0].Members; len(got) != 2 || got[0] != "host1" || got[1] != "host2" {
		t.Errorf("hosts that take part: %v", got)
	}
	h.Observe(peerHas(true))
	h.wantTables(nil, nil, nil)
	if got := h.Status().Networks[0].Members; len(got) != 1 {
		t.Errorf("hosts that take part: %v", got)
	}
}

// Changes of a network that was deleted meanwhile are passed over.
func TestReconcileUnknownNetwork(t *testing.T) {
	h := newHost(t)
	h.network()
	h.must(h.DeleteNetwork(netID))
	h.Observe(peerHas(false))
	h.wantTables(nil, nil, nil)
}

// wantPending checks what Status shows as not applied, each after a number of tries.
func (h *host) wantPending(tries int, want ...string) {
	h.t.Helper()
	var got []string
	for _, p := range h.Status().Pending {
		got = append(got, p.What)
		if p.Network != key || !strings.Contains(p.Reason, errFault.Error()) || p.Tries != tries || p.Next.IsZero() {
			h.t.Errorf("pending: %+v, want %d tries", p, tries)
		}
	}
	if !slices.Equal(got, want) {
		h.t.Errorf("pending: %v, want %v", got, want)
	}
}

// One entry that the datapath refuses does not stop those after it, and is tried again until it is applied.
func TestReconcileGoesOn(t *testing.T) {
	for method, what := range map[string]string{"AddVTEP": "VTEP 192.0.2.2:4789", "SetMAC": "MAC 02:42:0a:14:00:02", "SetNeighbour": "address 10.20.0.2"} {
		t.Run(method, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				h := newHost(t)
				h.network()
				h.datapath.Fail(method, errFault)
				h.Observe(peerHas(false))
				if got := len(h.datapath.VTEPs()) + len(h.datapath.MACs()) + len(h.datapath.Neighbours()); got != 2 {
					t.Errorf("%d entries beside the refused one, want 2", got)
				}
				h.wantPending(1, what)
				time.Sleep(600 * time.Millisecond)
				synctest.Wait()
				h.wantPending(2, what)

				h.datapath.Fail(method, nil)
				time.Sleep(time.Minute)
				synctest.Wait()
				h.wantPending(0)
				h.wantTables(map[string]bool{"5000 192.0.2.2:4789": true},
					map[string]string{"5000 02:42:0a:14:00:02": "192.0.2.2:4789"}, map[string]string{"5000 10.20.0.2": "02:42:0a:14:00:02"})
			})
		})
	}
}

// What is withdrawn before it could be applied is not applied later; what could not be withdrawn is withdrawn later.
func TestWithdrawnMeanwhile(t *testing.T) {
	for method, pending := range map[string][]string{"SetMAC": nil, "DelMAC": {"MAC 02:42:0a:14:00:02 (withdrawn)"}} {
		t.Run(method, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				h := newHost(t)
				h.network()
				h.datapath.Fail(method, errFault)
				h.Observe(peerHas(false))
				h.Observe(peerHas(true))
				h.wantPending(1, pending...)
				h.datapath.Fail(method, nil)
				time.Sleep(time.Minute)
				synctest.Wait()
				h.wantTables(nil, nil, nil)
				h.wantPending(0)
			})
		})
	}
}

// The longer a fault stays, the less often the datapath is asked.
func TestBackOff(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.network()
		h.datapath.Fail("SetMAC", errFault)
		h.Observe(peerHas(false))
		time.Sleep(time.Hour)
		synctest.Wait()
		if tries := h.Status().Pending[0].Tries; tries < 120 || tries > 130 {
			t.Errorf("%d tries in an hour, want one each half minute", tries)
		}
	})
}

// Another host that claims a local container's MAC and address does not get them while the container is here, and is
// reported.
func TestLocalWins(t *testing.T) {
	h := newHost(t)
	h.network()
	h.run(epID, "10.20.0.2")
	h.cluster.Announce(rival("02:42:0a:14:00:02", "10.20.0.2", 0, false))
	h.Observe(peerHas(false))
	if got := h.datapath.MACs()["5000 02:42:0a:14:00:02"]; got != "oveeeeeeeeeee" {
		t.Errorf("the MAC is behind %s, want the local port", got)
	}
	conflicts := h.Status().Conflicts
	if len(conflicts) != 2 || conflicts[0].Address != "02:42:0a:14:00:02" || conflicts[1].Address != "10.20.0.2" ||
		conflicts[0].Claims[0] != "host1/eeeeeeeeeeee" || conflicts[0].Claims[1] != "host2/dddddddddddd" {
		t.Errorf("conflicts: %+v", conflicts)
	}
	h.must(h.DeleteEndpoint(netID, epID))
	if got := h.datapath.MACs()["5000 02:42:0a:14:00:02"]; got != "192.0.2.2:4789" {
		t.Errorf("the MAC is behind %s, want the other host's VTEP now that the container is gone", got)
	}
}

func TestStatus(t *testing.T) {
	h := newHost(t)
	h.network()
	h.run(epID, "10.20.0.2")
	h.cluster.Announce(rival("02:42:0a:14:00:09", "10.20.0.9", 3, true))
	s := h.Status()
	if s.Node.Host != "host1" || s.Node.Version != "test" || s.Node.VTEP != overlaytest.Self.VTEP || s.Node.Gossip != overlaytest.Self.Addr {
		t.Errorf("node: %+v", s.Node)
	}
	if len(s.Members) != 4 || !s.Members[0].Self || s.Members[1].Host != "host2" || s.Members[1].State != discovery.StateAlive || s.Members[2].State != overlay.StateCopy || s.Members[3].State != overlay.StateStranger {
		t.Errorf("members: %+v", s.Members)
	}
	if len(s.Remote) != 1 || s.Remote[0].Host != "host2" || s.Remote[0].VTEP != overlaytest.Peer.VTEP || !s.Remote[0].Hidden || s.Remote[0].Seq != 3 {
		t.Errorf("remote endpoints: %+v", s.Remote)
	}
	if e := s.Endpoints[0]; e.ID != epID || e.Network != key || e.Tap != "oveeeeeeeeeee" || !e.HasPort {
		t.Errorf("endpoint: %+v", e)
	}
	if len(s.Conflicts) > 0 {
		t.Errorf("a hidden record is in conflict: %+v", s.Conflicts)
	}
	if r := s.Refused[0]; r.Key != key || r.TheirHost != "host2" || r.TheirKey != "network=other" || r.TheirVNI != 5000 {
		t.Errorf("refused networks: %+v", s.Refused)
	}
	if s.Gossip.Rejected["malformed"] != 2 || s.Datapath.Drops["vtep_unknown"] != 3 {
		t.Errorf("counters: %+v, %+v", s.Gossip, s.Datapath.Drops)
	}
}
