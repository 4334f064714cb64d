package capture

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"
)

// session is one capture that this host asks for.
type session struct {
	manager *Manager
	id      uint64
	query   Query
	local   Source // nil: nothing is captured here
	own     Report
	refused uint64 // of own.Lost: for which there was no room here
	hosts   map[string]*host
	order   []string // of hosts
	replies chan arrived
	waiting []Packet
	bytes   int // of waiting
}

// host is another one that captures for the session.
type host struct {
	Report
	heard  time.Time       // last; before that when it was asked first
	last   *reply          // with the highest number; nil: none has come
	seen   map[uint64]bool // numbers of replies, the last rememberedReplies
	got    uint64          // packets of this run of its capture that came here
	before Report          // of its runs before
	delay  time.Duration   // the shortest by which its replies seem to have been under way, by both clocks
}

type arrived struct {
	from string
	at   time.Time
	*reply
}

// Replies that wait: those beyond are lost, and counted. Replies may come in another order than they were sent, and twice.
const (
	waitingReplies    = 64
	rememberedReplies = 1024
)

func newSession(m *Manager, q Query, members []string) *session {
	s := &session{manager: m, id: rand.Uint64(), query: q, hosts: map[string]*host{}, order: members, replies: make(chan arrived, waitingReplies)}
	for _, member := range members {
		s.hosts[member] = &host{Report: Report{Host: member}, heard: time.Now()}
	}
	return s
}

// receive never waits: the caller is gossip.
func (s *session) receive(from string, r *reply) {
	select {
	case s.replies <- arrived{from, time.Now(), r}:
	default:
	}
}

func (s *session) end() {
	s.manager.mu.Lock()
	delete(s.manager.sessions, s.id)
	s.manager.mu.Unlock()
	for _, member := range s.order {
		s.manager.send(member, message{session: s.id, end: true})
	}
}

func (s *session) run(ctx context.Context, take func([]Packet, []Report) error) error {
	ticker, asking := time.NewTicker(takeInterval), time.NewTicker(askInterval)
	defer ticker.Stop()
	defer asking.Stop()
	s.ask()
	for {
		select {
		case <-ctx.Done():
			return s.finish(take)
		case <-asking.C:
			s.ask()
		case r := <-s.replies:
			s.add(r)
		case <-ticker.C:
			if err := s.takeLocal(); err != nil {
				return err
			}
			if err := take(s.inOrder(), s.reports()); err != nil {
				return err
			}
		}
	}
}

func (s *session) ask() {
	for _, member := range s.order {
		s.manager.send(member, message{session: s.id, ask: &s.query})
	}
}

func (s *session) add(r arrived) {
	h := s.hosts[r.from]
	if h == nil {
		return
	}
	if h.last == nil || h.last.run != r.run {
		h.begin()
	}
	if h.seen[r.number] || h.last != nil && r.number+rememberedReplies <= h.last.number {
		return
	}
	h.seen[r.number] = true
	delete(h.seen, r.number-rememberedReplies)
	if h.last == nil || r.number > h.last.number {
		h.last = r.reply
	}
	h.heard = r.at
	h.got += uint64(len(r.packets))
	h.Error, h.HeadersOnly = h.last.err, h.last.headers
	h.Captured, h.Lost = h.before.Captured+h.got, h.before.Lost+h.last.lost+h.last.captured-min(h.got, h.last.captured)
	h.measure(r)
	for _, p := range r.packets {
		p.Host = r.from
		p.Time = p.Time.Add(-h.Skew)
		if p.Time.After(r.at) {
			p.Time = r.at // its clock was set meanwhile, or it lies
		}
		if !s.wait(p) {
			h.before.Lost++
		}
	}
}

// begin is of a capture that counts from its beginning: the first, or that of a daemon that was started anew.
func (h *host) begin() {
	h.before = Report{Captured: h.Captured, Lost: h.Lost}
	h.last, h.seen, h.got = nil, map[uint64]bool{}, 0
}

// measure finds out how far the host's clock is from this one's: a reply that seems to have come before it left, or to have been under way for long,
// was sent by another clock. The shortest of all counts.
func (h *host) measure(r arrived) {
	delay := r.at.Sub(r.now)
	if len(h.seen) == 1 || delay < h.delay {
		h.delay = delay
	}
	h.Skew = 0
	if h.delay.Abs() > skewTolerated {
		h.Skew = -h.delay
	}
}

// wait keeps a packet until its turn; false: there is no room.
func (s *session) wait(p Packet) bool {
	size := len(p.Data) + packetOverhead
	if s.bytes+size > mostWaiting {
		return false
	}
	s.bytes += size
	s.waiting = append(s.waiting, p)
	return true
}

// takeLocal takes no more than there is room for: the rest waits in the workers' rings, or is lost there.
func (s *session) takeLocal() error {
	for range localTakes {
		if s.local == nil || s.bytes > mostWaiting/2 {
			return nil
		}
		taken, lost, err := s.local.Take()
		if err != nil {
			return err
		}
		s.own.Lost = lost + s.refused
		if len(taken) == 0 {
			return nil
		}
		for _, p := range taken {
			if s.wait(packetOf(p, len(p.Data))) {
				s.own.Captured++
			} else {
				s.refused++
				s.own.Lost++
			}
		}
	}
	return nil
}

// inOrder takes what waits, in order of time, but for what others' packets may still come before.
func (s *session) inOrder() []Packet {
	slices.SortStableFunc(s.waiting, func(a, b Packet) int { return a.Time.Compare(b.Time) })
	n := len(s.waiting)
	if len(s.hosts) > 0 {
		newest := time.Now().Add(-window)
		n, _ = slices.BinarySearchFunc(s.waiting, newest, func(p Packet, t time.Time) int { return p.Time.Compare(t) })
	}
	ready := s.waiting[:n:n]
	s.waiting = slices.Clone(s.waiting[n:])
	for _, p := range ready {
		s.bytes -= len(p.Data) + packetOverhead
	}
	return ready
}

// finish gives what has come so far.
func (s *session) finish(take func([]Packet, []Report) error) error {
	if err := s.takeLocal(); err != nil {
		return err
	}
	for len(s.replies) > 0 {
		s.add(<-s.replies)
	}
	slices.SortStableFunc(s.waiting, func(a, b Packet) int { return a.Time.Compare(b.Time) })
	return take(s.waiting, s.reports())
}

func (s *session) reports() (all []Report) {
	if s.local != nil {
		all = append(all, s.own)
	}
	for _, member := range s.order {
		h := s.hosts[member]
		h.Silent = time.Since(h.heard) > silentTime
		all = append(all, h.Report)
	}
	return all
}
