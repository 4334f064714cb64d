package discovery

import (
	"fmt"
	"maps"
	"slices"
)

// What must hold of a simulated cluster.

// checkLaws checks what must hold of a store at every moment.
func checkLaws(h *simHost, _ *packet) {
	for _, other := range h.sim.hosts {
		o := h.core.owners[other.id]
		if o == nil || o == h.core.self || other.twin {
			continue
		}
		h.checkRise(pullKey{o.id, ""}, o.incarnation, o.version)
		for _, p := range o.parts {
			key, s := p.Key, p.set
			if s == nil {
				continue
			}
			h.checkRise(pullKey{o.id, key}, s.incarnation, s.version)
			if other.core == nil || other.core.self.incarnation != s.incarnation {
				continue
			}
			if truth := other.core.self.set(key); truth != nil && s.version >= other.core.self.since(key) {
				h.checkSet(other, key, s, truth)
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

// checkSet checks the law of set: it has the owner's value of everything whose
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
// every store equals the union of what the live hosts published.
func (s *simulation) checkAgreement() {
	for _, h := range s.hosts {
		if h.core != nil {
			h.checkAgreement()
		}
	}
}

func (h *simHost) checkAgreement() {
	want, got := map[string]bool{}, map[string]bool{}
	truth := newView()
	for _, n := range h.networks {
		truth.open(n)
	}
	for _, other := range h.sim.hosts {
		if other == h || other.core == nil {
			continue
		}
		for key, n := range h.networks {
			if other.networks[key] != n {
				continue
			}
			vtep := other.core.self.meta.vtep
			truth.addVTEP(key, other.id, vtep)
			for _, e := range other.endpoints[key] {
				want[fmt.Sprintf("%s %v %+v", other.id, n, e)] = true
				truth.addEndpoint(key, other.id, vtep, &e)
			}
		}
	}
	for _, r := range h.core.records() {
		if !r.Hidden && r.Owner != h.id.String() {
			got[fmt.Sprintf("%s %v %+v", r.Owner, r.Network, r.Endpoint)] = true
		}
	}
	h.compare("records", got, want)
	if h.unobserved {
		return
	}

	want, got = map[string]bool{}, map[string]bool{}
	for _, ch := range truth.flush() {
		want[fmt.Sprintf("%+v", ch)] = true
	}
	for _, ch := range h.view {
		got[fmt.Sprintf("%+v", ch)] = true
	}
	h.compare("view", got, want)
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
