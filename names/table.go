package names

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// ID is a container's interface in a network: its VTEP, invalid on this host, and its MAC address.
type ID struct {
	VTEP netip.AddrPort
	MAC  [6]byte
}

// Table knows who is called what in each network, by the network's key. Upper and lower case are the same (RFC 4343).
type Table struct {
	mu      sync.RWMutex
	zones   map[string]*zone
	changes atomic.Uint64
}

type zone struct {
	called string // by Docker on this host; empty: not known
	names  map[ID][]string
	byName map[string][]ID
	addrs  map[ID][]netip.Addr
	// holders are those of an address: at most one of this host and one of the others. The own one counts, as it does for packets.
	holders map[netip.Addr][]ID
}

// NewTable is an empty one.
func NewTable() *Table { return &Table{zones: map[string]*zone{}} }

// zone is called with the lock held.
func (t *Table) zone(network string) *zone {
	z := t.zones[network]
	if z == nil {
		z = &zone{names: map[ID][]string{}, byName: map[string][]ID{}, addrs: map[ID][]netip.Addr{}, holders: map[netip.Addr][]ID{}}
		t.zones[network] = z
	}
	return z
}

// Name says what a container is called, its own name first; none: not any more.
func (t *Table) Name(network string, id ID, names []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.changes.Add(1)
	z := t.zone(network)
	for _, name := range z.names[id] {
		without(z.byName, lower(name), id)
	}
	delete(z.names, id)
	if len(names) == 0 {
		return
	}
	z.names[id] = names
	for _, name := range names {
		if name = lower(name); !slices.Contains(z.byName[name], id) {
			z.byName[name] = append(z.byName[name], id)
		}
	}
}

// Address says that a container has an address, which another host's had before.
func (t *Table) Address(network string, addr netip.Addr, id ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.changes.Add(1)
	z := t.zone(network)
	for _, holder := range slices.Clone(z.holders[addr]) {
		if holder.VTEP.IsValid() == id.VTEP.IsValid() {
			z.release(addr, holder)
		}
	}
	z.holders[addr] = append(z.holders[addr], id)
	z.addrs[id] = append(z.addrs[id], addr)
}

// NoAddress takes that back.
func (t *Table) NoAddress(network string, addr netip.Addr, id ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.changes.Add(1)
	t.zone(network).release(addr, id)
}

func (z *zone) release(addr netip.Addr, id ID) {
	without(z.holders, addr, id)
	without(z.addrs, id, addr)
}

// Call says what Docker calls a network on this host: NAME.NETWORK is a name too.
func (t *Table) Call(network, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.changes.Add(1)
	t.zone(network).called = lower(name)
}

// Clear forgets a network.
func (t *Table) Clear(network string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.changes.Add(1)
	delete(t.zones, network)
}

func without[K, V comparable](m map[K][]V, key K, value V) {
	if left := slices.DeleteFunc(m[key], func(v V) bool { return v == value }); len(left) > 0 {
		m[key] = left
	} else {
		delete(m, key)
	}
}

// Lookup gives the addresses behind a name for a container on these networks: those in the first network that has the name. It may be
// NAME or NAME.NETWORK. With found and no address its container has none that leads to it.
func (t *Table) Lookup(networks []string, name string) (addrs []netip.Addr, network string, found bool) {
	name = lower(name)
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, network := range networks {
		z := t.zones[network]
		if z == nil {
			continue
		}
		ids := z.byName[name]
		if plain, ok := strings.CutSuffix(name, "."+z.called); ok && len(ids) == 0 && z.called != "" {
			ids = z.byName[plain]
		}
		for _, id := range ids {
			for _, addr := range z.addrs[id] {
				if z.holder(addr) == id {
					addrs = append(addrs, addr)
				}
			}
		}
		if len(ids) > 0 {
			return addrs, network, true
		}
	}
	return nil, "", false
}

// holder is who has an address that somebody has.
func (z *zone) holder(addr netip.Addr) ID {
	for _, id := range z.holders[addr] {
		if !id.VTEP.IsValid() {
			return id
		}
	}
	return z.holders[addr][0]
}

// reverse gives the name behind an address, with the network's if that is known: NAME.NETWORK.
func (t *Table) reverse(networks []string, addr netip.Addr) (name string, found bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, network := range networks {
		z := t.zones[network]
		if z == nil || len(z.holders[addr]) == 0 {
			continue
		}
		names := z.names[z.holder(addr)]
		switch {
		case len(names) == 0:
			continue
		case z.called == "":
			return names[0], true
		}
		return names[0] + "." + z.called, true
	}
	return "", false
}

// may says whether a container could get such a name in one of these networks: one label, or NAME.NETWORK.
func (t *Table) may(networks []string, name string) bool {
	name = lower(name)
	if !strings.Contains(name, ".") {
		return true
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	return slices.ContainsFunc(networks, func(network string) bool {
		z := t.zones[network]
		return z != nil && z.called != "" && strings.HasSuffix(name, "."+z.called)
	})
}

// Changes counts what the table was told.
func (t *Table) Changes() uint64 { return t.changes.Load() }

// Entry is who has an address: the names that lead to it, without dots, and with the network's behind them where that is called something.
type Entry struct {
	Network string // key
	Addr    netip.Addr
	Names   []string
}

// Entries lists all that is called something on these networks, for a host that is on them, by address. A name on two of them is the
// first one's, like for a container. Names with dots are left out: one of them may be called like a host anywhere.
func (t *Table) Entries(networks []string) (all []Entry) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	taken := map[string]bool{}
	for _, network := range networks {
		z := t.zones[network]
		if z == nil {
			continue
		}
		first := len(all)
		for id, names := range z.names {
			for _, addr := range z.addrs[id] {
				if z.holder(addr) == id {
					all = append(all, Entry{network, addr, z.spelled(names, taken)})
				}
			}
		}
		slices.SortFunc(all[first:], func(a, b Entry) int { return a.Addr.Compare(b.Addr) })
		for name := range z.byName {
			taken[name] = true
		}
	}
	return slices.DeleteFunc(all, func(e Entry) bool { return len(e.Names) == 0 })
}

// spelled gives the names that are not taken, and then each with the network's.
func (z *zone) spelled(names []string, taken map[string]bool) (all []string) {
	plain := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return strings.Contains(name, ".") })
	for _, name := range plain {
		if !taken[lower(name)] {
			all = append(all, name)
		}
	}
	if z.called == "" || strings.ContainsFunc(z.called, notOfLabel) { // db.example.com may be a host anywhere
		return all
	}
	for _, name := range plain {
		all = append(all, name+"."+z.called)
	}
	return all
}

// notOfLabel says that a character has no place in one label of a name.
func notOfLabel(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
}

// lower leaves all but ASCII as it is, as DNS does.
func lower(name string) string {
	upper := func(r rune) bool { return 'A' <= r && r <= 'Z' }
	if !strings.ContainsFunc(name, upper) {
		return name
	}
	return strings.Map(func(r rune) rune {
		if upper(r) {
			r += 'a' - 'A'
		}
		return r
	}, name)
}
