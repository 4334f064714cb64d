package networks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/time/rate"

	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/engine"
)

const (
	// compareInterval is the time between two comparisons with another host, and the least between two times that one is sent all.
	compareInterval = time.Second
	// warnInterval is the least between two words in the log on what is not taken.
	warnInterval = time.Minute
	// inboxSize is how many messages wait. Beyond them they are dropped: what they brought comes with a comparison.
	inboxSize = 256
)

// Cluster is what is needed of discovery.
type Cluster interface {
	Self() discovery.Member
	Members() []discovery.Member
	Send(member string, text []byte) error
}

// Engine is what is needed of Docker's engine on this host.
type Engine interface {
	Driver(context.Context) (string, error)
	List(context.Context) ([]engine.Network, error)
	Create(ctx context.Context, name string, spec engine.Spec) (id string, err error)
	Remove(ctx context.Context, id string) error
	Inspect(ctx context.Context, id string) (engine.Network, error)
	Users(context.Context, engine.Network) (containers []string, err error)
}

// Config says how to open a Manager.
type Config struct {
	Dir    string       // data directory
	Engine Engine       // nil: this host makes no networks, but passes the definitions on
	Ready  func() error // why the engine is not to be asked now; nil: it may be
	Log    logrus.FieldLogger

	Encrypt bool // each network that is made on this host is encrypted
	// Whether a network of this host is encrypted, by Docker's ID.
	Encrypted func(id string) bool
}

// Manager holds the definitions on this host, and follows them.
type Manager struct {
	cfg     Config
	cluster Cluster // set by Attach
	inbox   chan received
	changed chan struct{}   // the definitions, or the engine's networks
	ctx     context.Context // until Close
	cancel  context.CancelFunc
	running sync.WaitGroup

	making sync.Mutex // held while the engine makes or removes networks
	warn   rate.Sometimes
	sent   map[string]time.Time // when a host was sent all; run's alone

	mu        sync.Mutex // guards what follows
	table     table
	sum       []byte            // the table's digest; nil: not known
	instances map[string]string // see kept
	states    map[string]State  // by the network's name: how this host's engine has it
	silent    bool              // the engine did not answer when it was looked at last
	waiting   map[uint64]chan<- told
}

type received struct {
	from string
	text []byte
}

// State is how a host's engine has a network that is everywhere.
type State struct {
	Name    string `json:"name"`
	Present bool   `json:"present"`
	Reason  string `json:"reason"` // why it does not have it as defined; empty: it does

	identity string // of the definition
	lasting  bool   // that may be so for long: nobody waits for it
}

// Open reads what is remembered. Nothing is made before Attach.
func Open(cfg Config) *Manager {
	m := &Manager{
		cfg: cfg, inbox: make(chan received, inboxSize), changed: make(chan struct{}, 1),
		warn: rate.Sometimes{First: 1, Interval: warnInterval}, sent: map[string]time.Time{}, table: table{}, states: map[string]State{}, waiting: map[uint64]chan<- told{},
	}
	k, err := load(cfg.Dir)
	if err != nil {
		cfg.Log.WithError(err).Error("which networks are everywhere is to be heard from the other hosts again")
	}
	m.instances = k.Instances
	for _, d := range k.Definitions {
		if _, err := m.table.merge(d); err != nil {
			cfg.Log.WithError(err).Error("a network's definition is left aside")
		}
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	return m
}

// Attach goes among the others. It is called once.
func (m *Manager) Attach(c Cluster) {
	m.cluster = c
	m.running.Go(m.run)
	if m.cfg.Engine != nil {
		m.running.Go(m.follow)
	}
}

// Close ends what Attach began.
func (m *Manager) Close() {
	m.cancel()
	m.running.Wait()
}

// Receive takes a message from another host's Manager. It never waits.
func (m *Manager) Receive(from string, text []byte) {
	select {
	case m.inbox <- received{from, text}:
	default:
	}
}

// run takes part in the exchange of definitions.
func (m *Manager) run() {
	compare := time.NewTicker(compareInterval)
	defer compare.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case r := <-m.inbox:
			got, err := decode(r.text)
			if err != nil {
				m.refuse(r.from, "dropped a message about networks", err)
				continue
			}
			m.receive(r.from, got)
		case <-compare.C:
			if peers := m.peers(); len(peers) > 0 {
				m.send(peers[rand.IntN(len(peers))].ID, &message{digest: m.digest()})
			}
		}
	}
}

// peers are the other hosts that are up and know such networks.
func (m *Manager) peers() []discovery.Member {
	return slices.DeleteFunc(m.cluster.Members(), func(o discovery.Member) bool {
		return o.Self || !o.Networks || o.State == discovery.StateDead || o.State == discovery.StateLeft
	})
}

// down are the other hosts that know such networks and are not up.
func (m *Manager) down() []discovery.Member {
	return slices.DeleteFunc(m.cluster.Members(), func(o discovery.Member) bool {
		return o.Self || !o.Networks || o.State != discovery.StateDead || o.Replaced
	})
}

func (m *Manager) digest() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sum == nil {
		m.sum = m.table.digest()
	}
	return m.sum
}

func (m *Manager) all() []Definition {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.table.all()
}

// refuse says what is not taken, and not too often.
func (m *Manager) refuse(from, what string, err error) {
	m.warn.Do(func() { m.cfg.Log.WithError(err).WithField("from", from).Warn(what) })
}

func (m *Manager) send(to string, out *message) {
	text, err := out.encode()
	if err == nil {
		err = m.cluster.Send(to, text)
	}
	if err != nil {
		m.cfg.Log.WithError(err).WithField("to", to).Debug("a message about networks is not sent")
	}
}

// receive does what a message wants.
func (m *Manager) receive(from string, got *message) {
	for _, err := range got.refused {
		m.refuse(from, "a network's definition is not taken", err)
	}
	if len(got.definitions) > 0 {
		m.learn(from, got.definitions)
	}
	if len(got.digest) > 0 && !bytes.Equal(got.digest, m.digest()) {
		m.sendAll(from, got.reply)
	}
	if got.ask != 0 {
		m.send(from, &message{told: got.ask, states: m.statesOf(got.about), noEngine: m.cfg.Engine == nil})
	}
	if got.told != 0 {
		m.hear(got.told, told{from, got.states, got.noEngine})
	}
}

// sendAll sends a host all definitions, for its digest differs; if that was no reply, it is to send what this host lacks.
func (m *Manager) sendAll(to string, reply bool) {
	now := time.Now()
	maps.DeleteFunc(m.sent, func(_ string, at time.Time) bool { return now.Sub(at) >= compareInterval })
	if _, lately := m.sent[to]; lately && !reply {
		return
	}
	m.sent[to] = now
	out := &message{definitions: m.all()}
	if !reply {
		out.reply, out.digest = true, m.digest()
	}
	m.send(to, out)
}

// learn takes definitions of another host's, and says which of this one's they put an end to.
func (m *Manager) learn(from string, definitions []Definition) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var news bool
	for _, d := range definitions {
		old := m.table.get(d.Name)
		is, err := m.table.merge(d)
		if err != nil {
			m.refuse(from, "a network's definition is not taken", err)
		}
		if !is {
			continue
		}
		news = true
		log := m.cfg.Log.WithField("network", d.Name)
		switch {
		case old != nil && d.Removed:
			log.Infof("%s has removed it for all hosts", m.hostOf(d.Origin))
		case old != nil && !same(old.Network(), d.Network()):
			log.Warnf("%s has defined it otherwise at the same time, and that one stays: see `overlane network inspect %s`", m.hostOf(d.Origin), d.Name)
		}
	}
	if !news {
		return
	}
	m.sum = nil
	if err := m.save(); err != nil {
		m.cfg.Log.WithError(err).Error("which networks are everywhere is not on disk")
	}
	m.wake()
}

// save is called with m.mu held.
func (m *Manager) save() error {
	return kept{m.table.all(), m.instances}.save(m.cfg.Dir)
}

func (m *Manager) wake() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// hostOf is a member's name, for people.
func (m *Manager) hostOf(id string) string {
	for _, o := range m.cluster.Members() {
		if o.ID == id {
			return o.Host
		}
	}
	return fmt.Sprintf("a host that is not known (%s)", id)
}

// push sends a definition to all other hosts.
func (m *Manager) push(d Definition) {
	for _, o := range m.peers() {
		m.send(o.ID, &message{definitions: []Definition{d}})
	}
}

// put makes a definition of this host's that of all; errLost: another one counts. The instance is the ID of a network that
// `docker network create` made, from which it comes; empty: there is none.
func (m *Manager) put(d Definition, instance string) error {
	if err := m.keep(d, instance); err != nil {
		return err
	}
	m.push(d)
	m.wake()
	return nil
}

// keep does so on this host; what can't be on disk is as if it had not been said.
func (m *Manager) keep(d Definition, instance string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !d.Removed && m.table[d.Name] == nil && m.table.live() >= maxDefinitions {
		return fmt.Errorf("network %s: %d networks are everywhere, and can't be more: `overlane network ls` lists them", d.Name, maxDefinitions)
	}
	before := m.table[d.Name]
	is, err := m.table.merge(d)
	if err == nil && !is {
		err = errLost
	}
	if err != nil {
		return err
	}
	if instance != "" {
		m.instances[instance] = d.identity()
	}
	m.sum = nil
	if err = m.save(); err == nil {
		return nil
	}
	delete(m.instances, instance)
	delete(m.table, d.Name)
	if before != nil {
		m.table[d.Name] = before
	}
	return err
}

var errLost = errors.New("another host has defined it at the same time, and that one stays")
