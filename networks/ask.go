package networks

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

const (
	// askTimeout is how long a host may take to tell how its engine has the networks.
	askTimeout = time.Second
	// SettleTimeout is how long is waited for all hosts to have a network, or to have removed it.
	SettleTimeout = 8 * time.Second
	// askAgain is the time between two questions then.
	askAgain = 100 * time.Millisecond
)

// told is what a host says of its engine.
type told struct {
	from     string
	states   []State
	noEngine bool // it makes none
}

// Network is a network that is everywhere: the JSON of `overlane network inspect`.
type Network struct {
	Definition
	Host  string      `json:"host"` // on which it was made
	Hosts []HostState `json:"hosts"`
}

// HostState is how a host has a network.
type HostState struct {
	ID      string `json:"id"`
	Host    string `json:"host"`
	Present bool   `json:"present"`
	Reason  string `json:"reason"` // why it is not as defined; empty: it is

	lasting bool // that may be so for long: nobody waits for it
}

// Local says how this host's engine has the networks: those that it has, or should have.
func (m *Manager) Local() []State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.SortedFunc(maps.Values(m.states), func(a, b State) int { return cmp.Compare(a.Name, b.Name) })
}

// List lists the networks with how each host has them, those that were removed while a host has them still, and the one of a name alone if one
// is given.
func (m *Manager) List(ctx context.Context, name string) []Network {
	heard := m.askAll(ctx)
	networks := []Network{}
	for _, d := range m.listed(name, heard) {
		n := Network{Definition: d, Host: m.hostOf(d.Origin), Hosts: m.hostStates(d, heard)}
		if !d.Removed || len(n.Hosts) > 0 {
			networks = append(networks, n)
		}
	}
	return networks
}

// listed are the definitions of a name, or all, and something like one for what a host has and nobody knows.
func (m *Manager) listed(name string, heard map[string]told) []Definition {
	all := m.all()
	for _, t := range heard {
		for _, s := range t.states {
			if !slices.ContainsFunc(all, func(d Definition) bool { return d.Name == s.Name }) {
				all = append(all, Definition{Name: s.Name, Removed: true})
			}
		}
	}
	return slices.DeleteFunc(all, func(d Definition) bool { return name != "" && d.Name != name })
}

// hostStates says how each host that is up has a network, of those that should, or do.
func (m *Manager) hostStates(d Definition, heard map[string]told) []HostState {
	all := []HostState{}
	for _, o := range append(m.peers(), m.cluster.Self()) {
		s := HostState{ID: o.ID, Host: o.Host}
		t, answered := heard[o.ID]
		at := slices.IndexFunc(t.states, func(s State) bool { return s.Name == d.Name })
		wanted := !d.Removed && d.appliesTo(o.ID, o.Host)
		switch {
		case t.noEngine:
			continue
		case !answered && wanted:
			s.Reason, s.lasting = "the host does not answer", true
		case at < 0 && wanted:
			s.Reason = "the host has not made it yet"
		case at < 0:
			continue
		case t.states[at].identity != d.identity() && t.states[at].Reason == "":
			s.Present, s.Reason = t.states[at].Present, "the host has not heard of this definition yet"
		default:
			s.Present, s.Reason = t.states[at].Present, t.states[at].Reason
			s.lasting = d.Removed && t.states[at].identity == "" // containers use it
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b HostState) int { return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.ID, b.ID)) })
	return all
}

// askAll asks all hosts how they have the networks, and waits for their answers for a second at most.
func (m *Manager) askAll(ctx context.Context) map[string]told {
	self := m.cluster.Self().ID
	heard := map[string]told{self: {self, m.Local(), m.cfg.Engine == nil}}
	peers := m.peers()
	answers := make(chan told, len(peers))
	id := rand.Uint64()
	m.mu.Lock()
	m.waiting[id] = answers
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		delete(m.waiting, id)
		m.mu.Unlock()
	}()
	for _, o := range peers {
		m.send(o.ID, &message{ask: id})
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	for len(heard) <= len(peers) {
		select {
		case <-ctx.Done():
			return heard
		case <-m.ctx.Done():
			return heard
		case t := <-answers:
			heard[t.from] = t
		}
	}
	return heard
}

// hear gives an answer to who waits for it.
func (m *Manager) hear(id uint64, t told) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if answers := m.waiting[id]; answers != nil {
		select {
		case answers <- t:
		default: // it came more than once
		}
	}
}

// Settle waits until all hosts have a network as a definition says that can soon, or for SettleTimeout, and gives what they have then. The
// error: another definition counts.
func (m *Manager) Settle(ctx context.Context, d *Definition) (Network, error) {
	ctx, cancel := context.WithTimeout(ctx, SettleTimeout)
	defer cancel()
	for {
		n := Network{Definition: *d, Host: m.hostOf(d.Origin)}
		n.Hosts = m.hostStates(*d, m.askAll(ctx))
		m.mu.Lock()
		now := m.table[d.Name]
		m.mu.Unlock()
		if now == nil || now.identity() != d.identity() {
			return n, fmt.Errorf("network %s: %w: see `overlane network inspect %s`", d.Name, errLost, d.Name)
		}
		if !slices.ContainsFunc(n.Hosts, func(s HostState) bool { return s.Reason != "" && !s.lasting }) {
			return n, nil
		}
		select {
		case <-ctx.Done():
			return n, nil
		case <-time.After(askAgain):
		}
	}
}
