package ipam

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/overlane/overlane/overlay/ipam/prefix"
)

func capacity(p *pool) uint64 {
	lo, hi := prefix.Bounds(p.Subnet)
	n := hi - lo + 1
	for _, s := range p.Table {
		if !isHost(s.Owner) {
			n -= s.size()
		}
	}
	return n
}

// Whatever happens, no address is handed out twice by hosts that have met, a host that has blocks goes on handing them
// out, and in the end every address is somebody's and free again.
func TestRandomSchedules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 5).Draw(t, "hosts")
		subnet := rapid.SampledFrom([]string{"10.20.0.0/28", "10.20.0.0/26", "10.20.0.0/24", "fd00:20::/64"}).Draw(t, "subnet")
		s := newSimulation(n, subnet, rapid.Uint64().Draw(t, "seed"), func(f string, args ...any) { t.Fatalf(f, args...) })
		s.loss = rapid.SampledFrom([]float64{0, 0.1, 0.3}).Draw(t, "loss")
		s.jitter = rapid.SampledFrom([]time.Duration{0, 5 * time.Millisecond, 400 * time.Millisecond}).Draw(t, "jitter")
		apart := rapid.Bool().Draw(t, "apart")
		for i, h := range s.hosts {
			if apart {
				h.side = i % 2
			}
			h.within = drawRange(t, s.pool.Subnet)
			h.start()
		}
		if rapid.Bool().Draw(t, "met") {
			s.run(2 * time.Second)
		}
		steps := rapid.IntRange(5, 60).Draw(t, "steps")
		for range steps {
			s.act(t)
			s.run(time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond)
			s.checkOwners()
		}
		s.settleAndCheck(t)
	})
}

// drawRange is the part of a subnet from which a host hands out, mostly all of it.
func drawRange(t *rapid.T, subnet netip.Prefix) netip.Prefix {
	part := rapid.IntRange(0, 11).Draw(t, "range")
	if part > 3 {
		return netip.Prefix{}
	}
	bits := subnet.Bits() + 2
	if subnet.Addr().Is6() {
		bits++ // only the first half is handed out
	}
	return prefix.DefaultPool{Base: subnet, Bits: bits}.Subnet(uint64(part))
}

// act does one thing to one host.
func (s *simulation) act(t *rapid.T) {
	h := s.hosts[rapid.IntRange(0, len(s.hosts)-1).Draw(t, "host")]
	what := rapid.SampledFrom([]string{"run", "run", "run", "many", "exact", "stop", "stop", "crash", "restart", "open", "open", "cut", "heal", "heal", "close", "disband", "gateway", "wait", "lose", "reclaim"}).Draw(t, "what")
	if h.lost {
		if what == "restart" {
			h.comeBack()
		}
		return
	}
	if h.core == nil {
		if what == "stop" && len(h.containers) > 0 {
			h.stop(h.addrs()[0])
		} else if what != "cut" && what != "heal" {
			h.start()
		}
		return
	}
	if h.state() == nil {
		h.open()
		return
	}
	switch what {
	case "run":
		h.runOne()
	case "many":
		for range 10 {
			h.runOne()
		}
	case "exact":
		h.container(prefix.Address(s.pool.Subnet, uint64(rapid.IntRange(2, 12).Draw(t, "addr"))))
	case "stop":
		if all := h.addrs(); len(all) > 0 {
			h.stop(all[rapid.IntRange(0, len(all)-1).Draw(t, "which")])
		}
	case "crash":
		h.crash()
	case "restart":
		h.crash()
		h.start()
	case "open":
		h.open()
	case "cut":
		h.side = rapid.IntRange(0, 1).Draw(t, "side")
	case "heal":
		s.heal()
	case "close":
		if len(h.containers) == 0 && h.starting == 0 {
			h.step(func() { h.core.closePool(s.pool) })
		}
	case "disband":
		s.disband(time.Duration(rapid.IntRange(0, 100).Draw(t, "pause")) * time.Millisecond)
	case "wait":
		s.pass(10*time.Minute, 5*time.Second)
	case "lose":
		h.lose()
	case "reclaim":
		s.reclaimLost(h)
	case "gateway":
		h.step(func() { h.core.request(s.pool, Request{Gateway: true}, func(netip.Addr, error) {}) })
	}
}

// disband has all hosts stop using the pool one after the other: some may give what they have to one that has just forgotten it.
func (s *simulation) disband(pause time.Duration) {
	for _, h := range s.hosts {
		for _, addr := range h.addrs() {
			h.stop(addr)
		}
		if h.core != nil && h.starting == 0 && len(h.containers) == 0 {
			h.step(func() { h.core.closePool(s.pool) })
		}
		s.run(pause)
	}
}

// runOne starts a container, which must have an address at once where the host has a free one.
func (h *simHost) runOne() {
	p := h.state()
	if p == nil {
		return // its first claim has failed meanwhile
	}
	free := p.Member && p.bootstrapped && !p.resyncing && p.available()
	before := len(h.containers)
	h.container(netip.Addr{})
	if free && len(h.containers) <= before {
		h.sim.fail("%s has %d free addresses and hands out none\n%s%+v", h.id, p.free(), h.sim.describe(), p.quarantine)
	}
}

// available says whether the host owns an address of its range that nobody has or had lately.
func (p *pool) available() bool {
	for _, s := range p.Table.owned(p.Owner, p.lo, p.hi) {
		for at := s.First; at <= s.Last; at++ {
			if p.fresh(at) {
				return true
			}
		}
	}
	return false
}

// reclaimLost is an operator on a host, who names all hosts that are lost.
func (s *simulation) reclaimLost(h *simHost) {
	if len(h.met) < len(s.hosts)-1 {
		return // what was given to a host that it does not know at all it can't know of
	}
	var lost []string
	for _, other := range s.hosts {
		if other.lost {
			lost = append(lost, other.id)
		}
	}
	h.step(func() { h.core.reclaim(lost, func(uint64, error) {}) })
}

// settleAndCheck lets everybody meet and everything end, and looks for what was lost.
func (s *simulation) settleAndCheck(t *rapid.T) {
	s.heal()
	s.loss = 0
	for _, h := range s.hosts {
		switch {
		case h.lost:
			h.comeBack()
		case h.core == nil:
			h.start()
		}
		if h.state() == nil || !h.state().Member {
			h.open()
		}
	}
	s.until("all hosts agree", s.agree)
	s.checkOwners()
	s.reclaimFormer()
	s.until("every address in use is its host's", s.held)
	s.until("every address is free", func() bool {
		var free uint64
		starting := 0
		for _, h := range s.hosts {
			starting += h.starting
			for _, addr := range h.addrs() { // also of requests that were still under way
				h.stop(addr)
			}
			free += h.state().free()
		}
		return starting == 0 && s.agree() && free == capacity(s.hosts[0].state())
	})
	s.until("every host has a container again", func() bool {
		served := true
		for _, h := range s.hosts {
			if len(h.containers) == 0 && !s.full(h.state()) {
				served = false
				if h.starting == 0 {
					h.container(netip.Addr{})
				}
			}
		}
		return served
	})
}

// reclaimFormer is an operator who takes back what is left under the former names of hosts: see ALGORITHM.md.
func (s *simulation) reclaimFormer() {
	s.until("nothing is left under a former name", func() bool {
		c, p := s.hosts[0].core, s.hosts[0].state()
		var lost []string
		for _, owner := range p.Table.owners() {
			if owner != p.Owner && !c.there(p, owner) {
				lost = append(lost, nodeOf(owner))
			}
		}
		if lost != nil && len(c.reclaims) == 0 {
			s.hosts[0].step(func() { c.reclaim(lost, func(uint64, error) {}) })
		}
		return lost == nil
	})
}

// full says whether no address of a host's range is left.
func (s *simulation) full(p *pool) bool {
	for at := p.lo; at <= p.hi; at++ {
		taken := slices.ContainsFunc(s.hosts, func(h *simHost) bool { _, has := h.containers[p.addr(at)]; return has })
		if owner, _ := p.Table.of(at); !taken && isHost(owner.Owner) {
			return false
		}
	}
	return true
}

// held says whether each container's address is its host's, or another container's.
func (s *simulation) held() bool {
	for _, h := range s.hosts {
		for addr := range h.containers {
			at, _ := prefix.Offset(s.pool.Subnet, addr)
			clash := slices.ContainsFunc(s.hosts, func(other *simHost) bool { _, has := other.containers[addr]; return has && other != h })
			if owner, _ := h.state().Table.of(at); owner.Owner != h.state().Owner && !clash && isHost(owner.Owner) {
				return false
			}
		}
	}
	return true
}

func (s *simulation) agree() bool {
	for _, h := range s.hosts {
		p, first := h.state(), s.hosts[0].state()
		if p == nil || !p.bootstrapped || !p.Member {
			h.open()
			return false
		}
		if p.resyncing || len(h.core.members) < len(s.hosts)-1 || first == nil || p.hash != first.hash || p.Origin != first.Origin {
			return false
		}
	}
	return true
}

// Two clusters that claimed the same pool before they met: the older claim counts, containers keep what they have, what two
// have is a conflict that both sides show, and it ends with one of them.
func TestClaimsThatMeet(t *testing.T) {
	s := newSimulation(2, "10.20.0.0/24", 1, t.Fatalf)
	older, younger := s.hosts[1], s.hosts[0]
	younger.side = 1
	for i, h := range []*simHost{older, younger} {
		h.start()
		s.run(helloPatience)
		h.open()
		s.run(time.Second)
		for range []int{3, 5}[i] {
			h.container(netip.Addr{})
		}
	}
	if len(older.containers) != 3 || len(younger.containers) != 5 {
		t.Fatalf("before they met:\n%s", s.describe())
	}
	claim := older.state().Origin
	s.heal()
	s.until("both agree", s.agree)
	if younger.state().Origin != claim {
		t.Errorf("the claim %v counts, want the older one %v", younger.state().Origin, claim)
	}
	s.until("every address in use is its host's", s.held)
	conflicts := func(h *simHost) []Conflict { return h.core.conflicts(h.state()) }
	if len(conflicts(older)) != 3 || len(conflicts(younger)) != 3 {
		t.Errorf("conflicts: %+v, and on the other side %+v, want 3", conflicts(older), conflicts(younger))
	}
	for _, h := range s.hosts {
		h.container(netip.Addr{})
		s.run(time.Second)
	}
	for _, addr := range younger.addrs()[:3] {
		younger.stop(addr)
	}
	s.until("no conflict is left", func() bool { return len(conflicts(older)) == 0 && len(conflicts(younger)) == 0 })
}

// A host whose clock was never set claims a pool before it has met those that use it: theirs counts, though its says 1970.
func TestClaimOfAnUnsetClock(t *testing.T) {
	s := newSimulation(3, "10.20.0.0/24", 1, t.Fatalf)
	a, b, unset := s.hosts[0], s.hosts[1], s.hosts[2]
	unset.side = 1
	unset.skew = time.Unix(100, 0).Sub(s.now)
	for _, h := range s.hosts {
		h.start()
	}
	s.run(helloPatience)
	openOn(s, a, b, unset)
	claim := a.state().Origin
	for _, h := range s.hosts {
		h.container(netip.Addr{})
	}
	s.heal()
	s.until("all hosts agree", s.agree)
	if got := unset.state().Origin; got != claim {
		t.Errorf("the claim %+v counts, want %+v", got, claim)
	}
}
