package networks

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/overlane/overlane/discovery"
)

const (
	// askTimeout is how long a host may take to tell how its engine has the networks.
	askTimeout = time.Second
	// SettleTimeout is how long is waited for all hosts to have a network, or to have removed it.
	SettleTimeout = 8 * time.Second
	// silentTimeout is how long is waited for hosts that do not answer then.
	silentTimeout = 3 * time.Second
	// The time between two questions then, at first and at most.
	firstAsk = 50 * time.Millisecond
	lastAsk  = time.Second
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

	silent, lasting bool // it does not answer; that may be so for long
}

// Local says how this host's engine has the networks: those that it has, or should have.
func (m *Manager) Local() []State { return m.statesOf("") }

// statesOf says so of one network; empty: of all.
func (m *Manager) statesOf(name string) []State {
	m.mu.Lock()
	defer m.mu.Unlock()
	if name == "" {
		return slices.SortedFunc(maps.Values(m.states), func(a, b State) int { return cmp.Compare(a.Name, b.Name) })
	}
	if s, has := m.states[name]; has {
		return []State{s}
	}
	return nil
}

// answers are what hosts have told, by their IDs: what is not there has not answered.
type answers map[string]answer

type answer struct {
	states   map[string]State // by the network's name
	noEngine bool
}

func (a answers) add(t told) {
	states := map[string]State{}
	for _, s := range t.states {
		states[s.Name] = s
	}
	a[t.from] = answer{states, t.noEngine}
}

// List lists the networks with how each host has them, those that were removed while a host has them still, and the one of a name alone if one
// is given.
func (m *Manager) List(ctx context.Context, name string) []Network {
	hosts := append(m.peers(), m.cluster.Self())
	heard := m.ask(ctx, name, hosts)
	hosts = append(hosts, m.down()...)
	networks := []Network{}
	for _, d := range m.listed(name, heard) {
		n := Network{Definition: d, Host: m.hostOf(d.Origin), Hosts: hostStates(&d, hosts, heard)}
		if !d.Removed || slices.ContainsFunc(n.Hosts, func(s HostState) bool { return s.Present }) {
			networks = append(networks, n)
		}
	}
	return networks
}

// listed are the definitions of a name, or all, and something like one for what a host has and nobody knows.
func (m *Manager) listed(name string, heard answers) []Definition {
	all := m.all()
	known := map[string]bool{}
	for _, d := range all {
		known[d.Name] = true
	}
	for _, a := range heard {
		for unknown := range a.states {
			if !known[unknown] {
				known[unknown] = true
				all = append(all, Definition{Name: unknown, Removed: true})
			}
		}
	}
	return slices.DeleteFunc(all, func(d Definition) bool { return name != "" && d.Name != name })
}

// hostStates says how each host has a network, of those that should, or do.
func hostStates(d *Definition, hosts []discovery.Member, heard answers) []HostState {
	all := []HostState{}
	for _, o := range hosts {
		s := HostState{ID: o.ID, Host: o.Host}
		a, answered := heard[o.ID]
		state, has := a.states[d.Name]
		wanted := !d.Removed && d.appliesTo(o.ID, o.Host)
		switch {
		case o.State == discovery.StateDead && (wanted || d.Removed):
			s.Reason, s.lasting = "the host is down, and follows when it is back", true
		case !answered && (wanted || d.Removed):
			s.Reason, s.silent = "the host does not answer", true
		case a.noEngine || !has && !wanted:
			continue
		case !has:
			s.Reason = "the host has not made it yet"
		case state.Reason == "" && state.identity != d.identity():
			s.Present, s.Reason = state.Present, "the host has not heard of this definition yet"
		default:
			s.Present, s.Reason, s.lasting = state.Present, state.Reason, state.lasting
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b HostState) int { return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.ID, b.ID)) })
	return all
}

// ask asks hosts how they have a network, or all, and waits for their answers for a second at most.
func (m *Manager) ask(ctx context.Context, name string, hosts []discovery.Member) answers {
	heard := answers{}
	came := make(chan told, len(hosts))
	id := rand.Uint64()
	m.mu.Lock()
	m.waiting[id] = came
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		delete(m.waiting, id)
		m.mu.Unlock()
	}()
	for _, o := range hosts {
		if o.Self {
			heard.add(told{o.ID, m.statesOf(name), m.cfg.Engine == nil})
		} else {
			m.send(o.ID, &message{ask: id, about: name})
		}
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	for len(heard) < len(hosts) {
		select {
		case <-ctx.Done():
			return heard
		case <-m.ctx.Done():
			return heard
		case t := <-came:
			heard.add(t)
		}
	}
	return heard
}

// hear gives an answer to who waits for it.
func (m *Manager) hear(id uint64, t told) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if waiting := m.waiting[id]; waiting != nil {
		select {
		case waiting <- t:
		default: // it came more than once
		}
	}
}

// Settle waits until all hosts have a network as a definition says that can soon, or for SettleTimeout, and gives what they have then. The
// error: another definition counts.
func (m *Manager) Settle(ctx context.Context, d *Definition) (Network, error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, SettleTimeout)
	defer cancel()
	hosts := append(m.peers(), m.cluster.Self())
	down := m.down()
	heard := answers{}
	left := hosts // to be asked
	for pause := firstAsk; ; pause = min(2*pause, lastAsk) {
		maps.Copy(heard, m.ask(ctx, d.Name, left))
		counts, err := m.counts(d)
		n := Network{Definition: *counts, Host: m.hostOf(counts.Origin), Hosts: hostStates(counts, append(down, hosts...), heard)}
		if err != nil {
			return n, err
		}
		waiting := map[string]bool{}
		for _, s := range n.Hosts {
			waiting[s.ID] = s.Reason != "" && !s.lasting && (!s.silent || time.Since(began) < silentTimeout)
		}
		left = slices.DeleteFunc(slices.Clone(hosts), func(o discovery.Member) bool { return !waiting[o.ID] })
		if len(left) == 0 {
			return n, nil
		}
		select {
		case <-ctx.Done():
			return n, nil
		case <-m.ctx.Done():
			return n, nil
		case <-time.After(pause):
		}
	}
}

// counts gives what counts for a definition's wish: itself, or a removal of another host's in place of this one's. The error: another
// definition does.
func (m *Manager) counts(d *Definition) (*Definition, error) {
	m.mu.Lock()
	now := m.table[d.Name]
	m.mu.Unlock()
	if now == nil || now.identity() != d.identity() && !(now.Removed && d.Removed) {
		return d, fmt.Errorf("network %s: %w: see `overlane network inspect %s`", d.Name, errLost, d.Name)
	}
	return now, nil
}
