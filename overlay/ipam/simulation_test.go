package ipam

import (
	"container/heap"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/overlane/overlane/overlay/ipam/prefix"
)

// A simulated cluster: cores on one clock, over a network that loses, delays, reorders and duplicates. Nothing in it
// depends on anything but its seed.
type simulation struct {
	now     time.Time
	rand    *rand.Rand
	queue   simQueue
	order   int
	hosts   []*simHost
	loss    float64
	jitter  time.Duration
	latency time.Duration // of every message
	fail    func(format string, args ...any)
	pool    poolID
	pace    time.Duration // between beats of a daemon
	second  int64         // since 1970, and messages in it
	sent    int
	// Addresses that were taken over from a host that seemed to be down. Until it hears of that, it may go on with one.
	takenOver map[uint64]bool
}

// stormy is more messages of a host in a second than it ever has a reason for.
const stormy = 500

// simHost is a host: its disk, its containers, which outlive the daemon, and the daemon's core while that runs.
type simHost struct {
	sim        *simulation
	id         string
	side       int          // of a partition
	within     netip.Prefix // the --ip-range
	core       *core
	life       int
	pools      map[poolID]stored
	leases     map[poolID]map[uint64]lease
	containers map[netip.Addr]simContainer
	starting   int                  // requests under way
	since      map[string]time.Time // another host is reachable, or not, since then
	known      map[string]bool
	met        map[string]bool      // at any time
	words      map[simTopic]simWord // of other hosts, since the daemon's start
	heard      map[poolID]map[string]string
	lost       bool          // said to be so for good
	skew       time.Duration // of its clock
}

// simWord is the last word of another host that had the pool from the same first claim.
type simWord struct {
	origin origin
	sent   time.Time
}

// simTopic is what a word is about: a host and a pool.
type simTopic struct {
	host string
	pool poolID
}

type simContainer struct {
	mac    string
	origin origin // of the pool when the address was handed out
	at     time.Time
	taken  bool // by another host, while this one was away
}

type simEvent struct {
	at    time.Time
	order int
	do    func()
}

type simQueue []simEvent

func (q simQueue) Len() int { return len(q) }
func (q simQueue) Less(i, j int) bool {
	return q[i].at.Before(q[j].at) || q[i].at.Equal(q[j].at) && q[i].order < q[j].order
}
func (q simQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *simQueue) Push(x any)   { *q = append(*q, x.(simEvent)) }
func (q *simQueue) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}

func newSimulation(hosts int, subnet string, seed uint64, fail func(string, ...any)) *simulation {
	s := &simulation{
		now:  time.UnixMilli(1_700_000_000_000),
		rand: rand.New(rand.NewPCG(seed, 1)),
		fail: fail,
		pace: tick, takenOver: map[uint64]bool{},
		pool: poolID{"subnet=" + subnet, netip.MustParsePrefix(subnet)},
	}
	for i := range hosts {
		h := &simHost{
			sim: s, id: fmt.Sprintf("%032d", (i*7+3)%100), pools: map[poolID]stored{}, leases: map[poolID]map[uint64]lease{},
			containers: map[netip.Addr]simContainer{}, since: map[string]time.Time{}, known: map[string]bool{}, met: map[string]bool{}, words: map[simTopic]simWord{}, heard: map[poolID]map[string]string{},
		}
		s.hosts = append(s.hosts, h)
	}
	s.membership()
	return s
}

func (s *simulation) after(d time.Duration, do func()) {
	s.order++
	heap.Push(&s.queue, simEvent{s.now.Add(d), s.order, do})
}

func (s *simulation) run(d time.Duration) {
	end := s.now.Add(d)
	for len(s.queue) > 0 && !s.queue[0].at.After(end) {
		ev := heap.Pop(&s.queue).(simEvent)
		s.now = ev.at
		ev.do()
	}
	s.now = end
}

// pass has a long time go by, with fewer looks at the clock.
func (s *simulation) pass(d, pace time.Duration) {
	s.pace = pace
	s.run(d)
	s.pace = tick
	s.run(pace)
}

// until runs until cond holds, and fails after a while.
func (s *simulation) until(what string, cond func() bool) {
	for end := s.now.Add(3 * time.Minute); !cond(); s.run(50 * time.Millisecond) {
		if s.now.After(end) {
			s.fail("after three minutes not: %s\n%s", what, s.describe())
		}
	}
}

func (s *simulation) heal() {
	for _, h := range s.hosts {
		h.side = 0
	}
}

// membership stands for memberlist: it notices who comes within a second, and who goes within six.
func (s *simulation) membership() {
	s.after(min(s.pace, 200*time.Millisecond)+s.pace-tick, s.membership)
	for _, h := range s.hosts {
		if h.core == nil {
			continue
		}
		changed := false
		for _, other := range s.hosts {
			if other == h {
				continue
			}
			reachable := other.core != nil && other.side == h.side
			if h.known[other.id] == reachable {
				delete(h.since, other.id)
				continue
			}
			if h.since[other.id].IsZero() {
				h.since[other.id] = s.now
			}
			patience := 500 * time.Millisecond
			if !reachable {
				patience = 5 * time.Second
			}
			if s.now.Sub(h.since[other.id]) >= patience {
				h.known[other.id] = reachable
				h.met[other.id] = true
				changed = true
			}
		}
		if changed {
			h.step(func() { h.core.meet(h.members()) })
		}
	}
}

// members are the other hosts that are up; absent those that were at any time.
func (h *simHost) members() (up, absent map[string]string) {
	up, absent = map[string]string{}, map[string]string{}
	for id := range h.met {
		if h.known[id] {
			up[id] = "host-" + id[28:]
		} else {
			absent[id] = "host-" + id[28:]
		}
	}
	return up, absent
}

func (h *simHost) start() {
	h.life++
	h.core = newCore(h.sim.now.Add(h.skew), uint64(h.life), h.id, "host-"+h.id[28:], slices.SortedFunc(maps.Values(h.pools), func(a, b stored) int { return poolID{a.Key, a.Subnet}.compare(poolID{b.Key, b.Subnet}) }), h.leases)
	for id, hosts := range h.heard {
		h.core.peerPools[id] = maps.Clone(hosts)
	}
	up, absent := h.members() // discovery remembers whom it has met
	h.core.meet(up, absent)
	h.core.lives = func(_ poolID, addr netip.Addr) bool { _, lives := h.containers[addr]; return lives }
	life := h.life
	var beat func()
	beat = func() {
		if h.life == life && h.core != nil {
			h.step(h.core.collect)
			h.sim.after(max(h.sim.pace, h.core.pace()), beat)
		}
	}
	beat()
}

func (h *simHost) crash() {
	h.core = nil
	h.starting = 0
	clear(h.known)
	clear(h.since)
	clear(h.words)
}

// lose is a host that stops for good, with its containers.
func (h *simHost) lose() {
	h.crash()
	h.lost = true
	clear(h.containers)
}

// comeBack starts a host that was lost, with all others: one that sees nobody can't know that it was reclaimed.
func (h *simHost) comeBack() {
	for _, other := range h.sim.hosts {
		if other.core == nil {
			other.lost = false
			other.start()
		}
	}
	h.sim.heal()
	for !h.sim.allHeard() {
		if h.state() != nil {
			h.container(netip.Addr{})
		}
		h.sim.run(100 * time.Millisecond)
	}
}

// allHeard says whether all hosts are up, know each other, and have heard the others.
func (s *simulation) allHeard() bool {
	return !slices.ContainsFunc(s.hosts, func(h *simHost) bool {
		return len(h.core.members) < len(s.hosts)-1 || h.state() != nil && h.state().resyncing
	})
}

func (h *simHost) step(event func()) {
	out := h.core.step(h.sim.now.Add(h.skew), event)
	for _, p := range h.core.pools {
		for _, r := range p.waiting {
			if r.taken {
				h.sim.takenOver[r.at] = true
			}
		}
	}
	for _, p := range out.pools {
		s := p.stored
		s.Table, s.Names = slices.Clone(s.Table), maps.Clone(s.Names)
		h.pools[p.id] = s
	}
	for _, id := range out.peerPools {
		h.heard[id] = maps.Clone(h.core.peerPools[id])
	}
	for _, id := range out.gone {
		delete(h.pools, id)
		delete(h.leases, id)
	}
	for _, w := range out.leases {
		if h.leases[w.pool] == nil {
			h.leases[w.pool] = map[uint64]lease{}
		}
		delete(h.leases[w.pool], w.at)
		if w.lease != nil {
			h.leases[w.pool][w.at] = *w.lease
		}
	}
	for _, m := range out.sends {
		h.sim.carry(h, m)
	}
	for _, done := range out.done {
		done(nil)
	}
}

func (s *simulation) carry(from *simHost, m send) {
	b, err := m.message.encode()
	if err != nil {
		s.fail("encode: %v", err)
	}
	if now := s.now.Unix(); now != s.second {
		s.second, s.sent = now, 0
	}
	if s.sent++; s.sent > stormy*len(s.hosts) {
		s.fail("more than %d messages in a second, the last from %s to %s: %+v\n%s", stormy*len(s.hosts), from.id, m.to, m.message, s.describe())
	}
	sent, copies := s.now, 1
	if s.rand.Float64() < s.loss {
		copies = 0
	} else if s.rand.Float64() < s.loss {
		copies = 2
	}
	for range copies {
		s.after(s.latency+500*time.Microsecond+time.Duration(s.rand.Int64N(int64(s.jitter)+1)), func() {
			to := s.host(m.to)
			if to.core == nil || from.side != to.side {
				return
			}
			m, err := decode(b)
			if err != nil {
				s.fail("decode %s: %v", b, err)
			}
			to.step(func() { to.core.receive(from.id, m) })
			about := simTopic{from.id, poolID{m.Key, m.Subnet}}
			p := to.core.pools[about.pool]
			if m.Origin != nil && !m.Proposed && p != nil && p.bootstrapped && p.Origin == *m.Origin && !sent.Before(to.words[about].sent) {
				to.words[about] = simWord{p.Origin, sent}
			}
		})
	}
}

func (s *simulation) host(id string) *simHost {
	return s.hosts[slices.IndexFunc(s.hosts, func(h *simHost) bool { return h.id == id })]
}

// open makes the host use the pool.
func (h *simHost) open() {
	h.step(func() { h.core.openPool(h.sim.pool, h.within, func(error) {}) })
}

func (h *simHost) state() *pool {
	if h.core == nil {
		return nil
	}
	return h.core.pools[h.sim.pool]
}

// start a container; addr invalid: with any address.
func (h *simHost) container(addr netip.Addr) {
	life := h.life
	mac := fmt.Sprint(h.sim.rand.Uint64())
	pool := h.sim.pool
	h.starting++
	h.step(func() {
		h.core.request(pool, Request{Addr: addr, MAC: mac}, func(got netip.Addr, err error) {
			if h.life != life || h.core == nil {
				return
			}
			h.starting--
			if err == nil {
				h.handedOut(pool, got, mac, addr.IsValid())
			}
		})
	})
}

// handedOut notes a container. No other may have its address that was handed out under the same first claim, nor one on a
// host that has told of it. One that was asked for may be taken over from a host that seems to be down.
func (h *simHost) handedOut(pool poolID, addr netip.Addr, mac string, asked bool) {
	c := simContainer{mac: mac, origin: h.core.pools[pool].Origin, at: h.sim.now}
	for _, other := range h.sim.hosts {
		word := h.words[simTopic{other.id, pool}]
		told := func(old simContainer) bool { return word.origin == c.origin && !word.sent.Before(old.at) }
		old, has := other.containers[addr]
		switch {
		case !has || other == h:
		case asked && !h.known[other.id], other.fenced(addr): // it is, or was, taken over
			old.taken = true
			other.containers[addr] = old
		case h.sim.hasLost(h, other, addr):
			c.taken = true
		}
		if has && !old.taken && !c.taken && (old.origin == c.origin || told(old)) {
			h.sim.fail("%s is handed out on %s, and %s has had it for %s\n%s", addr, h.id, other.id, h.sim.now.Sub(old.at), h.sim.describe())
		}
	}
	h.containers[addr] = c
}

// fenced says whether this host knows that it has lost an address which a container of it has.
func (h *simHost) fenced(addr netip.Addr) bool {
	at, _ := prefix.Offset(h.sim.pool.Subnet, addr)
	p := h.state()
	return p != nil && !p.used[at].Taken.IsZero()
}

// hasLost says whether another host has taken over an address, and this one has yet to hear of it.
func (s *simulation) hasLost(h, by *simHost, addr netip.Addr) bool {
	at, _ := prefix.Offset(s.pool.Subnet, addr)
	p := h.state()
	if p == nil || !s.takenOver[at] {
		return false
	}
	mine, _ := p.Table.of(at)
	theirs, _ := by.pools[s.pool].Table.of(at)
	return mine.Epoch < theirs.Epoch
}

// stop ends a container. Where the daemon does not run, nobody hears of it.
func (h *simHost) stop(addr netip.Addr) {
	delete(h.containers, addr)
	if h.core != nil {
		h.step(func() { h.core.release(h.sim.pool, addr) })
	}
}

func (h *simHost) addrs() []netip.Addr {
	return slices.SortedFunc(maps.Keys(h.containers), netip.Addr.Compare)
}

// checkOwners fails when two hosts take themselves for the owner of one address.
func (s *simulation) checkOwners() {
	for i, a := range s.hosts {
		for _, b := range s.hosts[:i] {
			p, q := a.state(), b.state()
			if p == nil || q == nil || !p.bootstrapped || !q.bootstrapped || p.resyncing || q.resyncing || p.Origin != q.Origin {
				continue
			}
			for _, mine := range p.Table.owned(p.Owner, 0, prefix.MaxOffset) {
				both := q.Table.owned(q.Owner, mine.First, mine.Last)
				both = slices.DeleteFunc(both, func(o span) bool {
					return undecided(p, o) || undecided(q, o) || o.Epoch != mine.Epoch && s.allTakenOver(o)
				})
				if len(both) > 0 {
					s.fail("%s and %s both own %+v: %+v", a.id, b.id, mine, both)
				}
			}
		}
	}
}

// undecided says whether a span is an address that its host is about to take over: it does not hand it out before all others agree.
func undecided(p *pool, o span) bool {
	return o.First == o.Last && slices.ContainsFunc(p.waiting, func(r *request) bool { return r.taken && r.at == o.First })
}

// allTakenOver says whether each address of a span was taken over at any time.
func (s *simulation) allTakenOver(o span) bool {
	for at := o.First; at <= o.Last; at++ {
		if !s.takenOver[at] {
			return false
		}
	}
	return true
}

// describe shows every host's part, for who looks for a failure's cause.
func (s *simulation) describe() string {
	var b strings.Builder
	for _, h := range s.hosts {
		p := h.state()
		if p == nil {
			fmt.Fprintf(&b, "%s: side %d, daemon %t, no pool\n", h.id[28:], h.side, h.core != nil)
			continue
		}
		fmt.Fprintf(&b, "%s: side %d, member %t, settled %t, quiet %t, claim %v, containers %v, free %d, used %v, waiting %d, asks %+v\n", h.id[28:], h.side, p.Member, p.bootstrapped, p.resyncing, p.Origin, h.addrs(), p.free(), slices.Sorted(maps.Keys(p.used)), len(p.waiting), p.question)
		for _, span := range p.Table {
			fmt.Fprintf(&b, "    %d-%d %s %d/%d\n", span.First, span.Last, span.Owner, span.Epoch, span.Version)
		}
	}
	return b.String()
}
