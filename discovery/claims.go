package discovery

import (
	"net/netip"
	"slices"
)

// claims finds what is in use by its routes, in the view. What is hidden is
// few hosts' and in no view: their sets are looked through.
func (c *core) claims(key string, to Endpoint) []Record {
	nv := c.view.networks[key]
	if nv == nil {
		return nil
	}
	var records []Record
	found := map[*Endpoint]bool{}
	claim := func(r Record, e *Endpoint) {
		if !found[e] {
			found[e] = true
			r.Network, r.Endpoint = nv.network, *e
			r.Endpoint.Addrs = slices.Clone(e.Addrs)
			records = append(records, r)
		}
	}
	for _, k := range to.routes() {
		if r := nv.routes[k]; r != nil {
			for _, p := range r.paths {
				if p.extra != nil {
					break // an own one comes first
				}
				claim(Record{Owner: p.owner.recordOwner(), VTEP: p.vtep}, p.endpoint)
			}
		}
	}
	for _, o := range c.order {
		if o == c.self || o.shown {
			continue
		}
		if s := o.set(key); s != nil {
			for _, it := range s.live {
				if it.endpoint.claims(to) {
					claim(Record{Owner: o.id.String(), VTEP: o.meta.vtep, Hidden: true}, it.endpoint)
				}
			}
		}
	}
	return records
}

// claims says whether two endpoints have the MAC address or an address in common.
func (e *Endpoint) claims(to Endpoint) bool {
	return e.MAC == to.MAC || slices.ContainsFunc(e.Addrs, func(a netip.Addr) bool { return slices.Contains(to.Addrs, a) })
}

// recordOwner is the Record.Owner of a claim in the view, where static endpoints are nobody's.
func (id nodeID) recordOwner() string {
	if id == (nodeID{}) {
		return StaticOwner
	}
	return id.String()
}
