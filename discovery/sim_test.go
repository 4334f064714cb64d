package discovery

import (
	"cmp"
	"container/heap"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"
)

// A simulated cluster: cores on one clock, over a network that loses, delays,
// reorders and duplicates. Nothing in it depends on anything but its seed.

const (
	simDetect = 5 * time.Second // from a failure until membership reports it
	simPoll   = 200 * time.Millisecond
)

type simulation struct {
	now       time.Time
	rand      *rand.Rand
	queue     simQueue
	order     int
	hosts     []*simHost
	side      []int       // of a partition, by host
	cut       [2]*simHost // nothing goes from the first to the second
	loss      float64     // of datagrams
	dup       float64
	jitter    time.Duration
	said      []simMessage // everything, for replays
	rewound   bool         // a host was put back to an earlier state
	datagrams int
	streams   int
	fail      func(format string, args ...any)
}

// simHost is a host: its disk, what its daemon wants published, and its core
// while it runs.
type simHost struct {
	sim         *simulation
	number      int
	id          nodeID
	address     netip.AddrPort
	incarnation uint64        // on disk
	clock       time.Duration // what the host's clock is off by
	networks    map[string]Network
	endpoints   map[string]map[MAC]Endpoint
	core        *core // nil: down
	left        bool
	downSince   time.Time
	timer       time.Time // the earliest one queued
	life        int
	slow        time.Duration // from the daemon's start until it publishes
	view        map[string]Change
	gone        int                    // things it was told are gone
	unreachable map[*simHost]time.Time // since when, as membership sees it
	members     map[*simHost]uint64    // incarnation told to the core
	watermarks  map[pullKey][2]uint64
}

type simMessage struct {
	from, to *simHost
	content  []byte
}

type simEvent struct {
	at    time.Time
	order int
	do    func()
}

type simQueue []simEvent

func (q simQueue) Len() int { return len(q) }
func (q simQueue) Less(i, j int) bool {
	return cmp.Or(q[i].at.Compare(q[j].at), cmp.Compare(q[i].order, q[j].order)) < 0
}
func (q simQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *simQueue) Push(x any)   { *q = append(*q, x.(simEvent)) }
func (q *simQueue) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}

func newSimulation(hosts int, seed uint64, fail func(string, ...any)) *simulation {
	s := &simulation{now: time.UnixMilli(1_700_000_000_000), rand: rand.New(rand.NewPCG(seed, 1)), fail: fail, side: make([]int, hosts)}
	for i := range hosts {
		h := &simHost{
			sim:       s,
			number:    i,
			id:        nodeID{0: byte(250 - i*37), 15: byte(i + 1)},
			address:   netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), 7950),
			networks:  map[string]Network{},
			endpoints: map[string]map[MAC]Endpoint{},
		}
		s.hosts = append(s.hosts, h)
		h.start()
	}
	s.after(0, s.pollMembership)
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

func (s *simulation) reachable(a, b *simHost) bool {
	return a.core != nil && b.core != nil && s.side[a.number] == s.side[b.number]
}

// pollMembership stands for memberlist: it tells every core who is there.
func (s *simulation) pollMembership() {
	for _, h := range s.hosts {
		for _, other := range s.hosts {
			if h == other || h.core == nil {
				continue
			}
			_, member := h.members[other]
			since, missing := h.unreachable[other]
			switch {
			case s.reachable(h, other):
				delete(h.unreachable, other)
				h.meet(other)
			case member && other.left:
				h.lose(other)
			case !missing:
				h.unreachable[other] = s.now
			case member && s.now.Sub(since) >= simDetect:
				h.lose(other)
			}
		}
	}
	s.after(simPoll, s.pollMembership)
}

func (h *simHost) meet(other *simHost) {
	if told, ok := h.members[other]; !ok || told != other.core.self.meta.incarnation {
		h.members[other] = other.core.self.meta.incarnation
		h.step(memberEvent{other.id, other.core.self.meta, other.address})
	}
}

func (h *simHost) lose(other *simHost) {
	delete(h.members, other)
	h.step(goneEvent{other.id})
}

// start runs the daemon: as the real one does, it says right after the start
// what it had stored.
func (h *simHost) start() {
	restarted := h.incarnation != 0
	h.incarnation = max(h.incarnation+1, uint64(h.sim.now.Add(h.clock).UnixMilli()))
	h.life++
	h.left = false
	h.view = map[string]Change{}
	h.unreachable = map[*simHost]time.Time{}
	h.members = map[*simHost]uint64{}
	h.watermarks = map[pullKey][2]uint64{}
	h.timer = time.Time{}
	m := meta{
		host:        fmt.Sprint("host", h.number),
		vtep:        netip.AddrPortFrom(h.address.Addr(), 4789),
		incarnation: h.incarnation,
	}
	h.core = newCore(h.sim.now, h.sim.rand.Uint64(), h.id, m, h.address, restarted)
	h.step(nil)
	if h.slow == 0 {
		h.publish()
		return
	}
	life := h.life
	h.sim.after(h.slow, func() {
		if h.life == life && h.core != nil {
			h.publish()
		}
	})
}

func (h *simHost) publish() {
	for _, key := range slices.Sorted(maps.Keys(h.networks)) {
		h.step(participateEvent{h.networks[key]})
		for _, mac := range slices.SortedFunc(maps.Keys(h.endpoints[key]), compareMACs) {
			e := h.endpoints[key][mac]
			h.step(putEvent{key, &e})
		}
	}
}

func (h *simHost) crash() {
	h.core = nil
	h.downSince = h.sim.now
}

// rewind puts the disk back to an earlier state, and the clock with it.
func (h *simHost) rewind() {
	h.incarnation -= uint64(h.sim.rand.IntN(1e6))
	h.clock -= time.Hour
	h.sim.rewound = true
}

func (h *simHost) leave() {
	h.step(leaveEvent{})
	clear(h.networks)
	clear(h.endpoints)
	life := h.life
	h.sim.after(500*time.Millisecond, func() {
		if h.life == life && h.core != nil {
			h.crash()
			h.left = true
		}
	})
}

func (h *simHost) participate(n Network) {
	if h.core.check(n) != nil {
		return
	}
	h.networks[n.Key] = n
	if h.endpoints[n.Key] == nil {
		h.endpoints[n.Key] = map[MAC]Endpoint{}
	}
	h.step(participateEvent{n})
}

func (h *simHost) withdraw(key string) {
	delete(h.networks, key)
	delete(h.endpoints, key)
	clear(h.watermarks) // what is pulled anew may come from one who lags
	h.step(withdrawEvent{key})
}

func (h *simHost) put(key string, e Endpoint) {
	if _, ok := h.networks[key]; ok {
		h.endpoints[key][e.MAC] = e
		h.step(putEvent{key, &e})
	}
}

func (h *simHost) remove(key string, mac MAC) {
	delete(h.endpoints[key], mac)
	h.step(deleteEvent{key, mac})
}

func (h *simHost) step(ev event) {
	out := h.core.step(h.sim.now, ev)
	if out.persist != 0 {
		h.incarnation = out.persist
	}
	for i := range out.sends {
		h.sim.carry(h, &out.sends[i])
	}
	for _, ch := range out.changes {
		h.take(ch)
	}
	next := h.core.next()
	if !next.After(h.sim.now) {
		h.sim.fail("host %d: a timer at %s did not run at %s", h.number, next, h.sim.now)
	}
	if h.timer.IsZero() || next.Before(h.timer) || !h.timer.After(h.sim.now) {
		h.timer = next
		life := h.life
		h.sim.after(next.Sub(h.sim.now), func() {
			if h.life == life && h.core != nil && h.timer.Equal(next) {
				h.timer = time.Time{}
				h.step(nil)
			}
		})
	}
}

// take follows the observer's changes and checks that each makes sense.
func (h *simHost) take(ch Change) {
	var subject string
	switch ch.Kind {
	case KindVTEP:
		subject = ch.VTEP.String()
	case KindMAC:
		subject = ch.MAC.String()
	case KindAddr:
		subject = ch.Addr.String()
	}
	subject = fmt.Sprint(ch.Network, ch.Kind, subject)
	old, known := h.view[subject]
	if ch.Gone {
		h.gone++
		gone := ch
		gone.Gone = false
		if !known || old != gone {
			h.sim.fail("host %d: told that %+v is gone; it had %+v", h.number, ch, old)
		}
		delete(h.view, subject)
		return
	}
	if known && old == ch {
		h.sim.fail("host %d: told %+v twice", h.number, ch)
	}
	h.view[subject] = ch
}

// carry takes a message to its recipients as the network is.
func (s *simulation) carry(from *simHost, m *send) {
	b, err := encodePacket(m.packet)
	if err != nil {
		s.fail("cannot encode: %v", err)
	}
	if size := m.packet.wireSize(); len(b) > size {
		s.fail("a message of %d bytes was taken for %d", len(b), size)
	}
	if !m.reliable && len(b) > maxDatagram {
		s.fail("a datagram of %d bytes", len(b))
	}
	for _, r := range m.to {
		at := slices.IndexFunc(s.hosts, func(h *simHost) bool { return h.id == r.id })
		to := s.hosts[at]
		s.said = append(s.said, simMessage{from, to, b})
		copies := 1
		if m.reliable {
			s.streams++
		} else {
			s.datagrams++
			if s.rand.Float64() < s.loss {
				copies = 0
			} else if s.rand.Float64() < s.dup {
				copies = 2
			}
		}
		for range copies {
			delay := 200*time.Microsecond + time.Duration(s.rand.Int64N(int64(s.jitter)+1))
			s.after(delay, func() { s.deliver(simMessage{from, to, b}) })
		}
	}
}

func (s *simulation) deliver(m simMessage) {
	if m.to.core == nil || s.side[m.from.number] != s.side[m.to.number] || s.cut == [2]*simHost{m.from, m.to} {
		return
	}
	p, err := decodePacket(m.content)
	if err != nil {
		s.fail("cannot decode: %v", err)
	}
	m.to.step(packetEvent{p})
	m.to.checkLaws()
}

// replay delivers a share of all that was ever said once more, in any order.
func (s *simulation) replay(share float64) {
	said := s.said
	for _, i := range s.rand.Perm(len(said)) {
		if s.rand.Float64() < share {
			s.deliver(said[i])
		}
	}
}

// checkLaws checks what must hold of a store at every moment.
func (h *simHost) checkLaws() {
	for _, other := range h.sim.hosts {
		o := h.core.owners[other.id]
		if o == nil || other == h {
			continue
		}
		h.checkRise(pullKey{o.id, ""}, o.incarnation, o.version)
		for key, s := range o.sets {
			h.checkRise(pullKey{o.id, key}, s.incarnation, s.version)
			if other.core == nil || other.core.self.incarnation != s.incarnation {
				continue
			}
			if truth := other.core.self.sets[key]; truth != nil && s.version >= other.core.self.networks[key].since {
				h.checkSet(other, key, s, truth)
			}
		}
	}
}

// checkRise checks that (incarnation, version) never falls.
func (h *simHost) checkRise(k pullKey, incarnation, version uint64) {
	if incarnation == 0 {
		return // nothing is held
	}
	was := h.watermarks[k]
	if incarnation < was[0] || incarnation == was[0] && version < was[1] {
		h.sim.fail("host %d: %s %q fell from %v to %d, %d", h.number, k.owner, k.key, was, incarnation, version)
	}
	h.watermarks[k] = [2]uint64{incarnation, version}
}

// checkSet checks the law of set: it has the owner's value of everything whose
// last change it has seen, and nothing that the owner does not know.
func (h *simHost) checkSet(other *simHost, key string, s, truth *set) {
	for mac, it := range truth.live {
		if it.version <= s.version && (s.live[mac].endpoint == nil || !s.live[mac].endpoint.equal(it.endpoint)) {
			h.sim.fail("host %d holds %q of host %d at version %d without %s of version %d", h.number, key, other.number, s.version, mac, it.version)
		}
	}
	for mac := range s.live {
		_, alive := truth.live[mac]
		if !alive && truth.removed[mac] <= s.version {
			h.sim.fail("host %d holds %q of host %d at version %d with %s, removed at %d", h.number, key, other.number, s.version, mac, truth.removed[mac])
		}
	}
}

// checkAgreement checks what must hold after things have been quiet for a while:
// every store equals the union of what the live hosts published.
func (s *simulation) checkAgreement() {
	for _, h := range s.hosts {
		if h.core != nil {
			h.checkAgreement()
		}
	}
}

func (h *simHost) checkAgreement() {
	want, got := map[string]bool{}, map[string]bool{}
	truth := newView()
	for _, n := range h.networks {
		truth.open(n)
	}
	for _, other := range h.sim.hosts {
		if other == h || other.core == nil {
			continue
		}
		for key, n := range h.networks {
			if other.networks[key] != n {
				continue
			}
			vtep := other.core.self.meta.vtep
			truth.addVTEP(key, other.id, vtep)
			for _, e := range other.endpoints[key] {
				want[fmt.Sprintf("%s %v %+v", other.id, n, e)] = true
				truth.addEndpoint(key, other.id, vtep, &e)
			}
		}
	}
	for _, r := range h.core.records() {
		if !r.Hidden && r.Owner != h.id.String() {
			got[fmt.Sprintf("%s %v %+v", r.Owner, r.Network, r.Endpoint)] = true
		}
	}
	h.compare("records", got, want)

	want, got = map[string]bool{}, map[string]bool{}
	for _, ch := range truth.flush() {
		want[fmt.Sprintf("%+v", ch)] = true
	}
	for _, ch := range h.view {
		got[fmt.Sprintf("%+v", ch)] = true
	}
	h.compare("view", got, want)
}

func (h *simHost) compare(what string, got, want map[string]bool) {
	var wrong []string
	for _, text := range slices.Sorted(maps.Keys(want)) {
		if !got[text] {
			wrong = append(wrong, "lacks "+text)
		}
	}
	for _, text := range slices.Sorted(maps.Keys(got)) {
		if !want[text] {
			wrong = append(wrong, "still has "+text)
		}
	}
	if len(wrong) > 0 {
		h.sim.fail("host %d, %s: %d wrong, the first: %s", h.number, what, len(wrong), wrong[0])
	}
}

func compareMACs(a, b MAC) int { return cmp.Compare(a.String(), b.String()) }
