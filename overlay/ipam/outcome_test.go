package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/overlane/overlane/overlay/ipam/prefix"
)

// openOn has the hosts use the pool, one after the other.
func openOn(s *simulation, hosts ...*simHost) {
	for _, h := range hosts {
		h.open()
		s.run(3 * time.Second)
		if p := h.state(); p == nil || !p.bootstrapped {
			s.fail("setup: %s has no pool\n%s", h.id, s.describe())
		}
	}
}

// A host that has heard who has a pool does not claim it anew while that one's daemon is down and its containers run.
func TestFirstUseWhileTheOwnerIsDown(t *testing.T) {
	s := newSimulation(2, "10.20.0.0/24", 1, t.Fatalf)
	a, b := s.hosts[0], s.hosts[1]
	a.start()
	b.start()
	s.run(10 * time.Second)
	openOn(s, a)
	a.container(netip.Addr{})
	s.run(time.Minute)
	a.crash()
	s.run(10 * time.Second)
	b.open()
	s.run(time.Second)
	if b.state() == nil {
		return // refused: fine
	}
	b.container(netip.Addr{})
	s.run(10 * time.Second)
	a.start()
	s.run(time.Minute)
	for addr := range b.containers {
		if _, both := a.containers[addr]; both {
			t.Errorf("%s is in use on both hosts, which had met before either was handed out", addr)
		}
	}
}

// What a lost host gave to a newcomer that is cut off is not taken from it by one who does not know it as an owner.
func TestReclaimKnowsNotOfNewcomer(t *testing.T) {
	s := newSimulation(3, "10.20.0.0/24", 1, t.Errorf)
	for _, h := range s.hosts {
		h.start()
	}
	s.run(10 * time.Second)
	a, b, r := s.hosts[0], s.hosts[1], s.hosts[2]
	openOn(s, a, b)
	a.side, r.side = 1, 1
	s.run(10 * time.Second)
	openOn(s, r)
	r.container(netip.Addr{})
	s.run(2 * time.Second)
	a.lose()
	s.run(10 * time.Second)
	b.step(func() {
		b.core.reclaim([]string{a.id}, func(n uint64, e error) { t.Logf("reclaimed %d: %v", n, e) })
	})
	s.run(8 * time.Second)
	for range 254 {
		b.container(netip.Addr{})
		s.run(50 * time.Millisecond)
		if t.Failed() {
			return
		}
	}
}

// A daemon that was stopped for days (SIGSTOP, a paused VM, suspend) hears the others before it hands out anything.
func TestPausedHost(t *testing.T) {
	s := newSimulation(4, "10.20.0.0/28", 1, t.Errorf)
	for _, h := range s.hosts {
		h.start()
	}
	s.run(10 * time.Second)
	openOn(s, s.hosts...)
	a := s.hosts[0]
	paused := a.core
	a.core = nil
	s.run(10 * time.Second)
	b := s.hosts[1]
	taken := uint64(0)
	b.step(func() { b.core.reclaim([]string{a.id}, func(n uint64, _ error) { taken = n }) })
	s.run(10 * time.Second)
	if taken == 0 {
		t.Fatal("setup: nothing was reclaimed")
	}
	for range 5 {
		for _, h := range s.hosts[1:] {
			h.container(netip.Addr{})
			s.run(3 * time.Second)
		}
	}
	a.core = paused
	a.container(netip.Addr{})
	s.run(time.Millisecond)
}

// An address in use here that comes with the blocks of a lost host, which had it too, is not handed out again.
func TestConflictThenReclaim(t *testing.T) {
	c, p := testCore("b.1", "a.1")
	p.used[3] = lease{MAC: "02:00:00:00:00:01", At: c.now}
	for at := uint64(11); at <= 20; at++ {
		p.used[at] = lease{MAC: fmt.Sprint(at), At: c.now}
	}
	p.count()
	c.lastUsed = func(poolID, string) []uint64 { return []uint64{3} }
	c.apply(p, merge(p.Table, p.Table.given(1, 10, "a.1", 1)))
	for _, at := range []uint64{1, 2, 4, 5, 6, 7, 8, 9, 10} {
		p.used[at] = lease{MAC: fmt.Sprint(at), At: c.now}
	}
	p.count()
	if at, ok := p.pickReleased(c.now.Add(2 * reclaimQuarantine)); ok {
		t.Errorf("address %d is handed out again on the host where %s has it", at, p.used[at].MAC)
	}
}

// Docker's release, a moment after the endpoint's end, does not free the address of a container that got it meanwhile.
func TestReleaseAfterCollect(t *testing.T) {
	c, p := testCore("a.1")
	run := func(event func()) {
		for _, done := range c.step(c.now, event).done {
			done(nil)
		}
	}
	var got []netip.Addr
	request := func(mac string) {
		run(func() {
			c.request(p.id, Request{MAC: mac}, func(a netip.Addr, err error) {
				if err == nil {
					got = append(got, a)
				}
			})
		})
	}
	for i := range 10 {
		request(fmt.Sprint(i))
	}
	victim := got[0]
	c.now = c.now.Add(time.Hour) // it has run for an hour; Docker deletes its endpoint now, and is about to release
	c.lives = func(_ poolID, a netip.Addr) bool { return a != victim }
	run(c.collect)
	request("second")
	c.lives = func(poolID, netip.Addr) bool { return true }
	run(func() { c.release(p.id, victim) }) // Docker's for the first, milliseconds after its endpoint was deleted
	request("third")
	seen := map[netip.Addr]bool{}
	for _, a := range got[1:] {
		if seen[a] {
			t.Errorf("%s is in use by two containers of this host", a)
		}
		seen[a] = true
	}
}

// After a leave that failed the host's networks go on as before.
func TestFailedLeave(t *testing.T) {
	c, p := testCore("a.1", "b.1")
	c.step(c.now.Add(time.Minute), nil)
	closed, err := c.leave()
	if err != nil {
		t.Fatal(err)
	}
	c.step(c.now.Add(2*leavePatience), nil)
	if c.owning() == "" {
		t.Fatal("nobody is there, and the host has left")
	}
	c.stay(closed)
	// Manager.Leave says: "no other host that is up took what this one has: it stays this host's"
	var failed error
	for _, done := range c.step(c.now, func() { c.request(p.id, Request{MAC: "x"}, func(_ netip.Addr, err error) { failed = err }) }).done {
		done(nil)
	}
	if failed != nil {
		t.Errorf("after a leave that failed: %v", failed)
	}
}

// A request that waits while its pool is closed is told so.
func TestRequestHangs(t *testing.T) {
	c, p := testCore("b.1")
	c.meet(map[string]string{"b": "host-b"}, nil)
	o := p.Origin
	deliver(c, "b", &message{Key: p.Key, Subnet: p.Subnet, Heard: heard(c), Owner: "b.1", Origin: &o, Hash: p.hash, Free: 5}) // b leaves
	var why error
	run := func(event func()) {
		for _, done := range c.step(c.now, event).done {
			done(nil)
		}
	}
	run(func() { c.request(p.id, Request{MAC: "x"}, func(_ netip.Addr, err error) { why = err }) })
	run(func() { c.closePool(p.id) })
	for range 100 {
		c.now = c.now.Add(time.Second)
		run(nil)
	}
	if want := "subnet 10.20.0.0/24: the network was removed"; why == nil || why.Error() != want {
		t.Errorf("after 100 seconds the request has the answer %v, want %q", why, want)
	}
}

// Two hosts without blocks that reclaim the only owner at once do the same.
func TestTwoReclaimersWithoutBlocks(t *testing.T) {
	s := newSimulation(3, "10.20.0.0/28", 1, t.Errorf)
	for _, h := range s.hosts {
		h.start()
	}
	s.run(10 * time.Second)
	a := s.hosts[0]
	openOn(s, a)
	for range 14 {
		a.container(netip.Addr{})
		s.run(20 * time.Millisecond)
	}
	openOn(s, s.hosts[1:]...)
	a.lose()
	s.run(10 * time.Second)
	for _, h := range s.hosts[1:] {
		h.step(func() {
			h.core.reclaim([]string{a.id}, func(n uint64, e error) { t.Logf("%s: %d %v", h.id[28:], n, e) })
		})
		h.container(netip.Addr{})
	}
	s.run(time.Second)
}

// Of two hosts that name a network and choose different subnets at once one is refused.
func TestOneNetworkTwoSubnets(t *testing.T) {
	s := newSimulation(2, "10.20.0.0/24", 1, t.Errorf)
	a, b := s.hosts[0], s.hosts[1]
	a.start()
	b.start()
	s.run(10 * time.Second)
	other := poolID{s.pool.Key, netip.MustParsePrefix("10.21.0.0/24")}
	var errA, errB error = errors.New("none"), errors.New("none")
	a.step(func() { a.core.openPool(s.pool, netip.Prefix{}, func(e error) { errA = e }) })
	b.step(func() { b.core.openPool(other, netip.Prefix{}, func(e error) { errB = e }) })
	s.run(10 * time.Second)
	if errA == nil && errB == nil {
		t.Error("one network has 10.20.0.0/24 on one host and 10.21.0.0/24 on the other")
	}
}

// Whichever of another host's answers comes first, a network that has a subnet there gets no second one here, and who asks
// is told which it has.
func TestOneNetworkTwoSubnetsLater(t *testing.T) {
	for seed := range uint64(50) {
		s := newSimulation(2, "10.20.0.0/24", seed, t.Errorf)
		s.jitter = 5 * time.Millisecond
		a, b := s.hosts[0], s.hosts[1]
		a.start()
		b.start()
		s.run(10 * time.Second)
		openOn(s, a)
		other := poolID{s.pool.Key, netip.MustParsePrefix("10.21.0.0/24")}
		refused := errors.New("no answer")
		b.step(func() { b.core.openPool(other, netip.Prefix{}, func(err error) { refused = err }) })
		s.run(10 * time.Second)
		want := "subnet 10.21.0.0/24: the network " + s.pool.Key + " has 10.20.0.0/24 on host "
		if refused == nil || !strings.Contains(refused.Error(), want) || !strings.HasSuffix(refused.Error(), ": give --subnet 10.20.0.0/24") {
			t.Fatalf("seed %d: %v, want %q", seed, refused, want)
		}
	}
}

// The longest name that a network may have fits into a message.
func TestLongName(t *testing.T) {
	name := make([]byte, 128)
	for i := range name {
		name[i] = 'n'
	}
	m := &message{Key: "network=" + string(name), Subnet: netip.MustParsePrefix("10.20.0.0/24"), Host: "h"}
	b, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decode(b); err != nil {
		t.Errorf("--ipam-opt network=NAME of 128 letters is taken, and no host takes a message of it: %v", err)
	}
}

// Two hosts that are up and silent do not keep a request from a third that has addresses.
func TestSilentHosts(t *testing.T) {
	c, p := testCore("b.1", "c.1", "d.1")
	c.meet(map[string]string{"b": "host-b", "c": "host-c", "d": "host-d"}, nil)
	for i, from := range []string{"b", "c", "d"} {
		o := p.Origin
		deliver(c, from, &message{Key: p.Key, Subnet: p.Subnet, Heard: heard(c), Owner: from + ".1", Member: true, Origin: &o, Free: uint64(9 - i), Hash: p.hash})
	}
	var failed error
	var got netip.Addr
	event := func() { c.request(p.id, Request{MAC: "x"}, func(a netip.Addr, err error) { got, failed = a, err }) }
	for range 60 {
		out := c.step(c.now, event)
		event = nil
		for _, done := range out.done {
			done(nil)
		}
		for _, m := range out.sends {
			if m.to == "d" && m.message.Ask != nil {
				o := p.Origin
				t := p.Table.given(30, 30, p.Owner, 0)
				out := c.step(c.now, func() {
					deliver(c, "d", &message{Key: p.Key, Subnet: p.Subnet, Heard: heard(c), Owner: "d.1", Member: true, Origin: &o, Spans: t, Answer: &answer{ID: m.message.Ask.ID}})
				})
				for _, done := range out.done {
					done(nil)
				}
			}
		}
		c.now = c.now.Add(200 * time.Millisecond)
	}
	if failed != nil || !got.IsValid() {
		t.Errorf("host d has 7 free addresses and would give one: %v", failed)
	}
}

// Where the network is removed on its last host while another begins to use it, that one gets the addresses.
func TestRemovedWhileAnotherBegins(t *testing.T) {
	s := newSimulation(2, "10.20.0.0/24", 1, t.Errorf)
	a, b := s.hosts[0], s.hosts[1]
	a.start()
	b.start()
	s.run(10 * time.Second)
	openOn(s, a)
	b.open()
	s.run(700 * time.Microsecond) // the host's answer is on its way
	a.step(func() { a.core.closePool(s.pool) })
	s.run(20 * time.Second)
	failed := errors.New("no answer")
	b.step(func() { b.core.request(s.pool, Request{MAC: "x"}, func(_ netip.Addr, err error) { failed = err }) })
	s.run(20 * time.Second)
	if failed != nil {
		t.Errorf("254 free addresses: %v", failed)
	}
	b.step(func() {
		b.core.reclaim([]string{a.id}, func(n uint64, err error) { t.Logf("reclaim: %d, %v", n, err) })
	})
	s.run(20 * time.Second)
	b.step(func() { b.core.request(s.pool, Request{MAC: "x"}, func(_ netip.Addr, err error) { failed = err }) })
	s.run(20 * time.Second)
	t.Logf("after that: %v", failed)
}

// A reclaim among many hosts finds them in agreement, soon after one gave another an address.
func TestReclaimAmongMany(t *testing.T) {
	for _, n := range []int{5, 30, 60} {
		s := newSimulation(n, "10.20.0.0/16", 1, t.Errorf)
		for _, h := range s.hosts {
			h.start()
		}
		s.run(10 * time.Second)
		for _, h := range s.hosts {
			h.open()
			s.run(300 * time.Millisecond)
		}
		s.run(time.Minute)
		lost := s.hosts[n-1]
		lost.lose()
		s.run(10 * time.Second)
		h := s.hosts[0]
		at := h.state().Table.owned(s.hosts[1].state().Owner, 1, prefix.MaxOffset)[0].First
		h.container(h.state().addr(at + 3)) // --ip of another's block
		s.run(time.Second)
		failed := errors.New("no answer")
		h.step(func() {
			h.core.reclaim([]string{lost.id}, func(_ uint64, err error) { failed = err })
		})
		s.run(8 * time.Second)
		if failed != nil {
			t.Errorf("%d hosts, no loss, no partition: %v", n, failed)
		}
	}
}

// When two clusters meet, the reserved addresses and the gateway of the younger claim are not handed out.
func TestMergeForgetsReserved(t *testing.T) {
	s := newSimulation(2, "10.20.0.0/28", 1, t.Errorf)
	older, younger := s.hosts[1], s.hosts[0]
	younger.side = 1
	for _, h := range []*simHost{older, younger} {
		h.start()
		s.run(helloPatience)
		h.open()
		s.run(time.Second)
	}
	aux := netip.MustParseAddr("10.20.0.9")
	younger.step(func() { younger.core.request(s.pool, Request{Addr: aux}, func(netip.Addr, error) {}) })
	younger.step(func() {
		younger.core.request(s.pool, Request{Addr: netip.MustParseAddr("10.20.0.14"), Gateway: true}, func(netip.Addr, error) {})
	})
	s.run(time.Second)
	s.heal()
	s.until("both agree", s.agree)
	s.run(time.Minute)
	for range 14 {
		younger.container(netip.Addr{})
		s.run(time.Second)
	}
	for _, addr := range []string{"10.20.0.9", "10.20.0.14"} {
		if c, has := younger.containers[netip.MustParseAddr(addr)]; has {
			t.Errorf("%s, reserved or the gateway on this very host, is container %s's", addr, c.mac)
		}
	}
}

// A network that was made without a gateway gets one where a host wants it: an address that is no container's, there or here, the same on
// all hosts, and none that is reserved.
func TestGatewayBesideContainers(t *testing.T) {
	s := newSimulation(3, "10.20.0.0/28", 1, t.Errorf)
	for _, h := range s.hosts {
		h.start()
	}
	s.run(10 * time.Second)
	openOn(s, s.hosts...)
	s.run(10 * time.Second)
	a, b := s.hosts[0], s.hosts[1]
	for range 4 {
		for _, h := range s.hosts {
			h.container(netip.Addr{})
			s.run(100 * time.Millisecond)
		}
		if _, first := a.containers[netip.MustParseAddr("10.20.0.1")]; first {
			break
		}
	}
	if _, first := a.containers[netip.MustParseAddr("10.20.0.1")]; !first {
		t.Fatalf("the first address is none of %s's containers': %v", a.id, a.containers)
	}
	a.step(func() {
		a.core.request(s.pool, Request{Addr: netip.MustParseAddr("10.20.0.14")}, func(netip.Addr, error) {})
	})
	s.run(time.Second)
	var gateways []netip.Addr
	for _, h := range []*simHost{b, a, s.hosts[2]} {
		h.step(func() {
			h.core.request(s.pool, Request{Gateway: true}, func(addr netip.Addr, err error) {
				if err != nil {
					t.Error(err)
				}
				gateways = append(gateways, addr)
			})
		})
		s.run(time.Second)
	}
	if len(gateways) != 3 || gateways[0] != gateways[1] || gateways[0] != gateways[2] {
		t.Fatalf("gateways %v, want one on all hosts", gateways)
	}
	for range 14 {
		for _, h := range s.hosts {
			h.container(netip.Addr{})
			s.run(time.Second)
		}
	}
	for _, h := range s.hosts {
		if c, has := h.containers[gateways[0]]; has {
			t.Errorf("%s, the gateway, is container %s's", gateways[0], c.mac)
		}
	}
}

// What Status gives is a copy: it is read without the core's lock.
func TestStatusShares(t *testing.T) {
	c, p := testCore("a.1", "b.1")
	c.meet(map[string]string{"b": "host-b"}, nil)
	says(c, p, "b", p.hash)
	for _, b := range c.blocks(p) {
		if b.Node == "b" && b.Free != nil {
			before := *b.Free
			p.peer("b").free = before + 7
			if *b.Free != before {
				t.Error("BlockStatus.Free points into the core: it is read without the lock when it is marshalled")
			}
		}
	}
}

// All addresses held in others' blocks are told, whoever of their owners is down.
func TestHeldBeyondLimit(t *testing.T) {
	s := stored{Key: "k", Subnet: netip.MustParsePrefix("10.20.0.0/16"), Owner: "a.1", Member: true, Origin: origin{1, "a"},
		Table: table{{First: 1, Last: 2000, Owner: "down.1", Version: 1}, {First: 2001, Last: 65534, Owner: "c.1", Version: 1}}}
	leases := map[uint64]lease{2001: {MAC: "x"}}
	for at := uint64(1); at <= 1100; at++ {
		leases[at] = lease{MAC: "x"}
	}
	c := newCore(time.Unix(1_750_000_000, 0), 1, "a", "a", []stored{s}, map[poolID]map[uint64]lease{{"k", s.Subnet}: leases})
	held := c.pools[poolID{"k", s.Subnet}].held()
	if held[len(held)-1] != 2001 {
		t.Error("host c, which owns address 2001, is not told as long as another owner is down that a container here has it")
	}
}

// A busy host that answers after seconds is no reason to refuse a container.
func TestSlowHost(t *testing.T) {
	c, p := testCore("b.1")
	c.meet(map[string]string{"b": "host-b"}, nil)
	says(c, p, "b", p.hash)
	c.ask(p, "b.1", ask{First: p.lo, Last: p.hi}) // ahead of need: it has been silent for a while when the request comes
	c.now = c.now.Add(askPatience / 2)
	var got netip.Addr
	var failed error
	event := func() { c.request(p.id, Request{MAC: "x"}, func(a netip.Addr, err error) { got, failed = a, err }) }
	asked := c.now
	for failed == nil && !got.IsValid() {
		out := c.step(c.now, event)
		event = nil
		for _, m := range out.sends {
			if m.message.Ask != nil && c.now.Sub(asked) > 4*time.Second {
				o := p.Origin
				out.done = append(out.done, c.step(c.now, func() {
					deliver(c, "b", &message{Key: p.Key, Subnet: p.Subnet, Heard: heard(c), Owner: "b.1", Member: true, Origin: &o, Spans: p.Table.given(5, 5, p.Owner, 0), Answer: &answer{ID: m.message.Ask.ID}})
				}).done...)
			}
		}
		for _, done := range out.done {
			done(nil)
		}
		c.now = c.now.Add(askRetry)
	}
	if failed != nil {
		t.Errorf("host b gives an address after 4 s, and the request is refused after %v: %v", c.now.Sub(asked), failed)
	}
}

// A range of one address that is in use elsewhere is full; nobody is said to be silent.
func TestRangeOfOneAddress(t *testing.T) {
	c, p := testCore("b.1")
	c.meet(map[string]string{"b": "host-b"}, nil)
	says(c, p, "b", p.hash)
	p.Range = netip.MustParsePrefix("10.20.0.9/32")
	p.lo, p.hi = prefix.BoundsWithin(p.Subnet, p.Range)
	var failed error
	run := func(event func()) {
		for _, done := range c.step(c.now, event).done {
			done(nil)
		}
	}
	run(func() { c.request(p.id, Request{MAC: "x"}, func(_ netip.Addr, err error) { failed = err }) })
	for range 2 { // ahead of need, and in need
		if p.question == nil {
			break
		}
		o := p.Origin
		why := &answer{ID: p.question.ID, Why: "it is in use there"} // donate's, when First is Last
		run(func() {
			deliver(c, "b", &message{Key: p.Key, Subnet: p.Subnet, Heard: heard(c), Owner: "b.1", Member: true, Origin: &o, Hash: p.hash, Answer: why})
		})
	}
	if failed == nil || strings.Contains(failed.Error(), "does not answer") {
		t.Errorf("host b is up, has answered, and has the address in use: %v", failed)
	}
}
