package discovery

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// The invariants of a simulated cluster.

// checkInvariants checks what must hold of a store at every moment.
func checkInvariants(h *simHost, _ *packet) {
	for _, other := range h.sim.hosts {
		o := h.core.owners[other.id]
		if o == nil || o == h.core.self || other.isClone {
			continue
		}
		h.checkRise(pullKey{o.id, ""}, o.incarnation, o.version)
		for _, sub := range o.subscriptions {
			key, s := sub.Key, sub.set
			if s == nil {
				continue
			}
			h.checkRise(pullKey{o.id, key}, s.incarnation, s.version)
			if h.sim.cloned || other.core == nil || other.core.self.incarnation != s.incarnation {
				continue
			}
			if theirs := other.core.self.subscription(key); theirs != nil && s.version >= theirs.since {
				if ours := h.core.self.subscription(key); ours.Encrypted != theirs.Encrypted {
					h.sim.fail("%s holds records of %s, whose %q is encrypted: %v", h, other, key, theirs.Encrypted)
				}
				h.checkSet(other, key, s, theirs.set)
			}
		}
	}
}

// checkRise checks that (incarnation, version) never falls.
func (h *simHost) checkRise(k pullKey, incarnation, version uint64) {
	if incarnation == 0 {
		return // nothing is held
	}
	was := h.watermarks[k]
	if incarnation < was[0] || incarnation == was[0] && version < was[1] {
		h.sim.fail("%s: %s %q fell from %v to %d, %d", h, k.owner, k.key, was, incarnation, version)
	}
	h.watermarks[k] = [2]uint64{incarnation, version}
}

// markSnapshot makes what was on disk a mark below which nothing may fall.
func (h *simHost) markSnapshot(r *ownerSnapshot) {
	if r.owner == h.id || r.down > 0 && r.down+h.sim.now.Sub(h.saved) >= forgetAfter {
		return
	}
	h.watermarks[pullKey{r.owner, ""}] = [2]uint64{r.incarnation, r.version}
	for _, p := range r.networks {
		h.watermarks[pullKey{r.owner, p.Key}] = [2]uint64{r.incarnation, p.since}
	}
}

// checkSet checks the invariant of set: it has the owner's value of everything whose
// last change it has seen, and nothing that the owner does not know.
func (h *simHost) checkSet(other *simHost, key string, s, truth *set) {
	for _, it := range truth.live {
		mac := it.endpoint.MAC
		if e := s.endpoint(mac); it.version <= s.version && (e == nil || !e.equal(it.endpoint)) {
			h.sim.fail("%s holds %q of %s at version %d without %s of version %d", h, key, other, s.version, mac, it.version)
		}
	}
	for _, it := range s.live {
		mac := it.endpoint.MAC
		if truth.endpoint(mac) == nil && truth.removed[mac] <= s.version {
			h.sim.fail("%s holds %q of %s at version %d with %s, removed at %d", h, key, other, s.version, mac, truth.removed[mac])
		}
	}
}

// checkAgreement checks what must hold after things have been quiet for a while:
// every store equals the union of what the live hosts published, and of what
// those had that went down together with too many others.
func (s *simulation) checkAgreement() {
	for _, h := range s.hosts {
		if h.core != nil {
			h.checkAgreement()
		}
	}
}

func (h *simHost) checkAgreement() {
	records := map[string]bool{}
	best := map[string]simPath{}
	claim := func(owner nodeID, n Network, vtep netip.AddrPort, endpoints []*Endpoint) {
		simPath{change: Change{Network: n, Kind: KindVTEP, VTEP: vtep}, owner: owner}.enter(best)
		for _, e := range endpoints {
			records[fmt.Sprintf("%s %v %+v", owner, n, *e)] = true
			simPath{Change{Network: n, Kind: KindMAC, VTEP: vtep, MAC: e.MAC}, e.Seq, owner}.enter(best)
			if e.Names != "" {
				simPath{Change{Network: n, Kind: KindNames, VTEP: vtep, MAC: e.MAC, Names: e.Names}, e.Seq, owner}.enter(best)
			}
			for _, a := range e.Addrs {
				simPath{Change{Network: n, Kind: KindAddr, VTEP: vtep, MAC: e.MAC, Addr: a}, e.Seq, owner}.enter(best)
			}
			for _, x := range e.Extras {
				if x.MAC == (MAC{}) {
					x.MAC = e.MAC
				} else {
					simPath{Change{Network: n, Kind: KindMAC, VTEP: vtep, MAC: x.MAC, Extra: true}, x.Seq, owner}.enter(best)
				}
				simPath{Change{Network: n, Kind: KindAddr, VTEP: vtep, MAC: x.MAC, Addr: x.Addr, Extra: true}, x.Seq, owner}.enter(best)
			}
		}
	}
	for _, other := range h.sim.hosts {
		if other == h || other.core == nil {
			continue
		}
		for key, n := range h.networks {
			if other.networks[key] == n {
				claim(other.id, n, other.core.self.meta.vtep, other.published(key))
			}
		}
	}
	for _, o := range h.core.order {
		for _, key := range h.core.shared(o) {
			if o.frozen && !o.left {
				claim(o.id, h.networks[key], o.meta.vtep, o.endpoints(key))
			}
		}
	}
	h.compare("records", h.recordTexts(), records)
	if h.unobserved {
		return
	}
	want, got := map[string]bool{}, map[string]bool{}
	for _, p := range best {
		want[fmt.Sprintf("%+v", p.change)] = true
	}
	for _, ch := range h.view {
		got[fmt.Sprintf("%+v", ch)] = true
	}
	h.compare("view", got, want)
}

// simPath is a path to what its change is about. Which one is best is said here a
// second time, in the plainest way.
type simPath struct {
	change Change
	seq    uint32
	owner  nodeID
}

func (p simPath) better(o simPath) bool {
	switch {
	case p.change.Extra != o.change.Extra:
		return o.change.Extra
	case p.seq != o.seq:
		return p.seq > o.seq
	case p.change.VTEP != o.change.VTEP:
		return p.change.VTEP.Compare(o.change.VTEP) < 0
	case p.owner != o.owner:
		return bytes.Compare(p.owner[:], o.owner[:]) < 0
	}
	return compareMACs(p.change.MAC, o.change.MAC) < 0
}

func (p simPath) enter(best map[string]simPath) {
	about := p.change.about()
	if other, ok := best[about]; !ok || p.better(other) {
		best[about] = p
	}
}

// recordTexts lists the records in use that others own.
func (h *simHost) recordTexts() map[string]bool {
	texts := map[string]bool{}
	for _, r := range h.core.records() {
		if !r.Hidden && r.Owner != h.id.String() {
			texts[fmt.Sprintf("%s %v %+v", r.Owner, r.Network, r.Endpoint)] = true
		}
	}
	return texts
}

func (h *simHost) published(key string) []*Endpoint {
	var endpoints []*Endpoint
	for _, e := range h.endpoints[key] {
		endpoints = append(endpoints, &e)
	}
	return endpoints
}

// endpoints lists what is held of the owner, whether or not it is in use.
func (o *owner) endpoints(key string) []*Endpoint {
	var endpoints []*Endpoint
	if s := o.set(key); s != nil {
		for _, it := range s.live {
			endpoints = append(endpoints, it.endpoint)
		}
	}
	return endpoints
}

func (h *simHost) compare(what string, got, want map[string]bool) {
	var wrong []string
	for _, text := range slices.Sorted(maps.Keys(want)) {
		if !got[text] {
			wrong = append(wrong, "lacks "+text)
		}
	}
	for _, text := range slices.Sorted(maps.Keys(got)) {
		if !want[text] {
			wrong = append(wrong, "still has "+text)
		}
	}
	if len(wrong) > 0 {
		h.sim.fail("%s, %s: %d wrong, the first: %s", h, what, len(wrong), wrong[0])
	}
}
