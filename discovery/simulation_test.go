package discovery

import (
	"cmp"
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"time"
)

// A simulated cluster: cores on one clock, over a network that loses, delays,
// reorders and duplicates. Nothing in it depends on anything but its seed.

const (
	simLink    = 500 * time.Microsecond // one way
	simResend  = 200 * time.Millisecond // until a stream repeats what was lost
	simPoll    = 200 * time.Millisecond // until membership's news have spread
	simHeaders = 28 + 29                // bytes: IP and UDP, and memberlist's encryption
)

type simulation struct {
	now    time.Time
	rand   *rand.Rand
	queue  simQueue
	order  int
	hosts  []*simHost
	at     map[netip.AddrPort]*simHost
	cut    [2]*simHost // nothing goes from the first to the second
	loss   float64     // of datagrams
	dup    float64
	jitter time.Duration
	fail   func(format string, args ...any)
	// watch is called with every host that took a packet, if it is set.
	watch func(*simHost, *packet)

	keepHistory bool // keep all that is said
	history     []simMessage
	unsettled   bool // a host came, went, moved or met another, and not all know
	rewound     bool // a host was put back to an earlier state, or ran twice
	cloned      bool // a host ran twice, perhaps under one incarnation
	datagrams   int
	streams     int
	bytes       int
}

type simMessage struct {
	from, to *simHost
	packet   *packet
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
	old[len(old)-1] = simEvent{}
	*q = old[:len(old)-1]
	return x
}

// newSimulation makes a cluster of hosts that are down.
func newSimulation(hosts int, seed uint64, fail func(string, ...any)) *simulation {
	s := &simulation{
		now:  time.UnixMilli(1_700_000_000_000),
		rand: rand.New(rand.NewPCG(seed, 1)),
		fail: fail,
		at:   map[netip.AddrPort]*simHost{},
	}
	for i := range hosts {
		s.add(nodeID{0: byte(250 - i*37), 14: byte((i + 1) >> 8), 15: byte(i + 1)})
	}
	s.after(0, s.pollMembership)
	return s
}

func (s *simulation) add(id nodeID) *simHost {
	i := len(s.hosts)
	h := &simHost{
		sim:       s,
		number:    i,
		id:        id,
		address:   netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte((i + 1) >> 8), byte(i + 1)}), 7950),
		networks:  map[string]Network{},
		endpoints: map[string]map[MAC]Endpoint{},
	}
	s.hosts = append(s.hosts, h)
	s.at[h.address] = h
	return h
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
	return a.core != nil && b.core != nil && a.side == b.side
}

// detection is how long memberlist takes to call a crashed member dead: a probe
// and the suspicion, which grows with the logarithm of the members.
func (s *simulation) detection() time.Duration {
	scale := max(1, math.Log10(float64(len(s.hosts))))
	return probeInterval + time.Duration(suspicionMult*scale*float64(probeInterval))
}

// pollMembership stands for memberlist: it tells every core who is there.
func (s *simulation) pollMembership() {
	s.after(simPoll, s.pollMembership)
	if !s.unsettled {
		return
	}
	s.unsettled = false
	for _, h := range s.hosts {
		for _, other := range s.hosts {
			if h != other && h.core != nil && !h.pollMember(other) {
				s.unsettled = true
			}
		}
	}
}

// connect makes the members that two hosts know of known to both sides.
func (s *simulation) connect(a, b *simHost) {
	if !s.reachable(a, b) || a.component == b.component {
		return
	}
	s.unsettled = true
	joined := b.component
	for _, h := range s.hosts {
		if h.component == joined {
			h.component = a.component
		}
	}
}

func (s *simulation) heal() {
	for _, h := range s.hosts {
		h.move(0)
	}
}

// transmit takes a message to its recipients as the network is.
func (s *simulation) transmit(from *simHost, m *send) {
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
	p, err := decodePacket(b)
	if err != nil {
		s.fail("cannot decode: %v", err)
	}
	for _, r := range m.to {
		message := simMessage{from, s.at[r.address], p}
		if s.keepHistory {
			s.history = append(s.history, message)
		}
		s.bytes += len(b) + simHeaders
		if m.reliable {
			s.streams++
			s.stream(message)
		} else {
			s.datagrams++
			s.datagram(message)
		}
	}
}

func (s *simulation) delay() time.Duration {
	return simLink + time.Duration(s.rand.Int64N(int64(s.jitter)+1))
}

func (s *simulation) datagram(m simMessage) {
	copies := 1
	if s.rand.Float64() < s.loss {
		copies = 0
	} else if s.rand.Float64() < s.dup {
		copies = 2
	}
	for range copies {
		s.after(s.delay(), func() { s.deliver(m) })
	}
}

// stream opens a connection and sends; what is lost is sent again.
func (s *simulation) stream(m simMessage) {
	delay := 3 * s.delay()
	for s.rand.Float64() < 1-math.Pow(1-s.loss, 3) {
		delay += simResend
	}
	s.after(delay, func() { s.deliver(m) })
}

func (s *simulation) deliver(m simMessage) {
	if m.to.core == nil || m.from.side != m.to.side || s.cut == [2]*simHost{m.from, m.to} {
		return
	}
	m.to.step(packetEvent{m.packet})
	if s.watch != nil {
		s.watch(m.to, m.packet)
	}
}

// replay delivers a share of all that was ever said once more, in any order.
func (s *simulation) replay(share float64) {
	history := s.history
	for _, i := range s.rand.Perm(len(history)) {
		if s.rand.Float64() < share {
			s.deliver(history[i])
		}
	}
}

func (h *simHost) String() string { return fmt.Sprint("host", h.number) }
