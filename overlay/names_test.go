package overlay_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/overlay/ipam"
	"github.com/overlane/overlane/overlay/overlaytest"
)

// at gives the addresses behind a name, for a container on the network.
func (h *host) at(name string) []netip.Addr {
	addrs, _, _ := h.table.Lookup([]string{key}, name)
	return addrs
}

func (h *host) ownNames() string {
	own := h.cluster.Own(key)
	if len(own) != 1 {
		h.t.Fatalf("announced: %+v, want one endpoint", own)
	}
	return own[0].Names
}

// A container's names are announced with it and gone with it, and a daemon that starts again knows them without Docker's engine.
func TestContainerIsNamed(t *testing.T) {
	h := newHost(t)
	h.network()
	ep := h.run(epID, "10.20.0.2")
	if h.NameContainer(netID, epID, []string{"shop-db-1", "db"}); h.ownNames() != "shop-db-1 db" || !slices.Equal(h.at("db"), ep.Addrs) {
		t.Errorf("announced as %q, db is at %v", h.ownNames(), h.at("db"))
	}
	h.NameNetwork(netID, "app")
	if got := h.at("db.app"); !slices.Equal(got, ep.Addrs) {
		t.Errorf("db.app is at %v", got)
	}
	wait(t, "queries are answered", func() bool { return slices.Equal(h.names.Served()[sandbox], []string{key}) })

	h.restart()
	if h.ownNames() != "shop-db-1 db" || !slices.Equal(h.at("db"), ep.Addrs) {
		t.Errorf("after a restart announced as %q, db is at %v", h.ownNames(), h.at("db"))
	}
	wait(t, "queries are answered after a restart", func() bool { return slices.Equal(h.names.Served()[sandbox], []string{key}) })

	// Docker joins anew when Leave was lost.
	again, err := h.Join(netID, epID, sandbox+"-again")
	h.must(err)
	h.taps.Move("overlane:"+epID, sandbox+"-again")
	if again.Names != "shop-db-1 db" || h.names.Served()[sandbox] != nil {
		t.Errorf("joined anew as %q, and still served: %v", again.Names, h.names.Served())
	}

	h.NameContainer(netID, epID, []string{"renamed"})
	if h.ownNames() != "renamed" || len(h.at("db")) > 0 {
		t.Errorf("renamed: announced as %q, db is at %v", h.ownNames(), h.at("db"))
	}
	h.must(h.Leave(netID, epID))
	if got := h.at("renamed"); len(got) > 0 || len(h.names.Served()) > 0 {
		t.Errorf("gone: its name is at %v, and %v served", got, h.names.Served())
	}
	h.NameContainer(netID, epID, []string{"late"})
	h.must(h.DeleteEndpoint(netID, epID))
	h.NameContainer(netID, epID, []string{"late"})
	if got := h.at("late"); len(got) > 0 {
		t.Errorf("a name that comes too late is at %v", got)
	}
	h.empty()
}

// An engine that says who an address is for has the container found by that name, before its socket tells of others, and without it.
func TestNameOfAddressRequest(t *testing.T) {
	h := newHost(t)
	h.pooled()
	const pool, pooled = "10.20.0.0/16", "subnet=10.20.0.0/16"
	at := func(name string) string {
		addrs, _, _ := h.table.Lookup([]string{pooled}, name)
		return fmt.Sprint(addrs)
	}
	for name, addr := range map[string]string{"db": "10.20.0.2", "no name": "10.20.0.3"} {
		_, err := h.RequestAddress(ipam.PoolID(pooled, netip.MustParsePrefix(pool)), ipam.Request{Addr: netip.MustParseAddr(addr), MAC: "02:42:0a:14:00:02", Name: name})
		h.must(err)
	}
	h.run(epID, "10.20.0.2")
	h.run(ep2ID, "10.20.0.3")
	if got := at("db"); got != "[10.20.0.2]" {
		t.Errorf("its name is at %s", got)
	}
	if got := at("no name"); got != "[]" {
		t.Errorf("what is no name is at %s", got)
	}
	h.NameContainer(netID, epID, []string{"db", "store"})
	if got := at("store"); got != "[10.20.0.2]" {
		t.Errorf("its alias is at %s", got)
	}
}

// Only what can be asked for is told of, as much as a record carries.
func TestNamesThatAreNoneAreLeftOut(t *testing.T) {
	h := newHost(t)
	h.network()
	h.run(epID, "10.20.0.2")
	long := strings.Repeat("a", 64)
	h.NameContainer(netID, epID, []string{"db", "a b", "", "x..y", long, "é", "my_db.v2"})
	if got := h.ownNames(); got != "db my_db.v2" {
		t.Errorf("announced as %q", got)
	}
	var many []string
	for range 100 {
		many = append(many, "name-of-ten")
	}
	if h.NameContainer(netID, epID, many); len(h.ownNames()) > discovery.MaxNames {
		t.Errorf("announced %d bytes of names", len(h.ownNames()))
	}
}

// What other hosts tell of is found on the networks of this host alone.
func TestRemoteNames(t *testing.T) {
	h := newHost(t)
	h.network()
	net5000 := discovery.Network{Key: key, VNI: 5000}
	addr := netip.MustParseAddr("10.20.0.9")
	change := discovery.Change{Network: net5000, Kind: discovery.KindAddr, VTEP: overlaytest.Peer.VTEP, MAC: discovery.MAC{2, 9}, Addr: addr}
	name := discovery.Change{Network: net5000, Kind: discovery.KindNames, VTEP: overlaytest.Peer.VTEP, MAC: discovery.MAC{2, 9}, Names: "db store"}
	foreign := name
	foreign.Network, foreign.Names = discovery.Network{Key: "vni=6000", VNI: 6000}, "secret"
	extra := change
	extra.Addr, extra.Extra = netip.MustParseAddr("10.20.0.100"), true
	h.Observe([]discovery.Change{change, extra, name, foreign})
	if got := h.at("store"); !slices.Equal(got, []netip.Addr{addr}) {
		t.Errorf("store is at %v", got)
	}
	if _, _, found := h.table.Lookup([]string{key, "vni=6000"}, "secret"); found {
		t.Error("a network that this host has no part in has names here")
	}
	if pending := h.Status().Pending; len(pending) > 0 {
		t.Errorf("names went to the datapath: %+v", pending)
	}
	change.Gone, name.Gone = true, true
	h.Observe([]discovery.Change{name, change})
	if _, _, found := h.table.Lookup([]string{key}, "store"); found {
		t.Error("store is withdrawn, and still there")
	}
}

func TestResolve(t *testing.T) {
	h := newHost(t)
	h.network()
	h.run(epID, "10.20.0.2")
	h.NameContainer(netID, epID, []string{"mine", "db"})
	h.NameNetwork(netID, "app")
	theirs, hidden := rival("02:00:00:00:00:09", "10.20.0.9", 0, false), rival("02:00:00:00:00:08", "10.20.0.8", 0, true)
	theirs.Endpoint.Names, hidden.Endpoint.Names = "theirs db", "hidden db"
	h.cluster.Announce(theirs, hidden)
	h.Observe([]discovery.Change{
		{Network: theirs.Network, Kind: discovery.KindAddr, VTEP: overlaytest.Peer.VTEP, MAC: theirs.Endpoint.MAC, Addr: theirs.Endpoint.Addrs[0]},
		{Network: theirs.Network, Kind: discovery.KindNames, VTEP: overlaytest.Peer.VTEP, MAC: theirs.Endpoint.MAC, Names: theirs.Endpoint.Names},
	})
	for _, name := range []string{"db", "DB.app.", "db.app"} {
		found, err := h.Resolve(name, "app")
		h.must(err)
		answers := map[string]bool{}
		for _, r := range found {
			answers[r.Name+" on "+r.Host] = r.Answers
		}
		if len(found) != 3 || !answers["mine on host1"] || !answers["theirs on host2"] || answers["hidden on host2"] {
			t.Errorf("%s: %+v", name, found)
		}
	}
	if found, err := h.Resolve("10.20.0.9", ""); err != nil || len(found) != 1 || found[0].Name != "theirs" || found[0].Called != "app" {
		t.Errorf("10.20.0.9: %+v, %v", found, err)
	}
	if found, err := h.Resolve("nobody", ""); err != nil || len(found) != 0 {
		t.Errorf("nobody: %+v, %v", found, err)
	}
	for _, other := range []string{"other", netID[:2]} { // a name may be how an ID begins
		_, err := h.Resolve("db", other)
		wantError(t, err, fmt.Sprintf("%q", other), "overlane status")
	}
}
