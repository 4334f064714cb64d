// Package capture takes packets from the datapaths of several hosts and puts them in order of time.
//
// The host that is asked for them asks the others, again each second: who is not asked for some seconds ends what it began for another, so that
// nothing is left of a daemon that is gone. Replies may get lost, which is counted. Times are those of each host's own clock.
package capture

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/overlane/overlane/datapath"
)

// Query says which packets are wanted.
type Query struct {
	VNI    uint32        // 0: of all networks
	MAC    *datapath.MAC // of a container; nil: of all
	VTEP   netip.Addr    // zero: any
	Points []datapath.Point
	Sample int    // one packet in so many, the same ones on every host
	Snap   int    // bytes of a packet that are kept
	Filter string // of frames: pcap-filter(7)
	Opaque bool   // also drops of which no frame can be looked at: see datapath.CaptureConfig
}

// Packet is one that was captured. Those with the same identity are the same one at several points, and hosts; a TCP segment is known by its
// numbers instead.
type Packet struct {
	Host string // the ID of the member that has captured it; empty: this one
	datapath.Captured
	Identity uint64
}

// Report is how a host does.
type Report struct {
	Host        string // its member's ID; empty: this one
	Captured    uint64
	Lost        uint64        // packets that found no room, or got lost on their way here
	Skew        time.Duration // how far its clock is ahead of this host's, if by so much that its packets' times were put right
	HeadersOnly bool          // packets are cut off behind their headers: its operator does not give more to other hosts
	Error       string        // why it captures nothing
	Silent      bool          // it has not answered
}

// Source is a datapath's capture: see datapath.Capture.
type Source interface {
	Take() (taken []datapath.Captured, lost uint64, err error)
	Close()
}

// Config is what a Manager needs.
type Config struct {
	Capture func(datapath.CaptureConfig) (Source, error)
	Send    func(member string, text []byte) error
	Whole   bool                       // other hosts get packets whole, not their headers alone
	Called  func(member string) string // the host's name
	Log     logrus.FieldLogger
}

// Manager captures for this host's commands and for other hosts.
type Manager struct {
	cfg Config

	mu       sync.Mutex
	sessions map[uint64]*session
	served   map[servedKey]*served
	budget   budget // of what is captured for other hosts
}

// NewManager makes one.
func NewManager(cfg Config) *Manager {
	return &Manager{cfg: cfg, sessions: map[uint64]*session{}, served: map[servedKey]*served{}}
}

// Times of a session.
const (
	takeInterval = 50 * time.Millisecond
	askInterval  = time.Second
	leaseTime    = 5 * time.Second        // without being asked again
	silentTime   = 3 * time.Second        // until a host counts as silent
	window       = 500 * time.Millisecond // in which packets of several hosts are put in order
)

// Clocks that are apart by more than this count as wrong: between those of hosts that keep time a message takes longer.
const skewTolerated = 50 * time.Millisecond

// Rooms for packets that wait, of each worker, and what is taken of them at a time: the rest waits, or is lost and counted.
const (
	localRoom   = 1 << 25
	servedRoom  = 1 << 22
	localTakes  = 64
	servedTakes = 8
	mostWaiting = 1 << 26 // bytes of a session's packets
)

// packetOverhead is what a packet costs beside its bytes.
const packetOverhead = 128

var errFull = errors.New("it captures for other hosts already, as often as it does at a time")

func (q *Query) config(room int) datapath.CaptureConfig {
	return datapath.CaptureConfig{VNI: q.VNI, MAC: q.MAC, VTEP: q.VTEP, Points: q.Points, Sample: q.Sample, Snap: q.Snap, Room: room, Filter: q.Filter, Opaque: q.Opaque}
}

// Run captures on this host, if here is set, and on those members, until ctx ends or take returns an error: that is returned, unless ctx has ended.
// Take gets packets in order of time, and how the hosts do. Both may be empty: it is called several times a second.
func (m *Manager) Run(ctx context.Context, q Query, here bool, members []string, take func([]Packet, []Report) error) error {
	s := newSession(m, q, members)
	if here {
		local, err := m.cfg.Capture(q.config(localRoom))
		if err != nil {
			return err
		}
		defer local.Close()
		s.local = local
	}
	m.mu.Lock()
	m.sessions[s.id] = s
	m.mu.Unlock()
	defer s.end()
	return s.run(ctx, take)
}

// Receive takes a message from another member.
func (m *Manager) Receive(from string, text []byte) {
	msg, err := decode(text)
	if err != nil {
		m.cfg.Log.WithError(err).Debugf("a message about captures from %s", m.cfg.Called(from))
		return
	}
	switch {
	case msg.ask != nil:
		m.serve(from, msg.session, *msg.ask)
	case msg.reply != nil:
		m.mu.Lock()
		s := m.sessions[msg.session]
		m.mu.Unlock()
		if s != nil {
			s.receive(from, msg.reply)
		}
	case msg.end:
		m.endServing(servedKey{from, msg.session})
	}
}

// Close ends what is captured for others.
func (m *Manager) Close() {
	m.mu.Lock()
	var all []*served
	for _, s := range m.served {
		all = append(all, s)
	}
	m.mu.Unlock()
	for _, s := range all {
		s.cancel()
		<-s.done
	}
}

func (m *Manager) send(to string, msg message) {
	text, err := msg.encode()
	if err == nil {
		err = m.cfg.Send(to, text)
	}
	if err != nil {
		m.cfg.Log.WithError(err).Debugf("a message about captures to %s", m.cfg.Called(to))
	}
}

func (r *Report) String() string {
	switch {
	case r.Error != "":
		return r.Error
	case r.Silent:
		return "does not answer: it is not reached, or has an older version"
	}
	return fmt.Sprintf("%d packets, %d lost", r.Captured, r.Lost)
}
