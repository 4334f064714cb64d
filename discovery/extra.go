package discovery

import (
	"net/netip"
	"slices"
)

// eachPath calls f with each path that the endpoint is reached by. One MAC address
// behind it, at which several extra addresses are, is one path.
func (e *Endpoint) eachPath(owner nodeID, vtep netip.AddrPort, f func(routeKey, path)) {
	for _, k := range e.routes() {
		f(k, path{owner: owner, vtep: vtep, endpoint: e})
	}
	if e.Names != "" {
		f(routeKey{KindNames, e.MAC, vtep}, path{owner: owner, vtep: vtep, endpoint: e})
	}
	for i := range e.Extras {
		p := path{owner: owner, vtep: vtep, endpoint: e, extra: &e.Extras[i]}
		f(addrKey(p.extra.Addr), p)
		if e.leads(i) {
			f(macKey(p.extra.MAC), p)
		}
	}
}

// leads says whether an extra address is the one with the highest sequence number,
// of those with its MAC address behind the endpoint.
func (e *Endpoint) leads(i int) bool {
	x := e.Extras[i]
	if x.MAC == (MAC{}) || x.MAC == e.MAC {
		return false
	}
	for j, other := range e.Extras {
		if other.MAC == x.MAC && (other.Seq > x.Seq || other.Seq == x.Seq && j < i) {
			return false
		}
	}
	return true
}

// Contends says whether two extra addresses are the same, or at the same MAC address
// behind endpoints: one place alone can have them.
func (e Extra) Contends(other Extra) bool {
	return e.Addr == other.Addr || e.MAC == other.MAC && e.MAC != (MAC{})
}

// Standing is how an extra address stands against the claims of others.
type Standing struct {
	Owned     bool   // it, or its MAC address, is an endpoint's own
	Outranked bool   // it, or its MAC address, is elsewhere with more right; so is what is Owned
	Seq       uint32 // to claim it with, and win over the others
}

func (c *core) standing(key string, e Extra) (s Standing) {
	nv := c.view.networks[key]
	if nv == nil {
		return s
	}
	keys := []routeKey{addrKey(e.Addr)}
	if e.MAC != (MAC{}) {
		keys = append(keys, macKey(e.MAC))
	}
	self := path{owner: c.self.id, vtep: c.self.meta.vtep, endpoint: &Endpoint{}, extra: &e}
	var others []uint32
	for _, k := range keys {
		r := nv.routes[k]
		if r == nil {
			continue
		}
		for _, p := range r.paths {
			s.Owned = s.Owned || p.extra == nil
			if p.extra != nil {
				others = append(others, p.extra.Seq)
			}
		}
		with := route{paths: slices.Clone(r.paths)}
		with.add(self)
		s.Outranked = s.Outranked || with.paths[leading(with.paths)] != self
	}
	for _, o := range c.order {
		if o != c.self && !o.shown {
			others = o.set(key).seqs(others, e)
		}
	}
	s.Seq = NextSeq(0, others)
	return s
}

// seqs adds the sequence numbers of the extra addresses in the set, which may be nil, that
// claim the same: a host that is hidden may come back.
func (s *set) seqs(seqs []uint32, e Extra) []uint32 {
	if s == nil {
		return seqs
	}
	for _, it := range s.live {
		for _, x := range it.endpoint.Extras {
			if x.Contends(e) {
				seqs = append(seqs, x.Seq)
			}
		}
	}
	return seqs
}
