package discovery

import (
	"bytes"
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// candidate is one remote owner's claim to a VTEP's part in a network, to a MAC
// address or to an address. Endpoint is nil for a VTEP.
type candidate struct {
	owner    nodeID
	vtep     netip.AddrPort
	endpoint *Endpoint
}

// compareCandidates orders claims to the same thing, the winner first: highest
// mobility sequence number, then lowest VTEP (RFC 7432 section 15.1), then
// whatever makes all nodes choose alike.
func compareCandidates(a, b candidate) int {
	var byEndpoint, byMAC int
	if a.endpoint != nil && b.endpoint != nil {
		byEndpoint = cmp.Compare(b.endpoint.Seq, a.endpoint.Seq)
		byMAC = bytes.Compare(a.endpoint.MAC[:], b.endpoint.MAC[:])
	}
	return cmp.Or(byEndpoint, a.vtep.Compare(b.vtep), bytes.Compare(a.owner[:], b.owner[:]), byMAC)
}

// subject is what claims are about: a VTEP, a MAC address, or an address (with
// port 0).
type subject struct {
	kind Kind
	mac  MAC
	addr netip.AddrPort
}

// contest is every claim to one subject, the winner first, and what was last
// told to the observer.
type contest struct {
	candidates []candidate
	told       Change
	isTold     bool
	moves      []time.Time // to another VTEP, lately
}

// view is nil where nobody observes. Otherwise it is what Config.Observe sees: for each network this node takes part in,
// the winner of every contest. Changes collect until flush, so that a swap of
// many claims shows only its net effect.
type view struct {
	networks map[string]*networkView
	dirty    map[dirtySubject]struct{}
	frozen   map[dirtySubject]time.Time // moved too often: left where they are until then
	alarms   []string                   // for the log
}

type networkView struct {
	network  Network
	contests map[subject]*contest
}

type dirtySubject struct {
	key string
	subject
}

func newView() *view {
	return &view{
		networks: map[string]*networkView{},
		dirty:    map[dirtySubject]struct{}{},
		frozen:   map[dirtySubject]time.Time{},
	}
}

func (v *view) open(n Network) {
	if v == nil {
		return
	}
	v.networks[n.Key] = &networkView{network: n, contests: map[subject]*contest{}}
}

// close reports everything of the network as gone.
func (v *view) close(at time.Time, key string) []Change {
	if v == nil {
		return nil
	}
	nv := v.networks[key]
	for s, c := range nv.contests {
		c.candidates = nil
		v.dirty[dirtySubject{key, s}] = struct{}{}
	}
	changes := v.flush(at)
	delete(v.networks, key)
	maps.DeleteFunc(v.frozen, func(d dirtySubject, _ time.Time) bool { return d.key == key })
	return changes
}

func (v *view) addVTEP(key string, owner nodeID, vtep netip.AddrPort) {
	v.add(key, subject{kind: KindVTEP, addr: vtep}, candidate{owner: owner, vtep: vtep})
}

func (v *view) removeVTEP(key string, owner nodeID, vtep netip.AddrPort) {
	v.remove(key, subject{kind: KindVTEP, addr: vtep}, candidate{owner: owner, vtep: vtep})
}

func (v *view) addEndpoint(key string, owner nodeID, vtep netip.AddrPort, e *Endpoint) {
	if v == nil {
		return
	}
	for _, s := range e.subjects() {
		v.add(key, s, candidate{owner, vtep, e})
	}
}

func (v *view) removeEndpoint(key string, owner nodeID, vtep netip.AddrPort, e *Endpoint) {
	if v == nil {
		return
	}
	for _, s := range e.subjects() {
		v.remove(key, s, candidate{owner, vtep, e})
	}
}

func (e *Endpoint) subjects() []subject {
	subjects := []subject{{kind: KindMAC, mac: e.MAC}}
	for _, a := range e.Addrs {
		subjects = append(subjects, subject{kind: KindAddr, addr: netip.AddrPortFrom(a, 0)})
	}
	return subjects
}

func (v *view) add(key string, s subject, c candidate) {
	if v == nil {
		return
	}
	contests := v.networks[key].contests
	ct := contests[s]
	if ct == nil {
		ct = &contest{}
		contests[s] = ct
	}
	at, found := slices.BinarySearchFunc(ct.candidates, c, compareCandidates)
	if !found {
		ct.candidates = slices.Insert(ct.candidates, at, c)
		v.dirty[dirtySubject{key, s}] = struct{}{}
	}
}

func (v *view) remove(key string, s subject, c candidate) {
	if v == nil {
		return
	}
	ct := v.networks[key].contests[s]
	if ct == nil {
		return
	}
	if at, found := slices.BinarySearchFunc(ct.candidates, c, compareCandidates); found {
		ct.candidates = slices.Delete(ct.candidates, at, at+1)
		v.dirty[dirtySubject{key, s}] = struct{}{}
	}
}

// flush gives the changes since the last flush: first what is new or different
// (VTEPs, MAC addresses, addresses), then what is gone, the other way round, so
// that nothing in use ever refers to something missing.
func (v *view) flush(at time.Time) []Change {
	if v == nil {
		return nil
	}
	var changes []Change
	for d := range v.dirty {
		nv := v.networks[d.key]
		ct := nv.contests[d.subject]
		if len(ct.candidates) == 0 {
			delete(nv.contests, d.subject)
			if ct.isTold {
				gone := ct.told
				gone.Gone = true
				changes = append(changes, gone)
			}
			continue
		}
		now := v.winner(nv.network, d.subject, ct)
		if ct.isTold && now.VTEP != ct.told.VTEP {
			v.moved(at, nv.network, d.subject, ct, now)
		}
		if !ct.isTold || now != ct.told {
			ct.told, ct.isTold = now, true
			changes = append(changes, now)
		}
	}
	clear(v.dirty)
	slices.SortFunc(changes, compareChanges)
	return changes
}

func (c candidate) change(n Network, s subject) Change {
	ch := Change{Network: n, Kind: s.kind, VTEP: c.vtep}
	if c.endpoint != nil {
		ch.MAC = c.endpoint.MAC
	}
	if s.kind == KindAddr {
		ch.Addr = s.addr.Addr()
	}
	return ch
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
