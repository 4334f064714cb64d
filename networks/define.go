package networks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/engine"
)

// defineTimeout bounds what the engine has to do for a network to be defined.
const defineTimeout = 10 * time.Second

// Create defines a network for all hosts, or only some. This host's engine makes it first: what it has to say against it is the error, and
// nothing is defined then.
func (m *Manager) Create(name string, only []string, spec engine.Spec) (*Definition, error) {
	if m.cfg.Engine == nil {
		return nil, ErrNoEngine
	}
	m.making.Lock()
	defer m.making.Unlock()
	self := m.cluster.Self()
	m.mu.Lock()
	old, version := m.table.get(name), m.table.next(name, time.Now())
	m.mu.Unlock()
	if old != nil {
		return nil, fmt.Errorf("network %s: %s has defined it already: choose another name, or see `overlane network inspect %s`", name, m.hostOf(old.Origin), name)
	}
	if err := m.checkOnly(name, only); err != nil {
		return nil, err
	}
	d := &Definition{Name: name, Version: version, Origin: self.ID, Only: only}
	spec.Options = withEncryption(spec.Options, m.cfg.Encrypt)
	err := d.write(spec)
	if err == nil && d.appliesTo(self.ID, self.Host) {
		err = m.tryHere(d)
	}
	if err == nil {
		err = m.put(*d, "")
	}
	if err != nil {
		return nil, errors.Join(err, m.discard(d))
	}
	return d, nil
}

// checkOnly demands hosts that are known: a name that is mistyped would leave a host without the network in silence.
func (m *Manager) checkOnly(name string, only []string) error {
	members := m.cluster.Members()
	for _, host := range only {
		if !slices.ContainsFunc(members, func(o discovery.Member) bool { return o.ID == host || o.Host == host }) {
			return fmt.Errorf("network %s: --only %q: no host has that name or ID: `overlane status members` lists them", name, host)
		}
	}
	return nil
}

// tryHere has this host's engine make the network, and takes over what the engine chose, such as a subnet.
func (m *Manager) tryHere(d *Definition) error {
	ctx, cancel := context.WithTimeout(m.ctx, defineTimeout)
	defer cancel()
	driver, _, err := m.list(ctx)
	if err != nil {
		return err
	}
	spec, err := d.local(driver)
	if err != nil {
		return err
	}
	id, err := m.cfg.Engine.Create(ctx, d.Name, spec)
	if err != nil {
		return err
	}
	made, err := m.cfg.Engine.Inspect(ctx, id)
	if err != nil {
		return err
	}
	return d.write(general(made))
}

// discard removes what the engine may have made by a definition that does not count, though it may have told of an error.
func (m *Manager) discard(d *Definition) error {
	ctx, cancel := context.WithTimeout(m.ctx, defineTimeout)
	defer cancel()
	_, networks, err := m.list(ctx)
	if err != nil {
		return nil // then nothing was made, or the engine will tell of it
	}
	for _, n := range networks {
		if n.Name == d.Name && n.Labels[Label] == d.identity() {
			return m.cfg.Engine.Remove(ctx, n.ID)
		}
	}
	return nil
}

// Remove ends a network on all hosts, on each once no container uses it there.
func (m *Manager) Remove(name string) (*Definition, error) {
	m.mu.Lock()
	old, version := m.table.get(name), m.table.next(name, time.Now())
	m.mu.Unlock()
	if old == nil {
		return nil, fmt.Errorf("network %s: %w: `overlane network ls` lists them", name, ErrUnknown)
	}
	d := Definition{Name: name, Version: version, Origin: m.cluster.Self().ID, Removed: true}
	return &d, m.put(d, "")
}

// The errors that callers tell apart.
var (
	ErrUnknown  = errors.New("it is none of those that are everywhere")
	ErrNoEngine = errors.New("this host's overlane does not use Docker's socket: start the daemon with --docker-socket (OVERLANE_DOCKER_SOCKET)")
)
