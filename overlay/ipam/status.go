package ipam

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/overlane/overlane/overlay/ipam/prefix"
)

// Status is what `overlane ipam` shows.
type Status struct {
	Pools     []PoolStatus  `json:"pools"`
	Blocks    []BlockStatus `json:"blocks"`
	Leases    []LeaseStatus `json:"addresses"`
	Conflicts []Conflict    `json:"conflicts"`
}

// PoolStatus is one pool.
type PoolStatus struct {
	Key     string       `json:"key"`
	Subnet  netip.Prefix `json:"subnet"`
	Range   netip.Prefix `json:"range"`   // from which this host hands out; zero: all of the subnet
	Gateway netip.Addr   `json:"gateway"` // zero: none
	State   string       `json:"state"`   // ready; or starting: other hosts have not answered yet; or leaving: given to others
}

// BlockStatus is what one host has of a pool.
type BlockStatus struct {
	Key       string       `json:"key"`
	Subnet    netip.Prefix `json:"subnet"`
	Node      string       `json:"node"`
	Host      string       `json:"host"`
	State     string       `json:"state"` // self, up, down, or former: it has forgotten the pool since
	Blocks    int          `json:"blocks"`
	Addresses uint64       `json:"addresses"`
	Free      *uint64      `json:"free"`               // as it said last; nil: not known
	LastSeen  time.Time    `json:"last_seen,omitzero"` // of a host that is not up; zero: more than a day ago
}

// LeaseStatus is an address in use on this host.
type LeaseStatus struct {
	Key      string     `json:"key"`
	Addr     netip.Addr `json:"address"`
	MAC      string     `json:"mac,omitempty"`
	Name     string     `json:"name,omitempty"`     // of the container; empty where the engine does not say
	Endpoint string     `json:"endpoint,omitempty"` // Docker's EndpointID
	Since    time.Time  `json:"since"`
	Owner    string     `json:"owner,omitempty"` // the host whose block it is in, if that is another
}

// Conflict is an address in use on this host and on another: both claimed the pool before they had met.
type Conflict struct {
	Key  string     `json:"key"`
	Addr netip.Addr `json:"address"`
	Host string     `json:"host"`
}

// Status reads everything at once.
func (m *Manager) Status() Status {
	s := Status{Pools: []PoolStatus{}, Blocks: []BlockStatus{}, Leases: []LeaseStatus{}, Conflicts: []Conflict{}}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.core == nil {
		return s
	}
	for _, p := range m.core.sorted() {
		s.Pools = append(s.Pools, p.status())
		s.Blocks = append(s.Blocks, m.core.blocks(p)...)
		s.Leases = append(s.Leases, m.core.leases(p)...)
		s.Conflicts = append(s.Conflicts, m.core.conflicts(p)...)
	}
	return s
}

// Usage is how full this host's part of a pool is.
type Usage struct {
	Key    string
	Subnet netip.Prefix
	Used   int    // addresses in use on this host
	Free   uint64 // that this host may hand out
}

// Usage reads that of all pools.
func (m *Manager) Usage() (all []Usage) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.core == nil {
		return nil
	}
	for _, p := range m.core.sorted() {
		all = append(all, Usage{p.Key, p.Subnet, len(p.used), p.free()})
	}
	return all
}

func (p *pool) status() PoolStatus {
	s := PoolStatus{Key: p.Key, Subnet: p.Subnet, Range: p.Range, State: "ready"}
	if at, ok := p.gateway(); ok {
		s.Gateway = p.addr(at)
	}
	switch {
	case !p.bootstrapped || p.resyncing:
		s.State = "starting"
	case !p.Member:
		s.State = "leaving"
	}
	return s
}

func (c *core) blocks(p *pool) []BlockStatus {
	var all []BlockStatus
	for _, owner := range p.Table.owners() {
		node := nodeOf(owner)
		b := BlockStatus{Key: p.Key, Subnet: p.Subnet, Node: node, Host: c.name(p, node), State: "down", LastSeen: c.away[node].since}
		for _, s := range p.Table.owned(owner, 1, prefix.MaxOffset) {
			b.Blocks++
			b.Addresses += s.size()
		}
		switch peer := p.peers[node]; {
		case owner == p.Owner:
			free := p.free()
			b.Host, b.State, b.Free = c.host, "self", &free
		case c.there(p, owner):
			b.State = "up"
			if peer != nil && peer.knows {
				free := peer.free
				b.Free = &free
			}
		case c.here(node):
			b.State = "former"
		}
		all = append(all, b)
	}
	slices.SortStableFunc(all, func(a, b BlockStatus) int { return cmp.Compare(a.Host, b.Host) })
	return all
}

func (c *core) leases(p *pool) []LeaseStatus {
	var all []LeaseStatus
	for at, l := range p.used {
		s := LeaseStatus{Key: p.Key, Addr: p.addr(at), MAC: l.MAC, Name: l.Name, Since: l.At}
		if owner, ok := p.Table.of(at); ok && owner.Owner != p.Owner {
			s.Owner = c.name(p, nodeOf(owner.Owner))
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b LeaseStatus) int { return a.Addr.Compare(b.Addr) })
	return all
}

func (c *core) conflicts(p *pool) []Conflict {
	var all []Conflict
	for _, id := range c.order {
		if peer := p.peers[id]; peer != nil {
			for _, at := range sortedKeys(peer.held) {
				if p.inUse(at) {
					all = append(all, Conflict{p.Key, p.addr(at), c.name(p, id)})
				}
			}
		}
	}
	for _, at := range p.held() {
		s, _ := p.Table.of(at)
		if isHost(s.Owner) && c.there(p, s.Owner) { // which would have given it, did it not use it
			all = append(all, Conflict{p.Key, p.addr(at), c.name(p, nodeOf(s.Owner))})
		}
	}
	return all
}
