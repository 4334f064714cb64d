package networks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/overlane/overlane/engine"
)

// How long is waited before what could not be done is tried again, at first and at most.
const (
	firstPause = time.Second
	lastPause  = 30 * time.Second
)

// EngineChanged takes note of an event of the engine's: see engine.Config.
func (m *Manager) EngineChanged(action string) {
	switch action {
	case "", engine.NetworkCreated, engine.NetworkDestroyed:
		m.wake()
	case engine.NetworkDisconnected:
		if m.waits() { // a container may have been the last on a network that is to be removed
			m.wake()
		}
	}
}

// waits says whether something is not as it is defined, or may not be.
func (m *Manager) waits() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.silent {
		return true
	}
	for _, s := range m.states {
		if s.Reason != "" {
			return true
		}
	}
	return false
}

// follow has the engine's networks be as they are defined, whenever one or the other has changed, and until they are.
func (m *Manager) follow() {
	pause := firstPause
	for {
		var again <-chan time.Time
		if m.waits() {
			again = time.After(pause)
		}
		select {
		case <-m.ctx.Done():
			return
		case <-m.changed:
			pause = firstPause
		case <-again:
			pause = min(2*pause, lastPause)
		}
		m.reconcile(m.ctx)
	}
}

// reconcile does once what can be done now.
func (m *Manager) reconcile(ctx context.Context) {
	m.making.Lock()
	defer m.making.Unlock()
	driver, networks, err := m.list(ctx)
	if err != nil {
		m.unheard(err)
		return
	}
	called := map[string][]engine.Network{}
	for _, n := range networks {
		called[n.Name] = append(called[n.Name], n)
	}
	m.forgetInstances(networks)
	states := map[string]State{}
	for _, name := range m.concerned(called, driver) {
		if err := m.cfg.Ready(); err != nil { // it was stopped meanwhile, and is not to be started again
			m.unheard(err)
			return
		}
		if s := m.bringAbout(ctx, name, called[name], driver); s.Present || s.Reason != "" {
			states[name] = s
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.states, m.silent = states, false
}

// list gives the engine's networks, and how it calls overlane.
func (m *Manager) list(ctx context.Context) (driver string, networks []engine.Network, err error) {
	if err = m.cfg.Ready(); err != nil {
		return "", nil, err
	}
	if driver, err = m.cfg.Engine.Driver(ctx); err != nil {
		return "", nil, err
	}
	networks, err = m.cfg.Engine.List(ctx)
	return driver, networks, err
}

// unheard says of all networks that the engine does not answer.
func (m *Manager) unheard(err error) {
	self := m.cluster.Self()
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.states
	m.states, m.silent = map[string]State{}, true
	for _, d := range m.table {
		if !d.Removed && d.appliesTo(self.ID, self.Host) || before[d.Name].Present {
			m.states[d.Name] = State{
				Name: d.Name, Present: before[d.Name].Present, Reason: fmt.Sprintf("Docker's engine does not answer: %v", err), identity: d.identity(), lasting: true,
			}
		}
	}
}

// concerned lists the networks that are defined, and those that the engine has marked so.
func (m *Manager) concerned(called map[string][]engine.Network, driver string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := map[string]bool{}
	for name := range m.table {
		names[name] = true
	}
	for name, networks := range called {
		if slices.ContainsFunc(networks, func(n engine.Network) bool { return isOurs(n, driver) }) {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// isOurs says whether a network of the engine's is one that is everywhere.
func isOurs(n engine.Network, driver string) bool {
	return n.Options[Option] == "true" && engine.SameDriver(n.Driver, driver)
}

// bringAbout has the engine have a network as it is defined, or not at all. The networks are those of its name.
func (m *Manager) bringAbout(ctx context.Context, name string, networks []engine.Network, driver string) State {
	self := m.cluster.Self()
	var present bool
	for _, n := range networks {
		if !isOurs(n, driver) {
			continue
		}
		if reason := m.meet(n); reason != "" {
			return State{Name: name, Present: true, Reason: reason}
		}
	}
	d := m.definition(name)
	wanted := d != nil && d.appliesTo(self.ID, self.Host)
	s := State{Name: name}
	if d != nil {
		s.identity = d.identity()
	}
	for _, n := range networks {
		switch {
		case !isOurs(n, driver) && wanted:
			s.Reason = fmt.Sprintf("this host has a network of that name that is none of those: docker network rm %.12s", n.ID)
			s.lasting = true
			return s
		case !isOurs(n, driver):
		case wanted && m.isInstance(n, d):
			present = true
		default:
			if err := m.remove(ctx, n); err != nil {
				s.Present, s.Reason, s.lasting = true, err.Error(), errors.Is(err, errUsed)
				return s
			}
		}
	}
	if wanted && !present {
		if err := m.make(ctx, d, driver); err != nil {
			s.Reason = err.Error()
			return s
		}
	}
	s.Present = wanted
	return s
}

func (m *Manager) definition(name string) *Definition {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.table.get(name)
}

// meet sees to a network that a user may have made just now, by `docker network create`: it becomes a definition. It says why the network is
// to stay as it is, although it is not as all hosts know it.
func (m *Manager) meet(n engine.Network) (reason string) {
	m.mu.Lock()
	defined := m.table[n.Name]
	_, met := m.instances[n.ID]
	version := m.table.next(n.Name, time.Now())
	m.mu.Unlock()
	self := m.cluster.Self()
	switch made := n.Labels[Label] != ""; {
	case made && defined == nil:
		return "no host knows its definition any more: docker network rm " + n.Name
	case made || met:
		return ""
	case defined != nil && !defined.Removed && !defined.appliesTo(self.ID, self.Host):
		return "the definition of that name leaves this host out (--only): docker network rm " + n.Name
	case defined != nil && !defined.Removed:
		m.join(n, defined)
		return ""
	}
	d := Definition{Name: n.Name, Version: version, Origin: self.ID}
	err := d.write(m.made(n))
	if err == nil {
		err = m.put(d, n.ID)
	}
	if err != nil {
		return fmt.Sprintf("it stays on this host alone: %v", err)
	}
	m.cfg.Log.WithField("network", n.Name).Info("the network is made on all hosts")
	return ""
}

// join takes a network that a user has made for one that is defined already, if it is made alike.
func (m *Manager) join(n engine.Network, d *Definition) {
	if same(d.Network(), m.made(n)) {
		m.remember(n.ID, d.identity())
		return
	}
	m.cfg.Log.WithField("network", n.Name).Warnf("it is made otherwise here than %s has defined it for all hosts, and gives way: see `overlane network inspect %s`", m.hostOf(d.Origin), n.Name)
	m.remember(n.ID, "")
}

// isInstance says whether a network is as a definition has it: it was made by it, or for another one that said the same. Engines may tell
// of what they made in other words, so who made it counts too.
func (m *Manager) isInstance(n engine.Network, d *Definition) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return cmp.Or(n.Labels[Label], m.instances[n.ID]) == d.identity() || same(d.Network(), general(n)) || same(d.Network(), m.made(n))
}

// remember keeps by which definition a network without a label was made; empty: by none that counts.
func (m *Manager) remember(id, identity string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.instances[id] = identity
	if err := m.save(); err != nil {
		m.cfg.Log.WithError(err).Error("which networks are everywhere is not on disk")
	}
}

// forgetInstances drops what is remembered of networks that the engine has no more.
func (m *Manager) forgetInstances(networks []engine.Network) {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.instances, func(id, _ string) bool {
		return !slices.ContainsFunc(networks, func(n engine.Network) bool { return n.ID == id })
	})
}

func (m *Manager) make(ctx context.Context, d *Definition, driver string) error {
	spec, err := d.local(driver)
	if err == nil {
		_, err = m.cfg.Engine.Create(ctx, d.Name, spec)
	}
	if err != nil {
		return err
	}
	m.cfg.Log.WithField("network", d.Name).Infof("network made, as %s has defined it for all hosts", m.hostOf(d.Origin))
	return nil
}

// remove removes a network from the engine, unless containers are on it; one that is stopped may be about to start again.
func (m *Manager) remove(ctx context.Context, n engine.Network) error {
	users, err := m.cfg.Engine.Users(ctx, n)
	switch {
	case err != nil:
	case len(users) > 0:
		return fmt.Errorf("%w: %s", errUsed, strings.Join(users, ", "))
	default:
		err = m.cfg.Engine.Remove(ctx, n.ID)
	}
	if err != nil {
		return fmt.Errorf("it is to be removed: %w", err)
	}
	m.cfg.Log.WithField("network", n.Name).Info("network removed, for it is defined no more, or otherwise")
	return nil
}

var errUsed = errors.New("it is to be removed, and containers use it")
