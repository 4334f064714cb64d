package capture

import (
	"context"
	"math/rand/v2"
	"time"
)

// What is captured for others at a time. Of the eight that a datapath has some are left for this host.
const maxServed = 4

// maxReply bounds what a reply carries of packets, and bytesPerSecond what all other hosts together are given of them: they go the way of all that hosts
// say to each other, which is not to wait for them.
const (
	maxReply       = 256 << 10
	bytesPerSecond = 4 << 20
)

// budget is what may still be sent in this second.
type budget struct {
	second time.Time
	left   int
}

// spend takes from it, if there is so much.
func (m *Manager) spend(bytes int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Since(m.budget.second) >= time.Second {
		m.budget = budget{time.Now(), bytesPerSecond}
	}
	if m.budget.left < bytes {
		return false
	}
	m.budget.left -= bytes
	return true
}

type servedKey struct {
	member  string
	session uint64
}

// served is a capture for another host.
type served struct {
	manager *Manager
	key     servedKey
	renewed chan struct{}
	cancel  context.CancelFunc
	done    chan struct{}
	reply   reply
}

// serve begins to capture for another host, or goes on with it.
func (m *Manager) serve(from string, id uint64, q Query) {
	key := servedKey{from, id}
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.served[key]; s != nil {
		select {
		case s.renewed <- struct{}{}:
		default:
		}
		return
	}
	if len(m.served) >= maxServed {
		go m.send(from, message{session: id, reply: &reply{number: 1, err: errFull.Error()}})
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &served{manager: m, key: key, renewed: make(chan struct{}, 1), cancel: cancel, done: make(chan struct{}), reply: reply{headers: !m.cfg.Whole, run: rand.Uint64()}}
	m.served[key] = s
	go s.run(ctx, q)
}

func (m *Manager) endServing(key servedKey) {
	m.mu.Lock()
	s := m.served[key]
	m.mu.Unlock()
	if s != nil {
		s.cancel()
	}
}

func (s *served) run(ctx context.Context, q Query) {
	m := s.manager
	log := m.cfg.Log.WithField("host", m.cfg.Called(s.key.member))
	defer close(s.done)
	defer s.cancel()
	defer func() {
		m.mu.Lock()
		delete(m.served, s.key)
		m.mu.Unlock()
	}()
	config := q.config(servedRoom)
	config.Headers = s.reply.headers
	capture, err := m.cfg.Capture(config)
	if err != nil {
		s.send(nil, err.Error())
		s.waitForEnd(ctx) // it asks again each second
		return
	}
	defer capture.Close()
	log.WithField("vni", q.VNI).WithField("filter", q.Filter).Infof("another host captures packets here, %s", what(s.reply.headers))
	s.captureUntilEnd(ctx, capture)
	log.Infof("another host captures no more packets here: it got %d", s.reply.captured)
}

func what(headers bool) string {
	if headers {
		return "their headers alone"
	}
	return "whole: --remote-capture is set"
}

func (s *served) waitForEnd(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(leaseTime):
			return
		case <-s.renewed:
		}
	}
}

func (s *served) captureUntilEnd(ctx context.Context, capture Source) {
	ticker, second := time.NewTicker(takeInterval), time.NewTicker(time.Second)
	defer ticker.Stop()
	defer second.Stop()
	lease := time.NewTimer(leaseTime)
	defer lease.Stop()
	s.send(nil, "")
	for {
		select {
		case <-ctx.Done():
			return
		case <-lease.C:
			return
		case <-s.renewed:
			lease.Reset(leaseTime)
		case <-second.C:
			s.send(nil, "")
		case <-ticker.C:
			if !s.takeAndSend(capture) {
				return
			}
		}
	}
}

// takeAndSend takes what has come, or as much of it as is taken at a time; false when the datapath is closed.
func (s *served) takeAndSend(capture Source) bool {
	var packets []Packet
	size := 0
	for range servedTakes {
		taken, lost, err := capture.Take()
		if err != nil {
			return false
		}
		s.reply.lost = lost + s.reply.refused
		if len(taken) == 0 {
			break
		}
		for _, p := range taken {
			keep := len(p.Data)
			if s.reply.headers {
				keep = headersOf(p)
			}
			cost := keep + packetOverhead
			if !s.manager.spend(cost) {
				s.reply.refused++
				s.reply.lost++
				continue
			}
			if size+cost > maxReply {
				s.send(packets, "")
				packets, size = nil, 0
			}
			packets = append(packets, packetOf(p, keep))
			size += cost
		}
	}
	if len(packets) > 0 {
		s.send(packets, "")
	}
	return true
}

func (s *served) send(packets []Packet, why string) {
	s.reply.number++
	s.reply.captured += uint64(len(packets))
	r := s.reply
	r.packets, r.err, r.now = packets, why, time.Now()
	s.manager.send(s.key.member, message{session: s.key.session, reply: &r})
}
