package networks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/engine"
)

// bed is some hosts, each with an engine and a manager, that hear each other unless they are cut off.
type bed struct {
	t     *testing.T
	hosts []*host

	mu  sync.Mutex
	off map[string]bool // IDs of hosts that nobody hears
}

type host struct {
	*Manager
	bed     *bed
	id      string
	dir     string
	engine  *fakeEngine
	encrypt bool // all that is made here
	log     strings.Builder
	logMu   sync.Mutex
}

func newBed(t *testing.T, n int) *bed {
	b := &bed{t: t, off: map[string]bool{}}
	for i := range n {
		h := &host{bed: b, id: fmt.Sprintf("%032x", i+1), dir: t.TempDir(), engine: &fakeEngine{driver: "overlane", networks: map[string]engine.Network{}, users: map[string][]string{}}}
		b.hosts = append(b.hosts, h)
	}
	for _, h := range b.hosts {
		h.start()
	}
	t.Cleanup(func() {
		for _, h := range b.hosts {
			h.Close()
		}
	})
	return b
}

func (h *host) Write(p []byte) (int, error) {
	h.logMu.Lock()
	defer h.logMu.Unlock()
	return h.log.Write(p)
}

func (h *host) logged(text string) bool {
	h.logMu.Lock()
	defer h.logMu.Unlock()
	return strings.Contains(h.log.String(), text)
}

func (h *host) start() {
	log := logrus.New()
	log.SetOutput(io.Writer(h))
	m := Open(Config{Dir: h.dir, Engine: h.engine, Ready: func() error { return nil }, Encrypt: h.encrypt, Encrypted: h.engine.encrypted, Log: log})
	h.engine.encrypt.Store(h.encrypt)
	h.bed.mu.Lock()
	h.Manager = m
	h.bed.mu.Unlock()
	m.Attach(h)
	h.engine.tell(m.EngineChanged)
	m.EngineChanged("")
}

func (h *host) Self() discovery.Member {
	return discovery.Member{ID: h.id, Host: "host" + h.id[31:], Self: true, Networks: true, State: discovery.StateAlive}
}

func (h *host) Members() (all []discovery.Member) {
	h.bed.mu.Lock()
	defer h.bed.mu.Unlock()
	for _, o := range h.bed.hosts {
		m := o.Self()
		m.Self = o == h
		if h.bed.off[o.id] {
			m.State = discovery.StateDead
		}
		all = append(all, m)
	}
	return all
}

func (h *host) Send(member string, text []byte) error {
	h.bed.mu.Lock()
	defer h.bed.mu.Unlock()
	for _, o := range h.bed.hosts {
		if o.id == member && o.Manager != nil && !h.bed.off[member] && !h.bed.off[h.id] {
			o.Receive(h.id, slices.Clone(text))
		}
	}
	return nil
}

// cut takes a host off the wire, or puts it back.
func (b *bed) cut(h *host, off bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.off[h.id] = off
}

func (b *bed) waitFor(what string, done func() error) {
	b.t.Helper()
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if err = done(); err == nil {
			return
		}
	}
	b.t.Fatalf("%s: %v", what, err)
}

// have waits until each host's engine has the network as it is, or none.
func (b *bed) have(name string, want bool, hosts ...*host) {
	b.t.Helper()
	b.waitFor(fmt.Sprintf("network %s is there: %v", name, want), func() error {
		for _, h := range hosts {
			if got := h.engine.called(name); len(got) == 1 != want {
				return fmt.Errorf("%s has %v", h.Self().Host, got)
			}
		}
		return nil
	})
}

// fakeEngine keeps networks as Docker's engine does.
type fakeEngine struct {
	encrypt  atomic.Bool // the daemon has all encrypted that is made from now on
	overlay  sync.Map    // whether networks are encrypted, by ID
	mu       sync.Mutex
	driver   string
	changed  func(string)
	last     int
	networks map[string]engine.Network
	users    map[string][]string // containers by network ID
	broken   error               // of Create
	deaf     bool                // List fails
}

func (e *fakeEngine) tell(changed func(string)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.changed = changed
}

func (e *fakeEngine) Driver(context.Context) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.driver, nil
}

// call gives the driver another name.
func (e *fakeEngine) call(driver string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.driver = driver
}

func (e *fakeEngine) answers(does bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.deaf = !does
}

func (e *fakeEngine) List(context.Context) ([]engine.Network, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.deaf {
		return nil, errors.New("it takes too long")
	}
	return slices.Collect(maps.Values(e.networks)), nil
}

func (e *fakeEngine) Create(_ context.Context, name string, spec engine.Spec) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.broken != nil {
		return "", e.broken
	}
	for _, n := range e.networks {
		if n.Name == name {
			return "", fmt.Errorf("network with name %s already exists", name)
		}
	}
	e.last++
	id := fmt.Sprintf("%p-%d", e, e.last)
	if len(spec.IPAM.Config) == 0 {
		spec.IPAM.Config = []engine.Pool{{Subnet: "10.199.0.0/24", Gateway: "10.199.0.1"}}
	}
	e.networks[id] = engine.Network{ID: id, Name: name, Spec: spec}
	e.overlay.Store(id, e.encrypt.Load() || isEncrypted(spec))
	if e.changed != nil {
		go e.changed(engine.NetworkCreated)
	}
	return id, nil
}

func isEncrypted(spec engine.Spec) bool {
	value, given := spec.Options[OptionEncrypted]
	return given && value != "false"
}

// encrypted is what the overlay says of a network: it is as it was made.
func (e *fakeEngine) encrypted(id string) bool {
	encrypted, made := e.overlay.Load(id)
	return made && encrypted.(bool)
}

func (e *fakeEngine) Remove(_ context.Context, id string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.users[id]) > 0 {
		return fmt.Errorf("%w: it has active endpoints", engine.ErrInUse)
	}
	delete(e.networks, id)
	go e.changed(engine.NetworkDestroyed)
	return nil
}

func (e *fakeEngine) Inspect(_ context.Context, id string) (engine.Network, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.networks[id], nil
}

func (e *fakeEngine) Users(_ context.Context, n engine.Network) ([]string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.users[n.ID], nil
}

// use puts containers on a network, in place of those on it.
func (e *fakeEngine) use(id string, containers ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.users[id] = containers
	go e.changed(engine.NetworkDisconnected)
}

func (e *fakeEngine) called(name string) (found []engine.Network) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, n := range e.networks {
		if n.Name == name {
			found = append(found, n)
		}
	}
	return found
}

// spec is a network with a subnet, as `docker network create -o everywhere=true` makes it.
func spec(subnet string) engine.Spec {
	return engine.Spec{
		Driver:  "overlane",
		IPAM:    engine.IPAM{Driver: "overlane", Config: []engine.Pool{{Subnet: subnet}}},
		Options: map[string]string{Option: "true"},
	}
}

// wish is the same, as `overlane network create` sends it.
func wish(subnet string) engine.Spec {
	s := spec(subnet)
	s.Driver = ""
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
