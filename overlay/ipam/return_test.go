package ipam

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/overlane/overlane/overlay/ipam/prefix"
)

// reclaimed has one host of a cluster take what another had, which is lost.
func (s *simulation) reclaimed(by, lost *simHost) {
	lost.lose()
	s.run(10 * time.Second)
	var taken uint64
	by.step(func() { by.core.reclaim([]string{lost.id}, func(n uint64, _ error) { taken = n }) })
	s.run(10 * time.Second)
	if taken == 0 {
		s.fail("setup: nothing was reclaimed\n%s", s.describe())
	}
}

// share starts a cluster of which some hosts use the pool.
func share(s *simulation, users ...*simHost) {
	for _, h := range s.hosts {
		h.start()
	}
	s.run(5 * time.Second)
	openOn(s, users...)
	s.run(5 * time.Second)
}

// Once a host is reclaimed and the network removed everywhere, nobody keeps the pool: the network can have another subnet.
func TestReclaimedThenRemoved(t *testing.T) {
	s := newSimulation(3, "10.20.0.0/24", 1, t.Fatalf)
	share(s, s.hosts...)
	a, b := s.hosts[0], s.hosts[1]
	s.reclaimed(a, s.hosts[2])
	for _, h := range []*simHost{a, b} {
		h.step(func() { h.core.closePool(s.pool) })
	}
	s.until("both have forgotten the pool", func() bool { return a.state() == nil && b.state() == nil })
	other := poolID{s.pool.Key, netip.MustParsePrefix("10.30.0.0/24")}
	var failed error
	opened := false
	b.step(func() { b.core.openPool(other, netip.Prefix{}, func(err error) { failed, opened = err, true }) })
	s.run(10 * time.Second)
	if !opened || failed != nil {
		t.Errorf("another subnet for the network: answered %t, %v", opened, failed)
	}
}

// A host that left for good, over a bad network, keeps no other from forgetting the pool.
func TestLeftThenRemoved(t *testing.T) {
	s := newSimulation(3, "10.20.0.0/24", 1, t.Fatalf)
	share(s, s.hosts...)
	s.latency, s.jitter, s.loss = 20*time.Millisecond, 100*time.Millisecond, 0.2
	x := s.hosts[2]
	x.step(func() { x.core.leave() })
	s.until("the host has left", func() bool { return x.core.owning() == "" })
	x.crash()
	for _, h := range s.hosts[:2] { // it says goodbye to the cluster, hence is not down
		delete(h.met, x.id)
		delete(h.known, x.id)
		h.step(func() { h.core.meet(h.members()) })
		h.step(func() { h.core.closePool(s.pool) })
	}
	s.until("the others have forgotten the pool", func() bool { return s.hosts[0].state() == nil && s.hosts[1].state() == nil })
}

// A reclaimed host comes back with the older claim, after the others have removed the network and made it again: it hands
// out nothing before it has heard what they use.
func TestReclaimedHostReturnsToAnotherClaim(t *testing.T) {
	s := newSimulation(2, "10.20.0.0/24", 1, t.Fatalf)
	a, c := s.hosts[0], s.hosts[1]
	share(s, a, c)
	s.reclaimed(c, a)
	c.step(func() { c.core.closePool(s.pool) })
	s.until("the pool is forgotten", func() bool { return c.state() == nil })
	openOn(s, c)
	for range 5 {
		c.container(netip.Addr{})
	}
	a.lost = false
	a.start()
	a.container(netip.Addr{})
	s.until("the returned host has an address", func() bool { return len(a.containers) == 1 })
	for addr := range a.containers {
		if _, both := c.containers[addr]; both {
			t.Errorf("%s is handed out on the host that returned, and the other had it", addr)
		}
	}
}

// All hosts start at once, one of them reclaimed from while it was down: it waits for those that it knows and that are not up yet.
func TestAllStartAtOnce(t *testing.T) {
	s := newSimulation(3, "10.20.0.0/29", 1, t.Fatalf)
	a, c, bystander := s.hosts[0], s.hosts[1], s.hosts[2]
	share(s, a, c)
	s.reclaimed(c, a)
	for range 6 {
		c.container(netip.Addr{})
		s.run(time.Second)
	}
	c.crash()
	bystander.crash()
	s.run(10 * time.Second)
	a.lost = false
	a.start()
	bystander.start()
	s.run(800 * time.Millisecond)
	c.start()
	a.container(netip.Addr{}) // fails the test where it is given what c hands out
	s.run(10 * time.Second)
}

// What a host learns of a lost one after the reclaim began is reclaimed only after all have spoken again.
func TestReclaimOfWhatIsLearntLater(t *testing.T) {
	c, p := testCore("a.1", "d.1", "e.1")
	c.meet(map[string]string{"d": "host-d", "e": "host-e"}, nil)
	known := merge(p.Table, p.Table.given(11, 20, "b.1", 0)) // d gave to b
	says(c, p, "d", p.hash)
	says(c, p, "e", p.hash)
	says(c, p, "d", hashOf(p, known))
	says(c, p, "e", hashOf(p, known))
	c.step(c.now, nil)
	q := newPool(stored{Key: "q", Subnet: netip.MustParsePrefix("10.30.0.0/24"), Owner: "a.1", Member: true, Names: map[string]string{}, Origin: origin{1, "a.1"}, Table: table{{First: 1, Last: 100, Owner: "a.1"}, {First: 101, Last: 254, Owner: "b.1"}}}, c.now)
	q.count()
	c.pools[q.id] = q // in which b has something that is known from the beginning
	if _, _, over := reclaims(c, 1, "b"); over {
		t.Fatal("over before anybody has spoken")
	}
	o := p.Origin
	deliver(c, "d", &message{Key: p.Key, Subnet: p.Subnet, Heard: number{1, 0}, Owner: "d.1", Member: true, Origin: &o, Hash: hashOf(p, known), Spans: known})
	for _, id := range []string{"d", "e"} {
		says(c, q, id, q.hash)
	}
	c.step(c.now, nil)
	if p.Table.owned("b.1", 1, prefix.MaxOffset) == nil {
		t.Errorf("e has said nothing since the reclaim began, and what b had is taken: %+v", p.Table)
	}
}

// Two reclaim a host at once, and one of them names another as well, which is up: they say the same.
func TestReclaimNamesWhoIsUp(t *testing.T) {
	var owners []string
	for self, lost := range map[string][]string{"a": {"b"}, "c": {"b", "0"}} {
		c, p := testCore("a.1", "b.1", "c.1", "0.1")
		c.self, p.Owner = self, self+".1"
		p.count()
		other := map[string]string{"a": "c", "c": "a"}[self]
		c.meet(map[string]string{other: "host-" + other, "0": "host-0"}, nil)
		c.reclaim(lost, func(uint64, error) {})
		says(c, p, other, p.hash)
		says(c, p, "0", p.hash)
		c.step(c.now, nil)
		s, _ := p.Table.of(15)
		owners = append(owners, s.Owner)
	}
	if owners[0] != owners[1] || owners[0] == "b.1" {
		t.Errorf("address 15 is %s's and %s's", owners[0], owners[1])
	}
}

// A host that has the pool is down for so long that discovery names it no more: what a lost one gave it is not taken.
func TestReclaimWhileAForgottenHostIsDown(t *testing.T) {
	c, p := testCore("a.1", "b.1")
	p.Names = map[string]string{"b": "host-b", "e": "host-e"}
	c.peerPools[p.id] = map[string]string{"e": "host-e"}
	c.meet(map[string]string{"d": "host-d"}, map[string]string{"b": "host-b", "e": "host-e"})
	c.meet(map[string]string{"d": "host-d"}, nil)
	says(c, p, "d", p.hash)
	c.step(c.now.Add(helloPatience), nil)
	c.reclaim([]string{"b"}, func(uint64, error) {})
	says(c, p, "d", p.hash)
	c.step(c.now, nil)
	if p.Table.owned("b.1", 1, prefix.MaxOffset) == nil {
		t.Error("taken while host e, which has the pool, is down")
	}
}

// ended starts a cluster whose hosts own nothing of their claim: the last one, which did, has forgotten it.
func ended(s *simulation, pause time.Duration) (members []*simHost, claim origin) {
	last := s.hosts[len(s.hosts)-1]
	members, claim = s.hosts[:len(s.hosts)-1], origin{s.now.UnixMilli() - 1000, last.id + ".1"}
	for _, h := range members {
		h.pools[s.pool] = stored{Key: s.pool.Key, Subnet: s.pool.Subnet, Owner: h.id + ".1", Member: true, Origin: claim,
			Table: table{{First: 1, Last: 254, Owner: last.id + ".1", Version: 1}}}
	}
	for i, h := range s.hosts {
		s.after(time.Duration(i)*pause, h.start)
	}
	return members, claim
}

// Hosts whose claim has ended begin anew together, over a bad network too.
func TestEndedClaimBeginsAnew(t *testing.T) {
	for seed := range uint64(10) {
		s := newSimulation(8, "10.20.0.0/24", seed, t.Fatalf)
		s.latency, s.jitter, s.loss = 50*time.Millisecond, 400*time.Millisecond, 0.2
		members, claim := ended(s, time.Duration(seed)*37*time.Millisecond)
		s.until("all have one new claim", func() bool {
			for _, h := range members {
				if p := h.state(); p == nil || !p.bootstrapped || p.resyncing || p.Origin == claim || p.Origin != members[0].state().Origin {
					return false
				}
			}
			return true
		})
		for _, h := range members { // old news of what it had fit the old name
			if owner := h.state().Owner; owner == h.id+".1" {
				t.Errorf("host %s begins anew under its former name %s", h.id, owner)
			}
		}
	}
}

// A claim that was begun anew and is given up is not on disk any more.
func TestNewClaimIsGivenUp(t *testing.T) {
	s := newSimulation(2, "10.20.0.0/24", 1, t.Fatalf)
	members, _ := ended(s, 0)
	a := members[0]
	for i := 0; a.state() == nil || a.state().bootstrapped; i++ { // it is open for a few milliseconds
		if s.run(time.Millisecond); i > 20000 {
			t.Fatalf("the claim does not begin anew:\n%s", s.describe())
		}
	}
	a.step(func() { a.core.closePool(s.pool) })
	s.run(time.Minute)
	a.crash()
	a.start()
	s.run(time.Minute)
	if a.state() != nil {
		t.Errorf("the network is gone, and after a restart its pool is back:\n%s", s.describe())
	}
}

// A host does not forget the pool while its question for what others have is under way: it would be given to nobody.
func TestNotForgottenWhileAsking(t *testing.T) {
	c, p := testCore("a.1", "b.1", "c.1")
	p.Member = false
	c.transfer(p, p.Table.owned("a.1", 1, prefix.MaxOffset), "b.1")
	c.meet(map[string]string{"b": "host-b", "c": "host-c"}, nil)
	leaves := func(id string, member bool) {
		o := p.Origin
		deliver(c, id, &message{Key: p.Key, Subnet: p.Subnet, Host: "host-" + id, Heard: heard(c), Owner: id + ".1", Member: member, Origin: &o, Hash: p.hash})
	}
	all := func(member bool) {
		leaves("b", false)
		leaves("c", member)
	}
	for range 3 {
		c.step(c.now, func() { all(false) })
	}
	if p.question == nil {
		t.Fatal("the first of those that have left does not ask for what the others have")
	}
	c.step(c.now, func() { all(true) })
	if c.pools[p.id] == nil {
		t.Fatal("the pool is forgotten while a question is under way")
	}
	deliver(c, "b", &message{Key: p.Key, Subnet: p.Subnet, Host: "host-b", Heard: heard(c), Owner: "b.1", Origin: &p.Origin, Hash: p.hash, Answer: &answer{ID: p.question.ID, Why: nothing}})
	c.step(c.now, nil)
	if c.step(c.now, func() { all(true) }); c.pools[p.id] != nil {
		t.Error("the question is answered, another host keeps the pool, and it is not forgotten")
	}
}

// A host that claims a pool takes the table of one that has heard of this very claim: who has not may forget the pool meanwhile.
func TestTableThatAnswersAnotherClaimIsNotTaken(t *testing.T) {
	s := newSimulation(1, "10.20.0.0/24", 1, t.Fatalf)
	c := newCore(s.now, 1, "a", "host-a", nil, nil)
	c.seeded = true
	c.step(s.now, func() { c.meet(map[string]string{"k": "host-k", "z": "host-z"}, nil) })
	c.step(s.now, func() { c.openPool(s.pool, netip.Prefix{}, func(error) {}) })
	p := c.pools[s.pool]
	older := origin{1, "k.1"}
	full := func(re origin) {
		m := &message{Key: s.pool.Key, Subnet: s.pool.Subnet, Owner: "k.1", Origin: &older, Re: &re, Full: true, Spans: table{{First: 1, Last: 254, Owner: "k.1", Version: 1}}}
		c.step(s.now, func() { deliver(c, "k", m) })
	}
	if full(origin{2, "a.0"}); p.bootstrapped {
		t.Error("the table was an answer to an earlier claim, and is taken")
	}
	if full(p.Origin); !p.bootstrapped || p.Origin != older {
		t.Error("the table is an answer to this claim, and is not taken")
	}
}

// A question that comes twice, as its answer may be lost, is answered once.
func TestSameQuestionSameAnswer(t *testing.T) {
	c, p := testCore("a.1", "b.1")
	c.meet(map[string]string{"b": "host-b"}, nil)
	says(c, p, "b", p.hash)
	c.step(c.now, nil)
	o := p.Origin
	asks := func() (given table) {
		m := &message{Key: p.Key, Subnet: p.Subnet, Heard: heard(c), Owner: "b.1", Member: true, Origin: &o, Hash: p.hash, Ask: &ask{ID: 7, First: 1, Last: 254, Urgent: true}}
		for _, s := range c.step(c.now, func() { deliver(c, "b", m) }).sends {
			if s.message.Answer != nil {
				given = s.message.Spans
			}
		}
		return given
	}
	first, left := asks(), p.own
	if again := asks(); left == 10 || p.own != left || !slices.Equal(first, again) {
		t.Errorf("first %+v, then %+v; %d addresses are left, %d after the first answer", first, again, p.own, left)
	}
}
