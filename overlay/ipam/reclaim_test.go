package ipam

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/overlane/overlane/overlay/ipam/prefix"
)

// testCore is a core of host "a" with one bootstrapped pool, whose table has a block of 10 addresses for each of the owners.
func testCore(owners ...string) (*core, *pool) {
	s := stored{
		Key: "k", Subnet: netip.MustParsePrefix("10.20.0.0/24"), Owner: "a.1", Member: true, Origin: origin{1, "a"},
		Names: map[string]string{},
	}
	for i, owner := range owners {
		s.Table = append(s.Table, span{First: uint64(10*i + 1), Last: uint64(10*i + 10), Owner: owner, Version: 1})
	}
	c := newCore(time.Unix(1_700_000_000, 0), 1, "a", "host-a", []stored{s}, nil)
	return c, c.pools[poolID{s.Key, s.Subnet}]
}

func TestSpareKeepsWhatMayBeInUse(t *testing.T) {
	c, p := testCore("a.1", "b.1")
	p.peer("c").held = map[uint64]bool{3: true}
	p.putInQuarantine(5, c.now.Add(reclaimQuarantine))
	for _, s := range p.spare(1, 20, 20, false) {
		for _, at := range []uint64{3, 5} {
			if s.First <= at && at <= s.Last {
				t.Errorf("address %d, which another host has or had lately, would be given away in %+v", at, s)
			}
		}
	}
}

func TestReceiveChecksOwner(t *testing.T) {
	for _, owner := range []string{"", ownerGateway, "c.1", "a.1"} {
		t.Run(fmt.Sprintf("%q", owner), func(t *testing.T) {
			c, p := testCore("a.1", "b.1")
			c.meet(map[string]string{"b": "host-b"}, nil)
			o := p.Origin
			deliver(c, "b", &message{Key: p.Key, Subnet: p.Subnet, Heard: heard(c), Owner: owner, Member: true, Origin: &o, Held: []uint64{2}})
			if s, _ := p.Table.of(2); s.Owner != "a.1" {
				t.Errorf("host b got %q an address by saying that this is its name", s.Owner)
			}
		})
	}
}

// A host that would rather keep its last addresses gives them to who has none: being refused ahead of need is not the end.
func TestRefusalAheadOfNeedIsNotTheLast(t *testing.T) {
	c, p := testCore("b.1")
	c.meet(map[string]string{"b": "host-b"}, nil)
	o := p.Origin
	says := message{Key: p.Key, Subnet: p.Subnet, Heard: heard(c), Owner: "b.1", Member: true, Origin: &o, Free: 1, Hash: p.hash}
	deliver(c, "b", &says)
	c.ask(p, "b.1", ask{First: 1, Last: 10})
	var failed error
	c.request(p.id, Request{MAC: "02:00:00:00:00:01"}, func(_ netip.Addr, err error) { failed = err })
	refusal := says
	refusal.Answer = &answer{ID: p.question.ID, Why: nothing}
	out := c.step(c.now, func() { deliver(c, "b", &refusal) })
	for _, done := range out.done {
		done(nil)
	}
	if failed != nil || p.question == nil || !p.question.Urgent {
		t.Errorf("after a refusal ahead of need: error %v, question %+v; want an urgent one", failed, p.question)
	}
}

// What a host said last may be out of date: nobody says that a pool is full before every owner was asked.
func TestHostWithoutFreeAddressesIsAsked(t *testing.T) {
	c, p := testCore("b.1")
	c.meet(map[string]string{"b": "host-b"}, nil)
	o := p.Origin
	deliver(c, "b", &message{Key: p.Key, Subnet: p.Subnet, Heard: heard(c), Owner: "b.1", Member: true, Origin: &o, Hash: p.hash})
	var failed error
	out := c.step(c.now, func() {
		c.request(p.id, Request{MAC: "02:00:00:00:00:01"}, func(_ netip.Addr, err error) { failed = err })
	})
	for _, done := range out.done {
		done(nil)
	}
	if failed != nil || p.question == nil {
		t.Errorf("error %v, question %+v; want one to host b", failed, p.question)
	}
}

// A gift that got lost on its way, or was overtaken, is somebody's all the same: who has not heard yet that it owns the last free address
// says that it has none, and is told and asked again a little later.
func TestRefusalWithoutTheLastGiftIsNotTheLast(t *testing.T) {
	c, p := testCore("b.1")
	c.meet(map[string]string{"b": "host-b"}, nil)
	says(c, p, "b", p.hash)
	var failed error
	c.step(c.now, func() {
		c.request(p.id, Request{MAC: "02:00:00:00:00:01"}, func(_ netip.Addr, err error) { failed = err })
	})
	refuses := func(hash uint64) output {
		o := p.Origin
		m := &message{Key: p.Key, Subnet: p.Subnet, Heard: heard(c), Owner: "b.1", Member: true, Origin: &o, Hash: hash, Answer: &answer{ID: p.question.ID, Why: nothing}}
		out := c.step(c.now, func() { deliver(c, "b", m) })
		if slices.ContainsFunc(out.sends, func(s send) bool { return s.message.Ask != nil }) {
			t.Error("it is asked again at once: two that do not agree would do so without end")
		}
		for _, done := range out.done {
			done(nil)
		}
		return out
	}
	first := p.question.ID
	told := slices.ContainsFunc(refuses(p.hash+1).sends, func(s send) bool { return s.to == "b" && s.message.Full })
	if failed != nil || p.question == nil || p.question.ID == first || !told {
		t.Errorf("refused by who has another table: error %v, question %+v, told what this host knows: %v; want another question, and told", failed, p.question, told)
	}
	if refuses(p.hash); failed == nil {
		t.Error("refused by who agrees, and still waiting")
	}
}

// heard is in the messages of a host that has heard all that a core ever says.
func heard(c *core) number { return number{c.run, math.MaxUint64} }

// deliver has a message come in that is the next of its sender about the pool.
func deliver(c *core, from string, m *message) {
	m.Number = number{1, c.latest[poolID{m.Key, m.Subnet}][from].Sent + 1}
	c.receive(from, m)
}

// says has another host of testCore's tell that it agrees, or what else it has.
func says(c *core, p *pool, from string, hash uint64) {
	o := p.Origin
	deliver(c, from, &message{Key: p.Key, Subnet: p.Subnet, Host: "host-" + from, Heard: heard(c), Owner: from + ".1", Member: true, Origin: &o, Hash: hash})
}

// reclaims has a core reclaim, and gives what it says after some steps of a second: nothing, where it still waits.
func reclaims(c *core, seconds int, lost ...string) (taken uint64, err error, over bool) {
	event := func() {
		c.reclaim(lost, func(n uint64, e error) { taken, err, over = n, e, true })
	}
	for range seconds {
		for _, done := range c.step(c.now, event).done {
			done(nil)
		}
		event = nil
		c.now = c.now.Add(time.Second)
	}
	return taken, err, over
}

// What a lost host gave away before its end, and not all have heard of, is not taken from who has it.
func TestReclaimWaitsUntilTheOthersAgree(t *testing.T) {
	c, p := testCore("a.1", "b.1", "c.1")
	c.meet(map[string]string{"c": "host-c"}, nil)
	says(c, p, "c", p.hash+1)
	if taken, err, over := reclaims(c, 3, "b"); over {
		t.Fatalf("reclaimed %d addresses (%v) while host c knows something else", taken, err)
	}
	given := p.Table.given(15, 20, "c.1", 0)
	o := p.Origin
	deliver(c, "c", &message{Key: p.Key, Subnet: p.Subnet, Heard: heard(c), Owner: "c.1", Member: true, Origin: &o, Spans: given, Hash: hashOf(p, merge(p.Table, given))})
	for _, done := range c.step(c.now, nil).done {
		done(nil)
	}
	for at, want := range map[uint64]string{11: "a.1", 14: "a.1", 15: "c.1", 20: "c.1"} {
		if s, _ := p.Table.of(at); s.Owner != want {
			t.Errorf("address %d is %s's, want %s's", at, s.Owner, want)
		}
	}
}

func hashOf(p *pool, t table) uint64 {
	q := newPool(p.stored, p.began)
	q.Table = t
	q.count()
	return q.hash
}

func TestReclaimNamesWhoElseIsDown(t *testing.T) {
	c, p := testCore("a.1", "b.1", "c.1")
	p.Names = map[string]string{"b": "host-b", "c": "host-c"}
	c.step(c.now.Add(helloPatience), nil)
	_, err, over := reclaims(c, 8, "b")
	if !over || err == nil || err.Error() != "host host-c is down as well, and may have addresses of k that nobody else knows of: bring it back, or if host-b, host-c are lost for good, all of them, run `overlane ipam reclaim host-b host-c`" {
		t.Errorf("host c is down too: %v", err)
	}
	if taken, err, _ := reclaims(c, 1, "b", "c"); taken != 20 || err != nil {
		t.Errorf("both named: %d addresses, %v; want 20", taken, err)
	}
	if taken, err, _ := reclaims(c, 1, "a"); err == nil || err.Error() != "host host-a is up: `overlane leave` there gives back what it has" {
		t.Errorf("itself named: %d addresses, %v", taken, err)
	}
}

// Operators who reclaim a host on two others at once do the same.
func TestTwoReclaimAlike(t *testing.T) {
	var tables []table
	for _, self := range []string{"a", "c"} {
		c, p := testCore("a.1", "b.1", "c.1")
		c.self, p.Owner = self, self+".1"
		p.count()
		other := map[string]string{"a": "c", "c": "a"}[self]
		c.meet(map[string]string{other: "host-" + other}, nil)
		says(c, p, other, p.hash)
		reclaims(c, 1, "b")
		says(c, p, other, p.hash)
		c.step(c.now, nil)
		if taken := p.Table.owned("b.1", 1, prefix.MaxOffset); taken != nil {
			t.Fatalf("on host %s: %+v are the lost one's still", self, taken)
		}
		tables = append(tables, p.Table)
	}
	if !slices.Equal(tables[0], tables[1]) {
		t.Errorf("host a says %+v, host c %+v", tables[0], tables[1])
	}
}

// Of what a lost host had the addresses of its containers come last, on whichever host gets them.
func TestReclaimedAddressesOfContainersComeLast(t *testing.T) {
	c, p := testCore("b.1", "c.1")
	p.Owner = "c.1"
	c.self = "c"
	p.count()
	c.lastUsed = func(_ poolID, host string) []uint64 { return map[string][]uint64{"b": {3, 15}}[host] }
	c.apply(p, merge(p.Table, p.Table.given(1, 10, "c.1", 1)))
	if !p.quarantined[3] || p.quarantined[15] || len(p.quarantine) != 1 {
		t.Errorf("held back: %+v, want address 3 alone", p.quarantine)
	}
}

// A host that starts with blocks on disk hands out and gives away nothing until all that are up have told what they know:
// one of them may have its blocks by now.
func TestWhoWasAwayHearsAllOthersFirst(t *testing.T) {
	c, p := testCore("a.1", "b.1", "c.1")
	c.meet(map[string]string{"b": "host-b", "c": "host-c"}, nil)
	var got netip.Addr
	c.request(p.id, Request{MAC: "02:00:00:00:00:01"}, func(addr netip.Addr, _ error) { got = addr })
	step := func(event func()) {
		for _, done := range c.step(c.now, event).done {
			done(nil)
		}
	}
	step(func() { says(c, p, "b", p.hash) })
	step(func() {
		o := p.Origin
		deliver(c, "b", &message{Key: p.Key, Subnet: p.Subnet, Heard: heard(c), Owner: "b.1", Member: true, Origin: &o, Hash: p.hash, Ask: &ask{ID: 1, First: 1, Last: 254, Urgent: true}})
	})
	if own := p.Table.owned("a.1", 1, prefix.MaxOffset); got.IsValid() || len(own) != 1 || own[0].size() != 10 {
		t.Fatalf("before host c has told: handed out %s, has %+v", got, own)
	}
	lost := p.Table.given(1, 10, "c.1", 1)
	step(func() {
		o := p.Origin
		deliver(c, "c", &message{Key: p.Key, Subnet: p.Subnet, Heard: heard(c), Owner: "c.1", Member: true, Origin: &o, Spans: merge(p.Table, lost), Full: true})
	})
	if own := p.Table.owned("a.1", 1, prefix.MaxOffset); got.IsValid() || own != nil {
		t.Errorf("host c has its addresses: handed out %s, has %+v", got, own)
	}
}

// What a lost host still says counts less than the reclaim, however much it says.
func TestReclaimCountsMoreThanTheLost(t *testing.T) {
	c, p := testCore("a.1", "b.1")
	c.step(c.now.Add(helloPatience), nil)
	if taken, err, _ := reclaims(c, 1, "b"); taken != 10 || err != nil {
		t.Fatalf("%d addresses, %v; want 10", taken, err)
	}
	late := table{{First: 11, Last: 20, Owner: "b.1", Version: 1}}
	for range 3 {
		late = merge(late, late.given(11, 20, "d.1", 0))
	}
	if got := merge(p.Table, late).owned("a.1", 11, 20); len(got) != 1 || got[0].size() != 10 {
		t.Errorf("after what the lost host gave away: %+v, want all from 11 to 20", got)
	}
}

// A host without any address gets those that were released lately, or that a lost host's containers had, after all others.
func TestReleasedAddressesAreGivenLast(t *testing.T) {
	c, p := testCore("a.1")
	p.peer("b").owner = "b.1"
	for at := uint64(2); at <= 9; at++ {
		p.putInQuarantine(at, c.now.Add(reclaimQuarantine))
	}
	var given []uint64
	for range 12 {
		m := c.grant(p, "b", &ask{ID: uint64(len(given) + 1), First: 1, Last: 254, Urgent: true})
		for _, s := range m.Spans {
			for at := s.First; at <= s.Last; at++ {
				given = append(given, at)
			}
		}
	}
	if len(given) != 10 || given[0]+given[1] != 1+10 {
		t.Errorf("given in this order: %d, want 1 and 10 first, and all in the end", given)
	}
}

// A message that a later one of its sender has overtaken says nothing any more: b has left, though it took part before.
func TestOvertakenMessageIsDropped(t *testing.T) {
	c, p := testCore("a.1", "b.1")
	c.meet(map[string]string{"b": "host-b"}, nil)
	o := p.Origin
	said := func(sent uint64, member bool) {
		m := &message{Key: p.Key, Subnet: p.Subnet, Number: number{1, sent}, Heard: heard(c), Owner: "b.1", Member: member, Origin: &o, Hash: p.hash}
		if member {
			m.Held = []uint64{2}
		}
		c.receive("b", m)
	}
	said(5, false)
	said(4, true)
	said(5, true)
	if s, _ := p.Table.of(2); p.peers["b"].member || s.Owner != "a.1" {
		t.Errorf("by an older word host b takes part: %t, and address 2 is %s's", p.peers["b"].member, s.Owner)
	}
	if said(6, true); !p.peers["b"].member {
		t.Error("host b takes part again, and is not heard")
	}
}

// Nobody is given anything by a word that may be from before this host's start.
func TestNoGiftByAnOldWord(t *testing.T) {
	c, p := testCore("a.1", "b.1")
	c.meet(map[string]string{"b": "host-b"}, nil)
	says(c, p, "b", p.hash)
	c.step(c.now, nil)
	o := p.Origin
	asks := func(heard number) {
		m := &message{Key: p.Key, Subnet: p.Subnet, Heard: heard, Owner: "b.1", Member: true, Origin: &o, Hash: p.hash, Held: []uint64{2}, Ask: &ask{ID: heard.Run + 1, First: 1, Last: 254, Urgent: true}}
		c.step(c.now, func() { deliver(c, "b", m) })
	}
	if asks(number{c.run - 1, math.MaxUint64}); p.own != 10 {
		t.Fatalf("host b has not heard this host since it started, and was given %d addresses", 10-p.own)
	}
	if asks(number{c.run, math.MaxUint64}); p.own == 10 {
		t.Error("host b has heard this host, and was given nothing")
	}
}

// A host that is back before its reclaim begins keeps what it has, though it is cut off at once.
func TestReclaimOfAHostThatIsBack(t *testing.T) {
	s := newSimulation(2, "10.20.0.0/24", 1, t.Fatalf)
	one, two := s.hosts[0], s.hosts[1]
	for _, h := range s.hosts {
		h.start()
		s.run(3 * time.Second)
		h.open()
	}
	s.until("the hosts agree", func() bool { return s.agree() && two.state().own > 0 })
	two.crash()
	over, refused := false, error(nil)
	one.step(func() {
		one.core.reclaim([]string{two.id}, func(_ uint64, err error) { over, refused = true, err })
	})
	two.start()
	for two.state().resyncing {
		s.run(time.Millisecond)
	}
	two.side = 1
	s.until("the reclaim is over", func() bool { return over })
	if refused == nil || !strings.Contains(refused.Error(), "is up") {
		t.Errorf("the reclaim of a host that was heard: %v", refused)
	}
	s.checkOwners()
}
