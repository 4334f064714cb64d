package overlay_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/overlay"
	"github.com/overlane/overlane/overlay/ipam"
	"github.com/overlane/overlane/overlay/overlaytest"
)

func TestEndpointLife(t *testing.T) {
	h := newHost(t)
	h.network()

	ep := h.create(epID, "10.20.0.2")
	port := h.datapath.Ports()[0]
	if ep.State != overlay.StateCreated || port.Name != "oveeeeeeeeeee" || port.Alias != alias || port.Netns != "" || port.VNI != 5000 {
		t.Errorf("created: %+v, %+v", ep, port)
	}
	if own := h.cluster.Own(key); len(own) > 0 {
		t.Errorf("announced before a container answers: %v", own)
	}

	ep, err := h.Join(netID, epID, sandbox)
	h.must(err)
	if ep.State != overlay.StateJoined || ep.Tap() != "oveeeeeeeeeee" || ep.Sandbox != sandbox {
		t.Errorf("joined: %+v", ep)
	}
	own := h.cluster.Own(key)
	if len(own) != 1 || own[0].ID != epID || own[0].MAC != ep.MAC || !slices.Equal(own[0].Addrs, ep.Addrs) || own[0].Seq != 0 {
		t.Errorf("announced: %+v", own)
	}

	h.must(h.Leave(netID, epID))
	if own := h.cluster.Own(key); len(own) > 0 {
		t.Errorf("announced after Leave: %v", own)
	}
	if s := h.Status().Endpoints[0]; s.State != overlay.StateCreated || s.Sandbox != "" || len(h.taps.All()) != 1 {
		t.Errorf("left: %+v, taps %v", s, h.taps.All())
	}

	h.must(h.DeleteEndpoint(netID, epID))
	h.empty()
	h.restart()
	h.empty()
}

func TestEndpointCallsAgain(t *testing.T) {
	h := newHost(t)
	h.network()
	v6 := overlay.EndpointSpec{NetworkID: netID, ID: epID, Addrs: []netip.Addr{netip.MustParseAddr("fd00::2")}}
	first, err := h.CreateEndpoint(v6)
	h.must(err)
	if first.MAC[0]&3 != 2 {
		t.Errorf("MAC %s is not a unicast one of the locally administered kind", first.MAC)
	}
	again, err := h.CreateEndpoint(v6)
	h.must(err)
	if again.MAC != first.MAC || len(h.datapath.Ports()) != 1 {
		t.Errorf("the same wish gave MAC %s, then %s, and %d ports", first.MAC, again.MAC, len(h.datapath.Ports()))
	}
	_, err = h.CreateEndpoint(endpointSpec(epID, "10.20.0.3"))
	wantError(t, err, "eeeeeeeeeeee", "fd00::2", "10.20.0.3")

	for range 2 {
		_, err := h.Join(netID, epID, sandbox)
		h.must(err)
	}
	for range 2 {
		h.must(h.Leave(netID, epID))
	}
	for range 2 {
		h.must(h.DeleteEndpoint(netID, epID))
	}
	h.must(h.Leave(netID, epID))
	h.empty()
}

// Docker joins anew when it could not reach the daemon to leave.
func TestJoinAnotherSandbox(t *testing.T) {
	h := newHost(t)
	h.network()
	h.run(epID, "10.20.0.2")
	ep, err := h.Join(netID, epID, sandbox+"2")
	h.must(err)
	if ep.Sandbox != sandbox+"2" || len(h.cluster.Own(key)) != 1 {
		t.Errorf("joined %+v, announced %v", ep, h.cluster.Own(key))
	}
}

func TestMACs(t *testing.T) {
	h := newHost(t)
	h.network()
	if got := h.create(epID, "10.20.1.255").MAC.String(); got != "02:42:0a:14:01:ff" {
		t.Errorf("MAC is %s, want 02:42 and the IPv4 address", got)
	}
	given := endpointSpec(ep2ID, "10.20.0.3")
	given.MAC = discovery.MAC{0x02, 0, 0, 0, 0, 7}
	ep, err := h.CreateEndpoint(given)
	h.must(err)
	if ep.MAC != given.MAC {
		t.Errorf("MAC is %s, want the given %s", ep.MAC, given.MAC)
	}
	given.ID, given.Addrs = "third", []netip.Addr{netip.MustParseAddr("10.20.0.4")}
	_, err = h.CreateEndpoint(given)
	wantError(t, err, "02:00:00:00:00:07", key, "ffffffffffff", "--mac-address")
	given.MAC = discovery.MAC{0x01, 0, 0, 0, 0, 7}
	_, err = h.CreateEndpoint(given)
	wantError(t, err, "01:00:00:00:00:07", "unicast --mac-address", "even first byte")
	given.Addrs = nil
	given.MAC = discovery.MAC{}
	_, err = h.CreateEndpoint(given)
	wantError(t, err, "no IP address", "--ipam-driver", "overlane")
}

func TestDuplicateOnAnotherHost(t *testing.T) {
	static := func(mac, addr string) discovery.Record {
		r := rival(mac, addr, 0, false)
		r.Owner = discovery.StaticOwner
		return r
	}
	vtep := overlaytest.Peer.VTEP.String()
	for name, tc := range map[string]struct {
		rival discovery.Record
		want  []string
	}{
		"address":        {rival("02:00:00:00:00:09", "10.20.0.2", 0, false), []string{"address 10.20.0.2", key, "host2", "--ip-range", "--ip"}},
		"MAC":            {rival("02:42:0a:14:00:02", "10.20.0.9", 0, false), []string{"MAC address 02:42:0a:14:00:02", key, "host2", "--mac-address"}},
		"static address": {static("02:00:00:00:00:09", "10.20.0.2"), []string{"address 10.20.0.2", key, "--static", vtep, "--ip", "--aux-address"}},
		"static MAC":     {static("02:42:0a:14:00:02", "10.20.0.9"), []string{"MAC address 02:42:0a:14:00:02", key, "--static", vtep, "give another --mac-address"}},
	} {
		t.Run(name+" at create", func(t *testing.T) {
			h := newHost(t)
			h.network()
			h.cluster.Announce(tc.rival)
			_, err := h.CreateEndpoint(endpointSpec(epID, "10.20.0.2"))
			wantError(t, err, tc.want...)
			h.empty()
		})
		t.Run(name+" at join", func(t *testing.T) {
			h := newHost(t)
			h.network()
			h.create(epID, "10.20.0.2")
			h.cluster.Announce(tc.rival)
			_, err := h.Join(netID, epID, sandbox)
			wantError(t, err, tc.want...)
			if s := h.Status().Endpoints[0]; s.State != overlay.StateCreated || len(h.cluster.Own(key)) > 0 {
				t.Errorf("after a refused Join: %+v, announced %v", s, h.cluster.Own(key))
			}
		})
	}
}

// What ran on a host that has just died can be started here before the cluster has noticed.
func TestTakenOverFromASilentHost(t *testing.T) {
	h := newHost(t)
	h.network()
	h.cluster.Announce(rival("02:42:0a:14:00:02", "10.20.0.2", 4, false))
	h.cluster.Fail("Answers", errors.New("no answer"))
	h.run(epID, "10.20.0.2")
	if got := h.cluster.Own(key)[0].Seq; got != 5 {
		t.Errorf("announced with the sequence number %d, not one above the other's 4", got)
	}
}

// silentPeer is a cluster whose other host does not answer, and takes its time for it.
type silentPeer struct {
	*overlaytest.Cluster
	asked, over chan struct{}
}

func (c silentPeer) Answers(string) bool {
	c.asked <- struct{}{}
	<-c.over
	return false
}

// While a host is waited for that does not answer, nothing else waits: neither calls of that network nor what other hosts announce.
func TestNobodyWaitsForASilentHost(t *testing.T) {
	h := newHost(t)
	h.network()
	h.must(h.Close())
	h.cluster, h.datapath = overlaytest.NewCluster(), overlaytest.NewDatapath(h.taps)
	h.open()
	peer := silentPeer{h.cluster, make(chan struct{}, 16), make(chan struct{})}
	h.Attach(peer)
	h.cluster.Announce(rival("02:42:0a:14:00:02", "10.20.0.2", 4, false))

	started := make(chan error, 1)
	start := func(call func() error) {
		go func() { started <- call() }()
		<-peer.asked
	}
	meanwhile := func(id, addr string) {
		t.Helper()
		done := make(chan struct{})
		go func() {
			defer close(done)
			h.run(id, addr)
			h.must(h.Leave(netID, id))
			h.must(h.DeleteEndpoint(netID, id))
			h.Observe(peerHas(false))
			h.must(h.CreateNetwork(overlay.NetworkSpec{ID: otherID, Options: map[string]string{"vni": "6000"}, Pools: pools("10.30.0.0/16")}))
			h.must(h.DeleteNetwork(otherID))
			h.Status()
		}()
		select {
		case <-done:
		case <-time.After(time.Minute):
			close(peer.over)
			t.Fatal("they wait")
		}
		peer.over <- struct{}{}
		h.must(<-started)
	}
	start(func() error {
		_, err := h.CreateEndpoint(endpointSpec(epID, "10.20.0.2"))
		return err
	})
	meanwhile(ep2ID, "10.20.0.3")
	start(func() error {
		_, err := h.Join(netID, epID, sandbox)
		return err
	})
	meanwhile(ep2ID, "10.20.0.3")
	if own := h.cluster.Own(key); len(own) != 1 || own[0].Seq != 5 {
		t.Errorf("announced: %+v", own)
	}
}

// The same address in another network is no duplicate.
func TestSameAddressInAnotherNetwork(t *testing.T) {
	h := newHost(t)
	h.network()
	r := rival("02:42:0a:14:00:02", "10.20.0.2", 0, false)
	r.Network = discovery.Network{Key: "vni=6000", VNI: 6000}
	h.cluster.Announce(r)
	h.run(epID, "10.20.0.2")
}

// A container that comes from a dead host announces itself above what that host said (RFC 7432 section 15).
func TestMobilitySequence(t *testing.T) {
	h := newHost(t)
	h.network()
	h.cluster.Announce(rival("02:00:00:00:00:09", "10.20.0.2", 4, true), rival("02:42:0a:14:00:02", "10.20.0.9", 6, true))
	h.run(epID, "10.20.0.2")
	if got := h.cluster.Own(key)[0].Seq; got != 7 {
		t.Errorf("announced with sequence number %d, want 7", got)
	}
	h.restart()
	if got := h.cluster.Own(key)[0].Seq; got != 7 {
		t.Errorf("after a restart announced with sequence number %d, want 7", got)
	}
}

func TestCreateEndpointUndone(t *testing.T) {
	h := newHost(t)
	h.network()
	h.datapath.Fail("AddPort", errFault)
	_, err := h.CreateEndpoint(endpointSpec(epID, "10.20.0.2"))
	wantError(t, err, errFault.Error())
	h.empty()
	h.restart()
	h.empty()
	h.create(epID, "10.20.0.2")
}

// What the store can't keep must not be done: a closed one refuses every write.
func TestStoreFails(t *testing.T) {
	h := newHost(t)
	h.network()
	h.create(epID, "10.20.0.2")
	h.must(h.Close())
	_, err := h.CreateEndpoint(endpointSpec(ep2ID, "10.20.0.3"))
	wantError(t, err, "ffffffffffff", "overlane.db")
	_, err = h.Join(netID, epID, sandbox)
	wantError(t, err, "eeeeeeeeeeee", "overlane.db")
	if ports, own := h.datapath.Ports(), h.cluster.Own(key); len(ports) != 1 || len(own) > 0 {
		t.Errorf("ports %v, announced %v", ports, own)
	}
	second := spec("vni", "6000")
	second.ID = otherID
	wantError(t, h.CreateNetwork(second), "bbbbbbbbbbbb", "overlane.db")
	if h.datapath.Networks()[6000] {
		t.Error("the network that is not stored is in the datapath")
	}
}

// A tap that can't be removed keeps its endpoint, so that the removal can be tried again.
func TestDeleteEndpointFails(t *testing.T) {
	h := newHost(t)
	h.network()
	h.run(epID, "10.20.0.2")
	h.datapath.Fail("DelPort", errFault)
	wantError(t, h.DeleteEndpoint(netID, epID), errFault.Error())
	h.datapath.Fail("DelPort", nil)
	h.must(h.DeleteEndpoint(netID, epID))
	h.empty()
}

// Docker takes an endpoint for gone whose removal failed, and gives its address back: that may be had again.
func TestAddressOfAnEndpointThatWasNotRemoved(t *testing.T) {
	h := newHost(t)
	h.pooled()
	pool, addr := ipam.PoolID("subnet=10.20.0.0/16", netip.MustParsePrefix("10.20.0.0/16")), netip.MustParseAddr("10.20.0.200")
	_, err := h.RequestAddress(pool, ipam.Request{Addr: addr, MAC: "02:00:00:00:00:01"})
	h.must(err)
	h.run(epID, addr.String())
	h.must(h.ReleaseAddress(pool, addr)) // of another call's
	if leases := h.leases(); !slices.Contains(leases, addr.String()) {
		t.Errorf("leases %v, want that of the container", leases)
	}
	h.datapath.Fail("DelPort", errFault)
	wantError(t, h.DeleteEndpoint(netID, epID), errFault.Error())
	h.datapath.Fail("DelPort", nil)
	h.must(h.ReleaseAddress(pool, addr))
	_, err = h.RequestAddress(pool, ipam.Request{Addr: addr, MAC: "02:00:00:00:00:02"})
	h.must(err)
	h.create(ep2ID, addr.String())
}

// Docker gives an address away again when it believes that its endpoint is gone.
func TestAddressGivenAwayAgain(t *testing.T) {
	h := newHost(t)
	h.network()
	h.run(epID, "10.20.0.2")
	_, err := h.CreateEndpoint(endpointSpec(ep2ID, "10.20.0.2"))
	wantError(t, err, "10.20.0.2", "eeeeeeeeeeee", "this host")

	h.taps.Lose(alias) // the container is gone, its Leave and DeleteEndpoint got lost
	h.create(ep2ID, "10.20.0.2")
	if eps := h.Status().Endpoints; len(eps) != 1 || eps[0].ID != ep2ID {
		t.Errorf("endpoints: %+v", eps)
	}
	if own := h.cluster.Own(key); len(own) > 0 {
		t.Errorf("the old endpoint is announced still: %+v", own)
	}
}

func TestManyAtOnce(t *testing.T) {
	h := newHost(t)
	h.network()
	var wg sync.WaitGroup
	for i := range 20 {
		id := fmt.Sprintf("%064x", i+1)
		wg.Go(func() {
			if _, err := h.CreateEndpoint(endpointSpec(id, fmt.Sprintf("10.20.0.%d", i+2))); err != nil {
				t.Error(err)
			}
			if _, err := h.Join(netID, id, sandbox); err != nil {
				t.Error(err)
			}
			h.Status()
			if err := h.Leave(netID, id); err != nil {
				t.Error(err)
			}
			if err := h.DeleteEndpoint(netID, id); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			c := discovery.Change{Network: discovery.Network{Key: key}, Kind: discovery.KindVTEP, VTEP: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 4789)}
			h.Observe([]discovery.Change{c})
		})
	}
	wg.Wait()
	h.empty()
}
