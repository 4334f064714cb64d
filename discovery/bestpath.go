package discovery

import (
	"bytes"
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// routeKey is what paths of a network lead to: a VTEP, a MAC address, or an address (with port 0).
type routeKey struct {
	kind Kind
	mac  MAC
	addr netip.AddrPort
}

// routes lists the keys that an endpoint is reached by.
func (e *Endpoint) routes() []routeKey {
	keys := []routeKey{{kind: KindMAC, mac: e.MAC}}
	for _, a := range e.Addrs {
		keys = append(keys, routeKey{kind: KindAddr, addr: netip.AddrPortFrom(a, 0)})
	}
	return keys
}

// path is one remote owner's claim to a key. Endpoint is nil for a VTEP.
type path struct {
	owner    nodeID
	vtep     netip.AddrPort
	endpoint *Endpoint
}

// comparePaths orders the paths to one key, the best first: highest mobility
// sequence number, then lowest VTEP (RFC 7432 section 15.1), then whatever makes
// all nodes choose alike.
func comparePaths(a, b path) int {
	var bySeq, byMAC int
	if a.endpoint != nil && b.endpoint != nil {
		bySeq = cmp.Compare(b.endpoint.Seq, a.endpoint.Seq)
		byMAC = bytes.Compare(a.endpoint.MAC[:], b.endpoint.MAC[:])
	}
	return cmp.Or(bySeq, a.vtep.Compare(b.vtep), bytes.Compare(a.owner[:], b.owner[:]), byMAC)
}

// route is every path to one key, the best first, and the one that the observer
// was last told of.
type route struct {
	paths     []path
	installed Change
	inUse     bool        // installed is set
	moves     []time.Time // to another VTEP, lately
}

// add reports whether the path is new.
func (r *route) add(p path) bool {
	at, found := slices.BinarySearchFunc(r.paths, p, comparePaths)
	if !found {
		r.paths = slices.Insert(r.paths, at, p)
	}
	return !found
}

// remove reports whether the path was there.
func (r *route) remove(p path) bool {
	at, found := slices.BinarySearchFunc(r.paths, p, comparePaths)
	if found {
		r.paths = slices.Delete(r.paths, at, at+1)
	}
	return found
}

// change tells the observer that the path is the best.
func (p path) change(n Network, k routeKey) Change {
	ch := Change{Network: n, Kind: k.kind, VTEP: p.vtep}
	if p.endpoint != nil {
		ch.MAC = p.endpoint.MAC
	}
	if k.kind == KindAddr {
		ch.Addr = k.addr.Addr()
	}
	return ch
}
