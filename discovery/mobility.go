package discovery

import (
	"fmt"
	"slices"
	"time"

	"github.com/sirupsen/logrus"
)

// An address that moves again and again is most likely two containers with one
// address, or a loop. As in RFC 7432 section 15.1 it is then left where it is for
// a while, and the operator is told.

// The RFC's M and N, with its defaults.
const (
	moveWindow = 180 * time.Second
	maxMoves   = 5
)

// noteMove notes that a route went to another VTEP, and freezes it if it did so
// too often.
func (v *view) noteMove(now time.Time, n Network, name networkRoute, r *route, to Change) {
	r.moves = slices.DeleteFunc(r.moves, func(at time.Time) bool { return now.Sub(at) >= moveWindow })
	r.moves = append(r.moves, now)
	if len(r.moves) < maxMoves {
		return
	}
	r.moves = nil
	v.frozen[name] = now.Add(moveWindow)
	switch {
	case name.kind == KindMAC:
		v.warnings = append(v.warnings, fmt.Sprintf("MAC address %s of network %q moved %d times within %s, now to %s: it is left there for %s; "+
			"look for two containers with this address", to.MAC, n.Key, maxMoves, moveWindow, to.VTEP, moveWindow))
	case to.Extra:
		v.warnings = append(v.warnings, fmt.Sprintf("extra address %s of network %q moved %d times within %s, now to %s: it is left there for %s; "+
			"look for two containers that both take it", to.Addr, n.Key, maxMoves, moveWindow, to.VTEP, moveWindow))
	}
}

// best is the first path; of a frozen route the one that is installed, while it
// is still there and no endpoint's own has come before what is extra.
func (v *view) best(n Network, name networkRoute, r *route) Change {
	first := r.paths[v.lead(n, name, r)].change(n, name.routeKey)
	if _, frozen := v.frozen[name]; !frozen || first.Extra != r.installed.Extra {
		return first
	}
	for _, p := range r.paths {
		if p.change(n, name.routeKey) == r.installed {
			return r.installed
		}
	}
	return first
}

// lead is which path counts. One that is passed over for its sequence number is told of once.
func (v *view) lead(n Network, name networkRoute, r *route) int {
	at := leading(r.paths)
	if at > 0 && !r.passedOver {
		p := &r.paths[0]
		v.refused.add(reasonSequence, "node %s announces %s of network %q with sequence number %d, where %d is the highest that moves can have made: it does not count",
			p.owner, name, n.Key, p.seq(), r.paths[at].seq())
	}
	r.passedOver = at > 0
	return at
}

func (v *view) takeRefusals(all *refusals) {
	if v == nil {
		return
	}
	for reason, r := range v.refused {
		for range r.times {
			all.add(reason, "%s", r.detail)
		}
	}
	v.refused = nil
}

func (name networkRoute) String() string {
	if name.kind == KindAddr {
		return fmt.Sprintf("address %s", name.addr.Addr())
	}
	return fmt.Sprintf("MAC address %s", name.mac)
}

// unfreeze lets the routes that were frozen long enough go to their best paths.
func (v *view) unfreeze(now time.Time) {
	if v == nil {
		return
	}
	for name, until := range v.frozen {
		if !now.Before(until) {
			delete(v.frozen, name)
			if nv := v.networks[name.network]; nv != nil && nv.routes[name.routeKey] != nil {
				v.dirty[name] = struct{}{}
			}
		}
	}
}

func (v *view) takeWarnings() []logEntry {
	if v == nil {
		return nil
	}
	var log []logEntry
	for _, text := range v.warnings {
		log = append(log, logEntry{logrus.WarnLevel, text})
	}
	v.warnings = nil
	return log
}
