package networks

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/engine"
)

// Create defines a network for all hosts, or only some. This host's engine makes it first: what it has to say against it is the error, and
// nothing is defined then.
func (m *Manager) Create(ctx context.Context, name string, only []string, spec engine.Spec) (*Definition, error) {
	if m.cfg.Engine == nil {
		return nil, ErrNoEngine
	}
	m.making.Lock()
	defer m.making.Unlock()
	self := m.cluster.Self()
	m.mu.Lock()
	old, version := m.table.get(name), m.table.next()
	m.mu.Unlock()
	if old != nil {
		return nil, fmt.Errorf("network %s: %s has defined it already: choose another name, or see `overlane network inspect %s`", name, m.hostOf(old.Origin), name)
	}
	if err := m.checkOnly(name, only); err != nil {
		return nil, err
	}
	d := Definition{Name: name, Version: version, Origin: self.ID, Only: only, Spec: spec}
	id, err := m.tryHere(ctx, &d, d.appliesTo(self.ID, self.Host))
	if err != nil {
		return nil, err
	}
	if err = d.check(); err == nil {
		err = m.put(d)
	}
	if err != nil {
		if id != "" {
			err = errors.Join(err, m.cfg.Engine.Remove(ctx, id))
		}
		return nil, err
	}
	return &d, nil
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

// tryHere has this host's engine make the network, if it is to have it, and takes over what the engine chose, such as a subnet.
func (m *Manager) tryHere(ctx context.Context, d *Definition, here bool) (id string, err error) {
	if !here {
		return "", nil
	}
	driver, _, err := m.list(ctx)
	if err != nil {
		return "", err
	}
	if id, err = m.cfg.Engine.Create(ctx, d.Name, d.local(driver)); err != nil {
		return "", err
	}
	made, _, err := m.cfg.Engine.Inspect(ctx, id)
	if err != nil {
		return "", errors.Join(err, m.cfg.Engine.Remove(ctx, id))
	}
	d.Spec = general(made)
	return id, nil
}

// Remove ends a network on all hosts, on each once no container uses it there.
func (m *Manager) Remove(name string) (*Definition, error) {
	m.mu.Lock()
	old, version := m.table.get(name), m.table.next()
	m.mu.Unlock()
	if old == nil {
		return nil, fmt.Errorf("network %s: %w: `overlane network ls` lists them", name, ErrUnknown)
	}
	d := Definition{Name: name, Version: version, Origin: m.cluster.Self().ID, Removed: true}
	return &d, m.put(d)
}

// The errors that callers tell apart.
var (
	ErrUnknown  = errors.New("it is none of those that are everywhere")
	ErrNoEngine = errors.New("this host's overlane does not use Docker's socket: start the daemon with --docker-socket (OVERLANE_DOCKER_SOCKET)")
)
