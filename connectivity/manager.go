package connectivity

import (
	"context"
	"fmt"
	"net/netip"
	"sync"

	"github.com/sirupsen/logrus"

	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/overlay"
)

// Cluster is what this package needs of discovery.
type Cluster interface {
	Self() discovery.Member
	Members() []discovery.Member
	Send(member string, text []byte) error
	Resolve(key string) uint32
}

// Overlay is what it needs of package overlay.
type Overlay interface {
	AddProbe(overlay.ProbeSpec) (*overlay.Probe, error)
	RemoveProbe(*overlay.Probe) error
	Announced(p *overlay.Probe, member, name string, addr netip.Addr) bool
	CountProbe(*overlay.Probe) overlay.ProbeCounts
	Unapplied(*overlay.Probe) []string
	Otherwise(*overlay.Probe) map[string]overlay.Health
	Members() []overlay.MemberStatus
	NetworkNamed(string) (key string, err error)
	Encryption() []overlay.EncryptionStatus
	Names() overlay.NamesStatus
	ContainerProblems() []overlay.Problem
	Unnamed() string
	Sandboxes() []string
}

// Sandbox is what it needs of hostnet.Sandbox.
type Sandbox interface {
	overlay.Sandbox
	Do(func() error) error
	Close()
}

// Config says how to open a Manager.
type Config struct {
	Overlay Overlay
	Sandbox func() (Sandbox, error) // makes one
	// The one at a path, which is a container's.
	Container func(path string) (Sandbox, error)
	Encrypt   bool // networks for tests are encrypted
	Log       logrus.FieldLogger
}

// Manager leads tests, and has this host take part in those of others.
type Manager struct {
	cfg     Config
	log     logrus.FieldLogger
	cluster Cluster // set by Attach
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu    sync.Mutex
	part  *part  // this host's in a test; nil: there is none
	ended string // the last test that this host has had a part in: an order of it may come late
	// Of the test that this host leads.
	leads   string // empty: none
	reports chan told
	ending  chan struct{} // closed when it is over; nil: it does not end yet
}

// told is what a host has reported.
type told struct {
	from string
	report
}

// Open gives a Manager that does nothing before Attach.
func Open(cfg Config) *Manager {
	m := &Manager{cfg: cfg, log: cfg.Log}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	return m
}

// Attach lets it speak with the others. It is called once.
func (m *Manager) Attach(c Cluster) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cluster = c
}

// Close ends this host's part in tests, and those that it leads.
func (m *Manager) Close() {
	m.cancel()
	m.mu.Lock()
	m.cluster = nil // nothing new begins
	m.mu.Unlock()
	m.running.Wait()
}

// Receive takes a message of another host's. It never waits.
func (m *Manager) Receive(from string, text []byte) {
	msg, err := decode(text)
	if err != nil {
		m.log.WithError(err).WithField("from", from).Warn("dropped a message about a test of connectivity")
		return
	}
	m.receive(from, msg)
}

func (m *Manager) receive(from string, msg *message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.cluster == nil || m.ctx.Err() != nil:
	case msg.Order != nil:
		answer := m.obey(from, msg.Test, msg.Order)
		c := m.cluster
		m.running.Go(func() { m.send(c, from, &message{Test: msg.Test, Report: answer}) }) // a large one goes over a stream, which takes its time
	case m.leads == msg.Test:
		select {
		case m.reports <- told{from, *msg.Report}:
		default: // it is asked again
		}
	}
}

// send takes a message to a host, this one included.
func (m *Manager) send(c Cluster, to string, msg *message) {
	if to == c.Self().ID {
		m.receive(to, msg)
		return
	}
	text, err := msg.encode()
	if err == nil {
		err = c.Send(to, text)
	}
	if err != nil {
		m.log.WithError(err).WithField("to", to).Debug("a message about a test of connectivity was not sent")
	}
}

// obey does as the host that leads a test says, and gives how far this host is. It is called with the lock held.
func (m *Manager) obey(leader, test string, o *order) *report {
	p := m.part
	switch {
	case p != nil && (p.test != test || p.leader != leader):
		switch {
		case o.Phase == end:
			return &report{Phase: end}
		case p.leader == leader: // it leads one at a time, and has given up that one
			p.cancel()
			return &report{}
		}
		return &report{Busy: m.hostName(p.leader)}
	case p == nil && o.Phase == end:
		m.ended = test
		return &report{Phase: end}
	case p == nil && (o.Phase != prepare || test == m.ended):
		return &report{Error: "it has given up: it did not hear from this host in time"}
	case p == nil:
		p = newPart(m, leader, test, *o)
		m.part = p
		m.running.Go(func() {
			p.take()
			m.mu.Lock()
			defer m.mu.Unlock()
			m.part, m.ended = nil, test
		})
	}
	return p.obey(o)
}

func (m *Manager) hostName(id string) string {
	for _, member := range m.cluster.Members() {
		if member.ID == id {
			plainly(&member.Host)
			return member.Host
		}
	}
	return id
}

// errBusy says that one test is led at a time.
func errBusy(host string) error {
	return fmt.Errorf("a test of host %s is under way: try again when it is over, which takes half a minute at most", host)
}
