package ipam

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// testCore is a core of host "a" with one settled pool, whose table has a block of 10 addresses for each of the owners.
func testCore(owners ...string) (*core, *pool) {
	s := stored{
		Key: "k", Subnet: netip.MustParsePrefix("10.20.0.0/24"), Owner: "a.1", Member: true, Origin: origin{1, "a"},
		Seen: map[string]int64{}, Names: map[string]string{},
	}
	for i, owner := range owners {
		s.Table = append(s.Table, span{First: uint64(10*i + 1), Last: uint64(10*i + 10), Owner: owner, Version: 1})
	}
	c := newCore(time.Unix(1_700_000_000, 0), 1, "a", "host-a", []stored{s}, nil)
	return c, c.pools[poolID{s.Key, s.Subnet}]
}

func TestMinorityFencesItself(t *testing.T) {
	c, p := testCore("a.1", "b.1", "c.1", "d.1", "e.1")
	c.meet(map[string]string{"b": "host-b"})
	ago := func(d time.Duration) int64 { return c.now.Add(-d).Unix() }
	p.Seen = map[string]int64{"b": ago(0), "c": ago(25 * time.Hour), "d": ago(25 * time.Hour), "e": ago(30 * time.Hour)}
	if !c.cutOff(p) {
		t.Error("two hosts of five, that had not heard of the others for 25 hours, went on")
	}
	p.Seen["d"] = ago(23 * time.Hour)
	if c.cutOff(p) {
		t.Error("fenced, though it heard of half of the others 23 hours ago")
	}
}

func TestOwnAbsenceReclaimsNothing(t *testing.T) {
	c, p := testCore("a.1", "b.1", "c.1", "d.1")
	long := fenceOthers + time.Hour
	p.Seen = map[string]int64{"d": c.now.Add(-long).Unix()}
	c.meet(map[string]string{"b": "host-b", "c": "host-c"})
	c.watch(p)
	if p.Table.owned("d.1", 1, maxOffset) == nil {
		t.Fatal("a host that was away itself took the blocks of another that it had not seen meanwhile")
	}
	c.now = c.now.Add(long)
	c.watch(p)
	if p.Table.owned("d.1", 1, maxOffset) != nil {
		t.Error("the blocks of a lost host were not taken back")
	}
}

func TestSpareKeepsWhatMayBeInUse(t *testing.T) {
	c, p := testCore("a.1", "b.1")
	p.peer("c").held = map[uint64]bool{3: true}
	p.cool(5, c.now.Add(reclaimHold))
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
			c.meet(map[string]string{"b": "host-b"})
			o := p.Origin
			c.receive("b", &message{Key: p.Key, Subnet: p.Subnet, Owner: owner, Member: true, Origin: &o, Held: []uint64{2}})
			if s, _ := p.Table.of(2); s.Owner != "a.1" {
				t.Errorf("host b got %q an address by saying that this is its name", s.Owner)
			}
		})
	}
}

// A host that would rather keep its last addresses gives them to who has none: being refused ahead of need is not the end.
func TestRefusalAheadOfNeedIsNotTheLast(t *testing.T) {
	c, p := testCore("b.1")
	c.meet(map[string]string{"b": "host-b"})
	o := p.Origin
	says := message{Key: p.Key, Subnet: p.Subnet, Owner: "b.1", Member: true, Origin: &o, Free: 1, Hash: p.hash}
	c.receive("b", &says)
	c.ask(p, "b.1", ask{First: 1, Last: 10})
	var failed error
	c.request(p.id, Request{MAC: "02:00:00:00:00:01"}, func(_ netip.Addr, err error) { failed = err })
	refusal := says
	refusal.Answer = &answer{ID: p.question.ID, Why: nothing}
	out := c.step(c.now, func() { c.receive("b", &refusal) })
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
	c.meet(map[string]string{"b": "host-b"})
	o := p.Origin
	c.receive("b", &message{Key: p.Key, Subnet: p.Subnet, Owner: "b.1", Member: true, Origin: &o, Hash: p.hash})
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
