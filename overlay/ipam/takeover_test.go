package ipam

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/overlane/overlane/overlay/ipam/prefix"
)

// threeHosts share a pool, and the third has a container with an address of its own block.
func threeHosts(t *testing.T) (s *simulation, one, two, three *simHost, addr netip.Addr) {
	s = newSimulation(3, "10.20.0.0/24", 1, t.Fatalf)
	for _, h := range s.hosts {
		h.start()
	}
	s.run(3 * time.Second)
	for _, h := range s.hosts {
		h.open()
		s.run(time.Second)
	}
	s.until("all hosts agree", s.agree)
	one, two, three = s.hosts[0], s.hosts[1], s.hosts[2]
	s.until("the third host owns some", func() bool { return three.state().own > 0 })
	three.container(netip.Addr{})
	s.run(time.Second)
	return s, one, two, three, three.addrs()[0]
}

// outcome is a request's.
type simOutcome struct {
	over bool
	err  error
}

func (h *simHost) request(r Request) *simOutcome {
	o := &simOutcome{}
	pool := h.sim.pool
	h.step(func() {
		h.core.request(pool, r, func(got netip.Addr, err error) {
			o.over, o.err = true, err
			if err == nil && !r.Ordered {
				h.handedOut(pool, got, r.MAC, true)
			}
		})
	})
	return o
}

func (o *simOutcome) refusedWith(t *testing.T, want string) {
	t.Helper()
	if !o.over || o.err == nil || !strings.Contains(o.err.Error(), want) {
		t.Errorf("over: %v, error %v, want one with %q", o.over, o.err, want)
	}
}

func both(a, b *simOutcome) func() bool { return func() bool { return a.over && b.over } }

// What ran on a dead host with an address of its own starts on one of the others that try, and no other; when the dead host
// is back it does not start there.
func TestAddressOfADeadHost(t *testing.T) {
	s, one, two, three, addr := threeHosts(t)
	s.run(collectAfter)
	three.lose()
	s.until("its death is known", func() bool { return !one.known[three.id] && !two.known[three.id] })
	known := s.now
	a, b := one.request(Request{Addr: addr, MAC: "m1"}), two.request(Request{Addr: addr, MAC: "m2"})
	s.until("both have an answer", both(a, b))
	if took := s.now.Sub(known); took > 5*time.Second {
		t.Errorf("the address was handed out %v after the host's death was known", took)
	}
	winner, loser, host := a, b, one
	if a.err != nil {
		winner, loser, host = b, a, two
	}
	if winner.err != nil {
		t.Fatalf("nobody got the address: %v, and %v", a.err, b.err)
	}
	loser.refusedWith(t, "in use ")
	if _, known := host.state().Names[three.id]; !known {
		t.Error("the dead host is forgotten, and may come back with the rest of its addresses")
	}

	three.lost = false
	three.start()
	back := three.request(Request{Addr: addr, MAC: "m3"})
	s.until("the host that is back has an answer", func() bool { return back.over })
	back.refusedWith(t, "host host-"+host.id[28:]+" has it: it is in use there")
	s.until("all hosts agree", s.agree)
	s.checkOwners()
}

// A host that was cut off, and is not dead, hears that its container's address is another's, and says so until the other gives it back.
func TestAddressTakenFromWhoWasCutOff(t *testing.T) {
	s, one, _, three, addr := threeHosts(t)
	three.side = 1
	s.until("it seems dead", func() bool { return len(one.core.members) == 1 })
	got := one.request(Request{Addr: addr, MAC: "m1"})
	s.until("the address is handed out", func() bool { return got.over })
	if got.err != nil {
		t.Fatal(got.err)
	}
	if taken := three.core.taken(); len(taken) != 0 {
		t.Errorf("it is cut off, and knows of %v", taken)
	}
	s.heal()
	s.until("it knows who has the address", func() bool { return three.core.taken()[addr] == "host-"+one.id[28:] })
	three.crash()
	three.start()
	s.until("it knows that after a restart", func() bool { return three.core.taken()[addr] == "host-"+one.id[28:] })
	refused := three.request(Request{Addr: addr, MAC: "m3"})
	s.run(time.Second)
	refused.refusedWith(t, "host host-"+one.id[28:]+" took it over while this host was away")
	at, _ := prefix.Offset(s.pool.Subnet, addr)
	same := three.request(Request{Addr: addr, MAC: three.state().used[at].MAC})
	s.until("the container that lost it has an answer", func() bool { return same.over })
	same.refusedWith(t, "host host-"+one.id[28:]+" has it")
	one.stop(addr)
	s.until("it has the address back", func() bool { return len(three.core.taken()) == 0 })
}

// Who may be the one that is cut off takes nothing over; an operator's word is enough.
func TestNothingIsTakenOverByWhoMayBeCutOff(t *testing.T) {
	s, one, two, three, addr := threeHosts(t)
	two.side, three.side = 1, 1
	s.until("the others seem dead", func() bool { return len(one.core.members) == 0 })
	got := one.request(Request{Addr: addr, MAC: "m1"})
	s.run(time.Second)
	got.refusedWith(t, "`overlane ipam take "+addr.String()+"`")
	three.lose()
	ordered := one.request(Request{Addr: addr, Ordered: true})
	s.run(requestLimit)
	if !ordered.over || ordered.err != nil {
		t.Fatalf("on an operator's word: over %v, error %v", ordered.over, ordered.err)
	}
	if one.state().inUse(1) || len(one.state().used) != 0 {
		t.Errorf("the address was taken, and is in use: %v", one.state().used)
	}
	got = one.request(Request{Addr: addr, MAC: "m1"})
	s.run(time.Second)
	if !got.over || got.err != nil {
		t.Errorf("after an operator's word: over %v, error %v", got.over, got.err)
	}
}

// An address that the dead host gave away at the end is who has it by then.
func TestNothingIsTakenFromWhoGotItAtTheEnd(t *testing.T) {
	s, one, two, three, addr := threeHosts(t)
	three.stop(addr)
	one.side = 1 // and hears nothing of this
	got := two.request(Request{Addr: addr, MAC: "m2"})
	s.until("the second host has it", func() bool { return got.over && got.err == nil })
	three.lose()
	s.heal()
	s.until("its death is known", func() bool { return !one.known[three.id] && one.known[two.id] })
	refused := one.request(Request{Addr: addr, MAC: "m1"})
	s.until("the first has an answer", func() bool { return refused.over })
	refused.refusedWith(t, "it is in use there")
}

// A host that nobody else saw hears the others before it hands out an address of its own that one of them took over.
func TestWhoWasAloneHearsTheOthersFirst(t *testing.T) {
	s, one, _, three, addr := threeHosts(t)
	three.stop(addr)
	three.side = 1
	s.until("all take each other for dead", func() bool { return len(one.core.members) == 1 && len(three.core.members) == 0 })
	got := one.request(Request{Addr: addr, MAC: "m1"})
	s.until("the address is handed out", func() bool { return got.over })
	if got.err != nil {
		t.Fatal(got.err)
	}
	s.heal()
	for len(three.core.members) == 0 {
		s.run(time.Millisecond)
	}
	late := three.request(Request{Addr: addr, MAC: "m3"})
	s.until("the host that was alone has an answer", func() bool { return late.over })
	late.refusedWith(t, "host host-"+one.id[28:]+" has it")
}

// An operator gives up a host for lost in the moment in which another takes over an address of it: one gets the address.
func TestAddressIsTakenOverDuringAReclaim(t *testing.T) {
	for _, first := range []bool{true, false} {
		s, one, two, three, addr := threeHosts(t)
		if first {
			one, two = two, one
		}
		three.lose()
		s.until("its death is known", func() bool { return !one.known[three.id] && !two.known[three.id] })
		one.step(func() { one.core.reclaim([]string{three.id}, func(uint64, error) {}) })
		a, b := one.request(Request{Addr: addr, MAC: "m1"}), two.request(Request{Addr: addr, MAC: "m2"})
		s.until("both have an answer", both(a, b))
		if (a.err == nil) == (b.err == nil) {
			t.Errorf("one of both is to have the address: %v, and %v", a.err, b.err)
		}
	}
}

// Where one does not agree nothing is handed out, and the address goes back to its owner.
func TestTakeoverNeedsAllOthers(t *testing.T) {
	c, p := testCore("a.1", "b.1", "c.1")
	c.meet(map[string]string{"b": "host-b"}, map[string]string{"c": "host-c"})
	says(c, p, "b", p.hash)
	over := false
	var refusal error
	c.step(c.now, func() {
		c.request(p.id, exact("10.20.0.23", "m1"), func(_ netip.Addr, err error) { over, refusal = true, err })
	})
	says(c, p, "b", p.hash)
	c.step(c.now, nil)
	if s, _ := p.Table.of(23); s.Owner != "c.1" {
		t.Fatal("host b has not confirmed that host c is down, and the address is taken over")
	}
	o := p.Origin
	deliver(c, "b", &message{Key: p.Key, Subnet: p.Subnet, Host: "host-b", Heard: heard(c), Owner: "b.1", Member: true, Origin: &o, Hash: p.hash, Lost: "c"})
	c.step(c.now, nil)
	if s, _ := p.Table.of(23); s.Owner != "a.1" || over {
		t.Fatalf("the others agree: the address is %s's, over %v", s.Owner, over)
	}
	for _, done := range c.step(c.now.Add(requestLimit+time.Second), nil).done {
		done(nil)
	}
	if s, _ := p.Table.of(23); s.Owner != "c.1" || p.inUse(23) || refusal == nil {
		t.Errorf("host b is silent: the address is %s's, in use %v, error %v", s.Owner, p.inUse(23), refusal)
	}
}

// A dead host whose one address in a pool is taken over may come back with other pools, which nobody claims meanwhile.
func TestLastAddressOfADeadHost(t *testing.T) {
	other := poolID{"other", netip.MustParsePrefix("10.30.0.0/24")}
	for size, forgotten := range map[uint64]bool{1: false, 2: true} {
		c, p := testCore("a.1")
		p.Table = append(p.Table, span{First: 11, Last: 10 + size, Owner: "b.1", Version: 1})
		c.put(p, p.Table)
		c.peerPools[other] = map[string]string{"b": "host-b"}
		p.Names["b"] = "host-b"
		c.apply(p, merge(p.Table, p.Table.given(11, 10+size, "a.1", 1)))
		if _, known := c.peerPools[other]["b"]; known == forgotten {
			t.Errorf("%d addresses are taken over: that the host has another pool is known: %v", size, known)
		}
	}
}
