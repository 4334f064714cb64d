package ipam

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// A host that gave what it had to one that had just forgotten the pool: it is taken back when that one says so after it was
// asked, and all others have told what they know. What it said before may be older than the name.
func TestOldNameIsTakenBackAfterAFreshWord(t *testing.T) {
	c, p := testCore("a.1", "b.1", "c.1")
	c.meet(map[string]string{"b": "host-b", "c": "host-c"}, nil)
	says(c, p, "c", p.hash)
	forgot := func(last uint64) {
		o := p.Origin
		c.receive("b", &message{Key: p.Key, Subnet: p.Subnet, Host: "host-b", Re: &o, Heard: number{c.run, last}})
	}
	seconds := func(n int) {
		for range n {
			c.step(c.now.Add(syncInterval), nil)
		}
	}
	forgot(c.sent + 1)
	seconds(1)
	asked := c.sent
	forgot(p.peers["b"].doubted)
	if seconds(2); p.own != 10 {
		t.Fatalf("by a word of b's that may be old %d addresses are this host's, want 10", p.own)
	}
	forgot(asked)
	says(c, p, "c", p.hash+1)
	if seconds(1); p.own != 10 {
		t.Fatalf("while c has not told what it knows %d addresses are this host's, want 10", p.own)
	}
	o := p.Origin
	given := p.Table.given(21, 21, "b.2", 0) // b has begun anew, and c knows it already
	c.receive("c", &message{Key: p.Key, Subnet: p.Subnet, Heard: heard(c), Owner: "c.1", Member: true, Origin: &o, Spans: given, Hash: hashOf(p, merge(p.Table, given))})
	seconds(1)
	if s, _ := p.Table.of(21); p.own != 20 || s.Owner != "b.2" {
		t.Fatalf("%d addresses are this host's, want 20; and address 21 is %s's, want b.2's", p.own, s.Owner)
	}
}

// A former owner is in the table, and one host of the cluster is down, which never had the pool: nothing can be taken back
// until it is up again. Nobody needs to be asked meanwhile, let alone every host of the cluster.
func TestFormerOwnersWithAnAbsentHostCostNothing(t *testing.T) {
	c, p := testCore("a.1", "b.1")
	up := map[string]string{}
	for i := range 1000 {
		up[fmt.Sprintf("x%03d", i)] = "x"
	}
	up["b"] = "host-b"
	c.meet(up, map[string]string{"gone": "host-gone"})
	o := p.Origin
	answer := func(id string) {
		c.receive(id, &message{Key: p.Key, Subnet: p.Subnet, Host: "h", Re: &o, Heard: heard(c)})
	}
	for id := range up {
		answer(id)
	}
	c.out = output{}
	sent := 0
	const seconds = 60
	for range seconds {
		out := c.step(c.now.Add(syncInterval), nil)
		sent += len(out.sends)
		for _, s := range out.sends { // each answers at once: no message is lost
			answer(s.to)
		}
	}
	if sent > 5*seconds {
		t.Errorf("one pool with one former owner, in a cluster of 1000 with one host down: %d messages in a minute, for ever (500 pools: %d a second)", sent, sent*500/seconds)
	}
}

// Two hosts give each other addresses once a second, as on a busy pool, and everybody answers at once: a former owner's blocks come back all the same.
func TestFormerOwnersOnABusyPool(t *testing.T) {
	c, p := testCore("a.1", "b.1", "c.1", "d.1", "e.1")
	c.meet(map[string]string{"b": "host-b", "c": "host-c", "d": "host-d", "e": "host-e"}, nil)
	o := p.Origin
	everybody := func() {
		c.step(c.now, func() {
			c.receive("b", &message{Key: p.Key, Subnet: p.Subnet, Host: "host-b", Re: &o, Heard: heard(c)})
		})
		for _, id := range []string{"c", "d", "e"} {
			c.step(c.now, func() { says(c, p, id, p.hash) })
		}
	}
	everybody()
	for i := range 120 {
		c.step(c.now.Add(500*time.Millisecond), nil)
		everybody()
		to := []string{"d.1", "c.1"}[i%2]
		given := p.Table.given(25, 25, to, 0) // c tells everybody; that d and e have taken it over is heard with their next word
		m := &message{Key: p.Key, Subnet: p.Subnet, Host: "host-c", Heard: heard(c), Owner: "c.1", Member: true, Origin: &o, Spans: given, Hash: hashOf(p, merge(p.Table, given))}
		c.step(c.now.Add(400*time.Millisecond), func() { c.receive("c", m) })
		c.step(c.now.Add(100*time.Millisecond), nil)
		if i > 60 && p.own > 10 {
			return
		}
	}
	if p.own == 10 {
		t.Error("in two minutes the former owner's blocks have not come back: somebody's hash was always one change old")
	}
}

// An operator's reclaim and takeFormer give the same addresses to the same host: else both hand them out.
func TestTwoWaysToTakeBackAgreeOnTheHeir(t *testing.T) {
	key, subnet := "k", netip.MustParsePrefix("10.20.0.0/24")
	o := origin{1, "b"}
	tab := table{{First: 1, Last: 10, Owner: "b.2", Version: 1}, {First: 11, Last: 20, Owner: "c.1", Version: 1}, {First: 21, Last: 254, Owner: "b.1", Version: 1}}
	open := func(self, owner string) (*core, *pool) {
		s := stored{Key: key, Subnet: subnet, Owner: owner, Member: true, Origin: o, Table: tab, Seen: map[string]int64{}, Names: map[string]string{}}
		c := newCore(time.Unix(1_700_000_000, 0), uint64(self[0]), self, "host-"+self, []stored{s}, nil)
		return c, c.pools[poolID{key, subnet}]
	}
	b, pb := open("b", "b.2") // b.1 is its former name: something was on its way to it
	c, pc := open("c", "c.1")
	b.meet(map[string]string{"c": "host-c"}, nil)
	c.meet(map[string]string{"b": "host-b"}, nil)
	now := b.now
	deliver := true
	step := func(from, to *core, at time.Time, event func()) {
		for _, s := range from.step(at, event).sends {
			if deliver {
				m := *s.message
				for _, r := range to.step(at, func() { to.receive(from.self, &m) }).sends {
					n := *r.message
					from.step(at, func() { from.receive(to.self, &n) })
				}
			}
		}
	}
	// b notes its former name, and c answers that it agrees.
	for range 40 {
		if pb.former != nil {
			break
		}
		now = now.Add(tick)
		step(b, c, now, nil)
		step(c, b, now, nil)
	}
	if pb.former == nil {
		t.Fatal("b never noted its former name")
	}
	step(b, c, now, nil)
	// The operator on c, who sees host b's addresses as "former", reclaims them: b answers, and what c tells of it is lost.
	var taken uint64
	done := false
	for _, s := range c.step(now, func() { c.reclaim([]string{"b"}, func(n uint64, _ error) { taken, done = n, true }) }).sends {
		m := *s.message
		for _, r := range b.step(now, func() { b.receive("c", &m) }).sends {
			n := *r.message
			for _, d := range c.step(now, func() { c.receive("b", &n) }).done {
				d(nil)
			}
		}
	}
	if !done {
		t.Fatal("the reclaim is not over")
	}
	deliver = false
	for range 5 {
		now = now.Add(tick)
		b.step(now, nil)
	}
	at := uint64(100)
	sb, _ := pb.Table.of(at)
	sc, _ := pc.Table.of(at)
	if sb.Owner != sc.Owner && sb.Owner == "b.2" && sc.Owner == "c.1" {
		t.Errorf("reclaimed %d: by c's table address %d is c's (%+v), by b's it is b's (%+v): both hand it out", taken, at, sc, sb)
	}
}
