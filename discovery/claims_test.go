package discovery

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// claims lists who claims the MAC address or an address of an endpoint, and whether that is hidden.
func (n *testNode) claims(e Endpoint) []string {
	var all []string
	for _, r := range n.Claims(appKey, e.MAC, e.Addrs) {
		all = append(all, fmt.Sprintf("%s %s %s %t", r.VTEP, r.Network.Key, r.Endpoint.MAC, r.Hidden))
	}
	return all
}

func (n *testNode) wantClaims(e Endpoint, want ...string) {
	n.t.Helper()
	if got := n.claims(e); !slices.Equal(got, want) {
		n.t.Errorf("claims to %s and %v: %q, want %q", e.MAC, e.Addrs, got, want)
	}
}

func TestClaimsAreThoseOfOthers(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		static := someStatic()
		a := startNode(t, l.listen, 1, func(c *Config) { c.Static = []Static{static} })
		b := startNode(t, l.listen, 2, withJoin(a))
		theirs := testEndpoint(2, 1)
		for i, n := range []*testNode{a, b} {
			n.subscribe(appNet)
			n.Put(appKey, testEndpoint(i+1, 1))
		}
		a.waitView(5*time.Second, 2, 2, 4)
		claim := "192.0.2.2:4789 network=app " + theirs.MAC.String()
		a.wantClaims(theirs, claim+" false")
		a.wantClaims(Endpoint{MAC: theirs.MAC}, claim+" false")
		a.wantClaims(Endpoint{Addrs: theirs.Addrs[1:]}, claim+" false")
		a.wantClaims(testEndpoint(1, 1)) // its own
		a.wantClaims(testEndpoint(2, 9)) // nobody's
		a.wantClaims(static.Endpoint, "192.0.2.77:4789 network=app "+static.Endpoint.MAC.String()+" false")
		if r := a.Claims(appKey, static.Endpoint.MAC, nil); len(r) != 1 || r[0].Owner != StaticOwner {
			t.Errorf("static: %+v", r)
		}
		if r := a.Claims("network=other", theirs.MAC, theirs.Addrs); len(r) > 0 {
			t.Errorf("in a network that the node does not subscribe to: %+v", r)
		}

		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		a.waitState(20*time.Second, b, StateDead)
		a.wait(20*time.Second, "the dead one's endpoint is hidden", func() bool { return a.mac(theirs) == "" })
		a.wantClaims(theirs, claim+" true")
		a.wantClaims(Endpoint{Addrs: theirs.Addrs[1:]}, claim+" true")
	})
}

// crowded is the core of a node in a network with many records of other hosts.
func crowded(records int) *core {
	const each = 10000
	now := time.Now()
	self := nodeID{0xff}
	c := newCore(now, 1, self, meta{host: "self", vtep: netip.MustParseAddrPort("192.0.2.250:4789"), incarnation: 1}, netip.MustParseAddrPort("192.0.2.250:7950"), false)
	c.step(now, subscribeEvent{appNet})
	for host := range records / each {
		id := nodeID{byte(host + 1)}
		vtep := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(host + 1)}), 4789)
		c.step(now, memberUpEvent{id, meta{host: fmt.Sprint(host), vtep: vtep, incarnation: 1}, vtep})
		d := delta{owner: id, incarnation: 1, key: appKey, to: 2}
		for i := range each {
			e := testEndpoint(host+1, i)
			d.upserts = append(d.upserts, &e)
		}
		c.step(now, packetEvent{&packet{from: id, announces: []announce{{owner: id, incarnation: 1, version: 1, networks: []announcedNetwork{{appNet, 1}}}}, deltas: []delta{d}}})
	}
	return c
}

// A claim is looked up, however many records there are.
func TestClaimsAreLookedUp(t *testing.T) {
	c := crowded(20000)
	if n := len(c.records()); n != 20000 {
		t.Fatalf("%d records", n)
	}
	if n := testing.AllocsPerRun(10, func() { c.claims(appKey, testEndpoint(1, 7)) }); n > 20 {
		t.Errorf("%v allocations for one of 20000 records", n)
	}
}

// What a start of a container asks: of 100000 records those that are in its way.
func BenchmarkClaims(b *testing.B) {
	c := crowded(100000)
	for b.Loop() {
		if n := len(c.claims(appKey, testEndpoint(5, 7))); n != 1 {
			b.Fatalf("%d claims", n)
		}
	}
}

// The same by the list of all records.
func BenchmarkClaimsInRecords(b *testing.B) {
	c, to := crowded(100000), testEndpoint(5, 7)
	for b.Loop() {
		claims := slices.DeleteFunc(c.records(), func(r Record) bool { return !r.Endpoint.claims(to) })
		if len(claims) != 1 {
			b.Fatalf("%d claims", len(claims))
		}
	}
}
