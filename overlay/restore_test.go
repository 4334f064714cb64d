package overlay_test

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/internal/bubble"
	"github.com/overlane/overlane/overlay"
	"github.com/overlane/overlane/overlay/overlaytest"
)

func TestRestart(t *testing.T) {
	h := newHost(t)
	h.network()
	joined := h.run(epID, "10.20.0.2")
	h.create(ep2ID, "10.20.0.3")
	h.restart()

	if !h.datapath.Networks()[5000] || h.cluster.Networks()[0] != key {
		t.Errorf("networks: %v, %v", h.datapath.Networks(), h.cluster.Networks())
	}
	netns := map[string]string{}
	for _, p := range h.datapath.Ports() {
		netns[p.Alias] = p.Netns
	}
	if len(netns) != 2 || netns[alias] != sandbox || netns["overlane:"+ep2ID] != "" {
		t.Errorf("ports taken back: %v", netns)
	}
	if own := h.cluster.Own(key); len(own) != 1 || own[0].MAC != joined.MAC {
		t.Errorf("announced: %+v, want the joined endpoint alone", own)
	}
	h.network() // as if Docker asked again
	_, err := h.Join(netID, ep2ID, sandbox)
	h.must(err)
	h.must(h.DeleteEndpoint(netID, epID))
	h.must(h.DeleteEndpoint(netID, ep2ID))
	h.empty()
}

func TestContainerGoneMeanwhile(t *testing.T) {
	for name, happens := range map[string]func(*host){
		"it ended":             func(h *host) { h.taps.Lose(alias) },
		"it left the network ": func(h *host) { h.taps.Move(alias, "") },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.network()
			h.run(epID, "10.20.0.2")
			happens(h)
			h.restart()
			h.empty()
			h.run(ep2ID, "10.20.0.2")
		})
	}
}

// What can't be found out is no reason to take a container off its network.
func TestSandboxUnreadable(t *testing.T) {
	h := newHost(t)
	h.network()
	h.run(epID, "10.20.0.2")
	h.inContainer = func(datapath.PortConfig) (bool, error) { return false, errFault }
	h.restart()
	if len(h.datapath.Ports()) != 1 || len(h.cluster.Own(key)) != 1 {
		t.Errorf("ports %v, announced %v", h.datapath.Ports(), h.cluster.Own(key))
	}
}

// startFaulty starts the daemon of a host with a container, and has something fail meanwhile.
func startFaulty(t *testing.T, fail func(*host)) *host {
	t.Helper()
	h := newHost(t)
	h.network()
	h.run(epID, "10.20.0.2")
	h.must(h.Close())
	h.cluster, h.datapath = overlaytest.NewCluster(), overlaytest.NewDatapath(h.taps)
	fail(h)
	h.open()
	h.Attach(h.cluster)
	return h
}

// A container is not told that it has an interface on a network which does not work.
func TestJoinWithoutItsNetwork(t *testing.T) {
	h := startFaulty(t, func(h *host) { h.datapath.Fail("AddNetwork", errFault) })
	_, err := h.Join(netID, epID, sandbox)
	wantError(t, err, "eeeeeeeeeeee", "network does not work yet", "overlane status", errFault.Error())
}

// One endpoint that can't be taken back stops neither the start nor the others, and can be removed.
func TestTapNotTakenBack(t *testing.T) {
	h := startFaulty(t, func(h *host) { h.datapath.Fail("AddPort", errFault) })
	if s := h.Status().Endpoints[0]; s.HasPort {
		t.Errorf("status shows a port: %+v", s)
	}
	_, err := h.Join(netID, epID, sandbox)
	wantError(t, err, "eeeeeeeeeeee", "tap", "create it again", errFault.Error())
	h.datapath.Fail("AddPort", nil)
	_, err = h.Join(netID, epID, sandbox)
	h.must(err)
	h.wantPending(0)
	h.run(ep2ID, "10.20.0.3")
	h.must(h.DeleteEndpoint(netID, epID))
	if eps := h.Status().Endpoints; len(eps) != 1 || eps[0].ID != ep2ID {
		t.Errorf("endpoints: %+v", eps)
	}
}

// What does not work at the start of the daemon is not announced, is shown, and is brought up when it can be. What does not
// depend on it works from the start.
func TestBroughtUpLater(t *testing.T) {
	for name, tc := range map[string]struct {
		fail    func(h *host, err error)
		pending string
		ports   int // that work meanwhile
	}{
		"port":    {func(h *host, err error) { h.datapath.Fail("AddPort", err) }, "endpoint eeeeeeeeeeee", 0},
		"network": {func(h *host, err error) { h.datapath.Fail("AddNetwork", err) }, "network", 0},
		"cluster": {func(h *host, err error) { h.cluster.Fail("Subscribe", err) }, "network", 1},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				h := startFaulty(t, func(h *host) { tc.fail(h, errFault) })
				for _, tries := range []int{1, 2, 3} {
					synctest.Wait()
					if own := h.cluster.Own(key); len(own) > 0 {
						t.Errorf("announced before it works: %v", own)
					}
					if got := len(h.datapath.Ports()); got != tc.ports {
						t.Errorf("%d ports work, want %d", got, tc.ports)
					}
					h.wantPending(tries, tc.pending)
					time.Sleep(time.Until(h.Status().Pending[0].Next))
				}
				tc.fail(h, nil)
				time.Sleep(time.Minute)
				synctest.Wait()
				if own, ports := h.cluster.Own(key), h.datapath.Ports(); len(own) != 1 || own[0].ID != epID || len(ports) != 1 || ports[0].Netns != sandbox {
					t.Errorf("announced %v, ports %v", own, ports)
				}
				h.wantPending(0)
			})
		})
	}
}

// What fails of one network is not in the way of another: its endpoints are announced, and records of other hosts applied.
func TestOneNetworkFails(t *testing.T) {
	for _, call := range []string{"AddNetwork 5000", "AddPort 5000"} {
		t.Run(call, func(t *testing.T) {
			h := newHost(t)
			h.network()
			h.run(epID, "10.20.0.2")
			h.must(h.CreateNetwork(overlay.NetworkSpec{ID: otherID, Options: map[string]string{"vni": "6000"}, Pools: pools("10.30.0.0/16")}))
			_, err := h.CreateEndpoint(overlay.EndpointSpec{NetworkID: otherID, ID: ep2ID, Addrs: []netip.Addr{netip.MustParseAddr("10.30.0.2")}})
			h.must(err)
			_, err = h.Join(otherID, ep2ID, sandbox)
			h.must(err)
			h.taps.Move("overlane:"+ep2ID, sandbox)
			h.must(h.Close())
			h.cluster, h.datapath = overlaytest.NewCluster(), overlaytest.NewDatapath(h.taps)
			h.datapath.Fail(call, errFault)
			h.open()
			h.Attach(h.cluster)

			other := discovery.Change{Network: discovery.Network{Key: "vni=6000", VNI: 6000}, Kind: discovery.KindMAC, VTEP: overlaytest.Peer.VTEP, MAC: mac2}
			h.Observe([]discovery.Change{other})
			if own, macs := h.cluster.Own("vni=6000"), h.datapath.MACs(); len(own) != 1 || macs["6000 "+mac2.String()] != overlaytest.Peer.VTEP.String() {
				t.Errorf("announced %v, MACs %v", own, macs)
			}
			if own := h.cluster.Own(key); len(own) > 0 || len(h.Status().Pending) != 1 {
				t.Errorf("announced %v, pending %v", own, h.Status().Pending)
			}
		})
	}
}

// A container that is gone by the time its endpoint can be brought up leaves nothing behind.
func TestContainerGoneBeforeItWorks(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h := startFaulty(t, func(h *host) {
			h.taps.Move(alias, "") // its sandbox is gone, and the tap is back in the daemon's namespace
			h.datapath.Fail("AddPort", errFault)
		})
		time.Sleep(time.Second)
		h.datapath.Fail("AddPort", nil)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		h.empty()
		h.wantPending(0)
	})
}
