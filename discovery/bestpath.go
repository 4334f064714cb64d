package discovery

import (
	"bytes"
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// routeKey is what paths of a network lead to: a VTEP, a MAC address, an address (with port 0), or
// the names of an endpoint (its MAC address and VTEP).
type routeKey struct {
	kind Kind
	mac  MAC
	addr netip.AddrPort
}

// routes lists the keys that an endpoint has for its own.
func (e *Endpoint) routes() []routeKey {
	keys := []routeKey{macKey(e.MAC)}
	for _, a := range e.Addrs {
		keys = append(keys, addrKey(a))
	}
	return keys
}

func macKey(mac MAC) routeKey { return routeKey{kind: KindMAC, mac: mac} }

func addrKey(a netip.Addr) routeKey { return routeKey{kind: KindAddr, addr: netip.AddrPortFrom(a, 0)} }

// path is one remote owner's claim to a key. Endpoint is nil for a VTEP, and
// extra for what is an endpoint's own.
type path struct {
	owner    nodeID
	vtep     netip.AddrPort
	endpoint *Endpoint
	extra    *Extra
}

// seq and mac are those of a path that has an endpoint.
func (p *path) seq() uint32 {
	if p.extra != nil {
		return p.extra.Seq
	}
	return p.endpoint.Seq
}

func (p *path) mac() MAC {
	if p.extra != nil && p.extra.MAC != (MAC{}) {
		return p.extra.MAC
	}
	return p.endpoint.MAC
}

// comparePaths orders the paths to one key, the best first: an endpoint's own
// before what is extra, then the highest mobility sequence number, then the lowest
// VTEP (RFC 7432 section 15.1), then whatever makes all nodes choose alike.
func comparePaths(a, b path) int {
	if a.endpoint == nil || b.endpoint == nil {
		return cmp.Or(a.vtep.Compare(b.vtep), bytes.Compare(a.owner[:], b.owner[:]))
	}
	if own := a.extra == nil; own != (b.extra == nil) {
		if own {
			return -1
		}
		return 1
	}
	if byRank := cmp.Or(cmp.Compare(b.seq(), a.seq()), a.vtep.Compare(b.vtep), bytes.Compare(a.owner[:], b.owner[:])); byRank != 0 {
		return byRank
	}
	macA, macB := a.mac(), b.mac()
	return cmp.Or(bytes.Compare(macA[:], macB[:]), bytes.Compare(a.endpoint.MAC[:], b.endpoint.MAC[:]))
}

// route is every path to one key, the best first, and the one that the observer
// was last told of.
type route struct {
	paths      []path
	installed  Change
	inUse      bool        // installed is set
	moves      []time.Time // to another VTEP, lately
	passedOver bool        // the first path does not count, and that was told
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
		ch.MAC, ch.Extra = p.mac(), p.extra != nil
	}
	switch k.kind {
	case KindAddr:
		ch.Addr = k.addr.Addr()
	case KindNames:
		ch.Names = p.endpoint.Names
	}
	return ch
}
