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
	hosts   map[string]*host
	order   []string // of hosts
	replies chan arrived
	waiting []Packet
}

// host is another one that captures for the session.
type host struct {
	Report
	asked time.Time       // first
	last  *reply          // with the highest number; nil: none has come
	seen  map[uint64]bool // numbers of replies, the last rememberedReplies
	got   uint64          // packets that came here
}

type arrived struct {
	from string
	*reply
}

// Replies that wait: those beyond are lost, and counted. Replies may come in another order than they were sent, and twice.
const (
	waitingReplies    = 256
	rememberedReplies = 1024
)

func newSession(m *Manager, q Query, members []string) *session {
	s := &session{manager: m, id: rand.Uint64(), query: q, hosts: map[string]*host{}, order: members, replies: make(chan arrived, waitingReplies)}
	for _, member := range members {
		s.hosts[member] = &host{Report: Report{Host: member}, asked: time.Now(), seen: map[uint64]bool{}}
	}
	return s
}

// receive never waits: the caller is gossip.
func (s *session) receive(from string, r *reply) {
	select {
	case s.replies <- arrived{from, r}:
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
	if h == nil || h.seen[r.number] || h.last != nil && r.number+rememberedReplies <= h.last.number {
		return
	}
	h.seen[r.number] = true
	delete(h.seen, r.number-rememberedReplies)
	if h.last == nil || r.number > h.last.number {
		h.last = r.reply
	}
	h.got += uint64(len(r.packets))
	h.Error, h.HeadersOnly = h.last.err, h.last.headers
	h.Captured, h.Lost = h.got, h.last.lost+h.last.captured-min(h.got, h.last.captured)
	for _, p := range r.packets {
		p.Host = r.from
		s.waiting = append(s.waiting, p)
	}
}

func (s *session) takeLocal() error {
	for s.local != nil {
		taken, lost, err := s.local.Take()
		if err != nil {
			return err
		}
		s.own.Captured += uint64(len(taken))
		s.own.Lost = lost
		if len(taken) == 0 {
			return nil
		}
		for _, p := range taken {
			s.waiting = append(s.waiting, packetOf(p, len(p.Data)))
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
		h.Silent = h.last == nil && time.Since(h.asked) > silentTime
		all = append(all, h.Report)
	}
	return all
}
