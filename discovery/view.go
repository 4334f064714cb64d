package discovery

import (
	"bytes"
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// view is what Config.Observe sees: for each network this node subscribes to, the best path of every route. It is nil
// where nobody observes. Changes collect until flush, so that a swap of many paths shows only its net effect.
type view struct {
	networks map[string]*networkView
	dirty    map[networkRoute]struct{}
	frozen   map[networkRoute]time.Time // moved too often: left where they are until then
	warnings []string                   // for the log
	refused  refusals
}

type networkView struct {
	network Network
	routes  map[routeKey]*route
}

// networkRoute names a route among all networks.
type networkRoute struct {
	network string
	routeKey
}

func newView() *view {
	return &view{
		networks: map[string]*networkView{},
		dirty:    map[networkRoute]struct{}{},
		frozen:   map[networkRoute]time.Time{},
	}
}

func (v *view) open(n Network) {
	if v == nil {
		return
	}
	v.networks[n.Key] = &networkView{network: n, routes: map[routeKey]*route{}}
}

// close reports everything of the network as gone.
func (v *view) close(now time.Time, network string) []Change {
	if v == nil {
		return nil
	}
	for k, r := range v.networks[network].routes {
		r.paths = nil
		v.dirty[networkRoute{network, k}] = struct{}{}
	}
	changes := v.flush(now)
	delete(v.networks, network)
	maps.DeleteFunc(v.frozen, func(r networkRoute, _ time.Time) bool { return r.network == network })
	return changes
}

func (v *view) addVTEP(network string, owner nodeID, vtep netip.AddrPort) {
	v.add(network, routeKey{kind: KindVTEP, addr: vtep}, path{owner: owner, vtep: vtep})
}

func (v *view) removeVTEP(network string, owner nodeID, vtep netip.AddrPort) {
	v.remove(network, routeKey{kind: KindVTEP, addr: vtep}, path{owner: owner, vtep: vtep})
}

func (v *view) addEndpoint(network string, owner nodeID, vtep netip.AddrPort, e *Endpoint) {
	if v == nil {
		return
	}
	e.eachPath(owner, vtep, func(k routeKey, p path) { v.add(network, k, p) })
}

func (v *view) removeEndpoint(network string, owner nodeID, vtep netip.AddrPort, e *Endpoint) {
	if v == nil {
		return
	}
	e.eachPath(owner, vtep, func(k routeKey, p path) { v.remove(network, k, p) })
}

func (v *view) add(network string, k routeKey, p path) {
	if v == nil {
		return
	}
	routes := v.networks[network].routes
	r := routes[k]
	if r == nil {
		r = &route{}
		routes[k] = r
	}
	if r.add(p) {
		v.dirty[networkRoute{network, k}] = struct{}{}
	}
}

func (v *view) remove(network string, k routeKey, p path) {
	if v == nil {
		return
	}
	if r := v.networks[network].routes[k]; r != nil && r.remove(p) {
		v.dirty[networkRoute{network, k}] = struct{}{}
	}
}

// flush gives the changes since the last flush: first what is new or different
// (VTEPs, MAC addresses, addresses), then what is gone, the other way round, so
// that nothing in use ever refers to something missing.
func (v *view) flush(now time.Time) []Change {
	if v == nil {
		return nil
	}
	var changes []Change
	for name := range v.dirty {
		nv := v.networks[name.network]
		r := nv.routes[name.routeKey]
		if len(r.paths) == 0 {
			delete(nv.routes, name.routeKey)
			if r.inUse {
				gone := r.installed
				gone.Gone = true
				changes = append(changes, gone)
			}
			continue
		}
		best := v.best(nv.network, name, r)
		if r.inUse && best.VTEP != r.installed.VTEP {
			v.noteMove(now, nv.network, name, r, best)
		}
		if !r.inUse || best != r.installed {
			r.installed, r.inUse = best, true
			changes = append(changes, best)
		}
	}
	clear(v.dirty)
	slices.SortFunc(changes, compareChanges)
	return changes
}

func compareChanges(a, b Change) int {
	if a.Gone != b.Gone {
		if b.Gone {
			return -1
		}
		return 1
	}
	byKind := cmp.Compare(a.Kind, b.Kind)
	if a.Gone {
		byKind = -byKind
	}
	return cmp.Or(byKind, cmp.Compare(a.Network.Key, b.Network.Key), a.VTEP.Compare(b.VTEP),
		bytes.Compare(a.MAC[:], b.MAC[:]), a.Addr.Compare(b.Addr))
}
