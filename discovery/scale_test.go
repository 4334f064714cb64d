package discovery

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestScaleIsMeasured(t *testing.T) {
	r := measureScale(scaleNodes, 10*scaleNodes, 1, t.Logf, t.Fatalf)
	if r.P50 <= 0 || r.P99 < r.P50 || r.Max < r.P99 || r.UpdatesPerSecond <= 0 || r.IdleKbps <= 0 || r.ColdJoin <= 0 || r.Heal <= 0 || r.CrashWithdraw <= hideAfter {
		t.Errorf("something was not measured: %s", r)
	}
	if !strings.HasPrefix(r.String(), fmt.Sprintf("RESULT sim nodes=%d endpoints=%d ", scaleNodes, 10*scaleNodes)) {
		t.Errorf("%s", r)
	}
}

// scaleResult is what a simulated cluster of many nodes did.
type scaleResult struct {
	Nodes, Endpoints int
	P50, P99, Max    time.Duration // from a change until a member of the network holds it
	UpdatesPerSecond float64       // sustained
	IdleKbps         float64       // sent by a node when nothing changes
	ColdJoin         time.Duration // from the start of an empty node until it holds everything
	Heal             time.Duration // from the end of a partition until all agree
	CrashWithdraw    time.Duration // from a crash until nobody uses its records
}

func (s scaleResult) String() string {
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	return fmt.Sprintf("RESULT sim nodes=%d endpoints=%d p50_ms=%.1f p99_ms=%.1f max_ms=%.1f updates_per_s=%.0f "+
		"idle_kbps_per_node=%.1f cold_join_s=%.2f heal_s=%.2f crash_withdraw_s=%.1f",
		s.Nodes, s.Endpoints, ms(s.P50), ms(s.P99), ms(s.Max), s.UpdatesPerSecond,
		s.IdleKbps, s.ColdJoin.Seconds(), s.Heal.Seconds(), s.CrashWithdraw.Seconds())
}

// The course of the simulation.
const (
	scaleLoss      = 0.01
	scaleSettle    = 3 * time.Second
	scaleIdle      = 5 * time.Second
	scaleLoad      = 2 * time.Second
	scaleRate      = 1050 // updates a second
	scaleDrain     = 2 * time.Second
	scalePartition = 20 * time.Second
	scaleChanges   = 500 // on both sides of the partition
	scalePatience  = 2 * time.Minute
	scaleLook      = 50 * time.Millisecond // between looks at whether something has come true
)

// scale is a cluster whose nodes all subscribe to one network: nothing is to be
// saved by interest.
type scale struct {
	*simulation
	network Network
	each    int // endpoints of a node at first
	result  scaleResult
	log     func(format string, args ...any)

	// The updates under way: by owner, when each of its versions was made, and
	// up to which every node holds them.
	number map[nodeID]int
	made   [][]madeAt // by owner
	held   [][]uint64 // by node and owner
	delay  []time.Duration
}

type madeAt struct {
	version uint64
	at      time.Time
	last    time.Time // that another node held it
}

// measureScale runs a cluster of so many nodes with so many endpoints on a simulated
// clock, on links of half a millisecond that lose one datagram in a hundred. It
// calls fail when a node holds what it should not.
func measureScale(nodes, endpoints int, seed uint64, log, fail func(format string, args ...any)) scaleResult {
	s := &scale{
		simulation: newSimulation(nodes+1, seed, fail),
		network:    Network{Key: "network=scale", VNI: 5000},
		each:       endpoints / nodes,
		result:     scaleResult{Nodes: nodes, Endpoints: endpoints / nodes * nodes},
		log:        log,
		number:     map[nodeID]int{},
		made:       make([][]madeAt, nodes+1),
		held:       make([][]uint64, nodes+1),
	}
	for i, h := range s.hosts {
		s.number[h.id] = i
		s.held[i] = make([]uint64, nodes+1)
	}
	s.loss = scaleLoss
	s.populate(s.hosts[:nodes])
	s.measureIdle()
	s.measureLoad()
	s.measureColdJoin(s.hosts[nodes])
	s.measureCrash(s.hosts[nodes/2])
	s.measureHeal()
	s.check()
	return s.result
}

// populate starts the nodes as ones that have been up for a while: to each is
// said at once all that the others have.
func (s *scale) populate(hosts []*simHost) {
	all := &packet{from: s.hosts[len(s.hosts)-1].id}
	for i, h := range hosts {
		h.unobserved = i >= 2 // a view of everything, on every node, takes more memory than there is
		h.start()
		h.subscribe(s.network)
		for n := range s.each {
			h.put(s.network.Key, scaleEndpoint(i, n))
		}
		all.announces = append(all.announces, h.core.announcement(h.core.self))
		all.deltas = append(all.deltas, h.core.deltaFrom(h.core.self, s.network.Key, 0, 0))
	}
	for _, h := range hosts {
		h.step(packetEvent{all})
	}
	s.run(scaleSettle)
	s.await("a start of all", s.agree)
}

func scaleEndpoint(host, n int) Endpoint {
	e := Endpoint{ID: fmt.Sprintf("%064x", host<<20|n), MAC: MAC{2, 0, byte(host >> 8), byte(host), byte(n >> 8), byte(n)}}
	e.Addrs = append(e.Addrs, netip.AddrFrom4([4]byte{10, byte(host >> 4), byte(host<<4 | n>>8), byte(n)}))
	return e
}

func (s *scale) measureIdle() {
	before := s.bytes
	s.run(scaleIdle)
	s.result.IdleKbps = float64(s.bytes-before) * 8 / 1000 / scaleIdle.Seconds() / float64(s.result.Nodes)
	s.log("idle: %.1f kbit/s a node", s.result.IdleKbps)
}

// measureLoad makes changes all over the cluster at a steady rate.
func (s *scale) measureLoad() {
	s.watch = s.note
	for i := range int(scaleRate * scaleLoad.Seconds()) {
		s.after(time.Duration(i)*time.Second/scaleRate, func() { s.update(s.hosts[s.rand.IntN(s.result.Nodes)]) })
	}
	s.run(scaleLoad + scaleDrain)
	s.watch = nil
	s.await("the updates everywhere", s.agree)
	changes := int(scaleRate * scaleLoad.Seconds())
	if len(s.delay) < changes*(s.result.Nodes-1) {
		s.fail("%d updates were held %d times by %d nodes", changes, len(s.delay), s.result.Nodes)
	}
	slices.Sort(s.delay)
	s.result.P50, s.result.P99, s.result.Max = s.quantile(0.5), s.quantile(0.99), s.quantile(1)
	s.result.UpdatesPerSecond = s.sustained()
	s.log("load: p50 %s, p99 %s, all %s of %d", s.result.P50, s.result.P99, s.result.Max, len(s.delay))
}

func (s *scale) quantile(q float64) time.Duration {
	return s.delay[int(math.Ceil(q*float64(len(s.delay))))-1]
}

// sustained is how many updates a second came to be held by all, while the flow neither began nor ended: in the middle
// eight tenths.
func (s *scale) sustained() float64 {
	var held []time.Time
	for _, made := range s.made {
		for _, m := range made {
			held = append(held, m.last)
		}
	}
	slices.SortFunc(held, time.Time.Compare)
	first, last := len(held)/10, len(held)*9/10
	return float64(last-first) / held[last].Sub(held[first]).Seconds()
}

// update makes one change: an endpoint more, or one less.
func (s *scale) update(h *simHost) {
	n := s.each + s.rand.IntN(16)
	e := scaleEndpoint(h.number, n)
	if _, ok := h.endpoints[s.network.Key][e.MAC]; ok {
		h.remove(s.network.Key, e.MAC)
	} else {
		h.put(s.network.Key, e)
	}
	s.made[h.number] = append(s.made[h.number], madeAt{version: h.core.clock, at: s.now})
}

// note notes what a node newly holds.
func (s *scale) note(h *simHost, p *packet) {
	for i := range p.deltas {
		o := h.core.owners[p.deltas[i].owner]
		if o == h.core.self {
			continue
		}
		owner := s.number[o.id]
		held, have := &s.held[h.number][owner], o.have(s.network.Key)
		for i := range s.made[owner] {
			if m := &s.made[owner][i]; m.version > *held && m.version <= have {
				s.delay = append(s.delay, s.now.Sub(m.at))
				m.last = s.now
			}
		}
		*held = max(*held, have)
	}
}

func (s *scale) measureColdJoin(h *simHost) {
	h.unobserved = true
	began := s.now
	h.start()
	h.subscribe(s.network)
	s.await("a cold join", func() bool { return s.agrees(h) })
	s.result.ColdJoin = s.now.Sub(began)
	s.log("cold join: %s", s.result.ColdJoin)
	s.await("the newcomer's welcome", s.agree)
}

func (s *scale) measureCrash(h *simHost) {
	began := s.now
	h.crash()
	s.await("a crashed node's withdrawal", s.agree)
	s.result.CrashWithdraw = s.now.Sub(began)
	s.log("crash: withdrawn after %s", s.result.CrashWithdraw)
	h.start()
	s.await("its return", s.agree)
}

func (s *scale) measureHeal() {
	for _, h := range s.hosts[:len(s.hosts)/2] {
		h.move(1)
	}
	for i := range scaleChanges {
		s.after(time.Duration(i)*time.Second/scaleRate, func() { s.update(s.hosts[s.rand.IntN(s.result.Nodes)]) })
	}
	s.run(scalePartition)
	if s.agree() {
		s.fail("a partition makes no difference")
	}
	began := s.now
	s.simulation.heal()
	s.await("a partition's end", s.agree)
	s.result.Heal = s.now.Sub(began)
	s.log("heal: %s", s.result.Heal)
}

// await runs until something is true.
func (s *scale) await(what string, true func() bool) {
	for end := s.now.Add(scalePatience); !true(); s.run(scaleLook) {
		if s.now.After(end) {
			s.fail("no sign of %s within %s", what, scalePatience)
			return
		}
	}
}

// agree says whether every node holds and shows what the others have.
func (s *scale) agree() bool {
	return !slices.ContainsFunc(s.hosts, func(h *simHost) bool { return !s.agrees(h) })
}

func (s *scale) agrees(h *simHost) bool {
	if h.core == nil {
		return true
	}
	for _, other := range s.hosts {
		o := h.core.owners[other.id]
		switch {
		case other == h:
		case other.core == nil:
			if o != nil && o.shown {
				return false
			}
		case o == nil || !o.shown || o.incarnation != other.core.self.incarnation || o.have(s.network.Key) != other.core.self.have(s.network.Key):
			return false
		}
	}
	return true
}

// check compares some stores in full with the union of what all published.
func (s *scale) check() {
	for _, n := range []int{0, s.result.Nodes / 2, s.result.Nodes} {
		s.hosts[n].checkAgreement()
	}
}
