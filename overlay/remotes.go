package overlay

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/discovery"
)

// remotes is what other hosts have of a network.
type remotes struct {
	vni uint32
	log logrus.FieldLogger

	mu      sync.Mutex
	vteps   map[netip.AddrPort]bool      // that take part
	pending map[changeKey]*pendingChange // in which discovery and the datapath differ
}

// pendingChange is the latest change with a key, which could not be applied.
type pendingChange struct {
	discovery.Change
	retry
}

// changeKey is what a change is about: it replaces the one before it with the same key.
type changeKey struct {
	kind discovery.Kind
	at   netip.AddrPort // VTEP; an address has port 0
	mac  discovery.MAC
}

func keyOf(c discovery.Change) changeKey {
	switch c.Kind {
	case discovery.KindVTEP:
		return changeKey{kind: c.Kind, at: c.VTEP}
	case discovery.KindMAC:
		return changeKey{kind: c.Kind, mac: c.MAC}
	}
	return changeKey{kind: c.Kind, at: netip.AddrPortFrom(c.Addr, 0)}
}

// what names a record for people.
func (r *pendingChange) what() string {
	var what string
	switch r.Kind {
	case discovery.KindVTEP:
		what = fmt.Sprintf("VTEP %s", r.VTEP)
	case discovery.KindMAC:
		what = fmt.Sprintf("MAC %s", r.MAC)
	case discovery.KindAddr:
		what = fmt.Sprintf("address %s", r.Addr)
	}
	if r.Gone {
		what += " (withdrawn)"
	}
	return what
}

// Observe applies discovery's changes to the datapath, in order. A network that this host has left by then is passed over.
// What the datapath refuses is tried again, and the others still count.
func (o *Overlay) Observe(changes []discovery.Change) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	byKey := make(map[string]*network, len(o.networks))
	for _, n := range o.networks {
		byKey[n.Key] = n
	}
	if slices.ContainsFunc(changes, func(c discovery.Change) bool { return c.Kind == discovery.KindVTEP && !c.Gone }) {
		o.cfg.Datapath.SetTakeWhole(takeWhole(o.cluster.Members())) // a host of an older version never gets one super-frame
	}
	failed := false
	for _, c := range changes {
		n := byKey[c.Network.Key]
		switch {
		case n == nil || n.Encrypted != c.Network.Encrypted: // the latter: it was made anew meanwhile
		case c.Kind == discovery.KindNames:
			o.nameRemote(c)
		default:
			o.nameRemote(c)
			failed = !n.remotes.observe(o.cfg.Datapath, c) || failed
			if n.Encrypted && c.Kind == discovery.KindVTEP {
				o.encryption.look()
			}
			o.yield(n, c)
		}
	}
	if failed {
		o.noteFailure()
	}
}

// logTo says where to log.
func (r *remotes) logTo(log logrus.FieldLogger) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = log
}

// observe applies a change, or keeps it to be tried again, in place of an older one with its key.
func (r *remotes) observe(dp Datapath, c discovery.Change) (applied bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.Kind == discovery.KindVTEP && c.Gone {
		delete(r.vteps, c.VTEP)
	} else if c.Kind == discovery.KindVTEP {
		r.vteps[c.VTEP] = true
	}
	r.pending[keyOf(c)] = &pendingChange{Change: c}
	return r.apply(dp, r.pending[keyOf(c)])
}

// applyDue tries the records that are due, and says when the next try is; zero: all are applied.
func (r *remotes) applyDue(dp Datapath) (next time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.pending) == 0 {
		return time.Time{}
	}
	now := time.Now()
	for _, p := range r.pending {
		if !p.due(now) || !r.apply(dp, p) {
			next = earlier(next, p.next)
		}
	}
	if len(r.pending) == 0 {
		r.log.Info("all that other hosts announced is applied now")
	}
	return next
}

func (r *remotes) apply(dp Datapath, p *pendingChange) (applied bool) {
	err := r.program(dp, p.Change)
	if err == nil {
		delete(r.pending, keyOf(p.Change))
		return true
	}
	p.failed(err, time.Now())
	if p.failures == 1 && len(r.pending) == 1 {
		r.log.WithError(err).WithField("record", p.what()).Error("could not apply all that other hosts announced: overlane tries again, and `overlane status` shows what is pending")
	}
	return false
}

func (r *remotes) program(dp Datapath, c discovery.Change) error {
	switch {
	case c.Kind == discovery.KindVTEP && c.Gone:
		return dp.DelVTEP(r.vni, c.VTEP)
	case c.Kind == discovery.KindVTEP:
		return dp.AddVTEP(r.vni, c.VTEP)
	case c.Kind == discovery.KindMAC && c.Gone:
		return dp.DelMAC(r.vni, datapath.MAC(c.MAC))
	case c.Kind == discovery.KindMAC:
		return dp.SetMAC(r.vni, datapath.MAC(c.MAC), c.VTEP)
	case c.Gone:
		return dp.DelNeighbour(r.vni, c.Addr)
	}
	return dp.SetNeighbour(r.vni, c.Addr, datapath.MAC(c.MAC), c.Extra)
}

// list gives the records that are not applied, by name.
func (r *remotes) list() []*pendingChange {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*pendingChange, 0, len(r.pending))
	for _, p := range r.pending {
		copied := *p
		all = append(all, &copied)
	}
	slices.SortFunc(all, func(a, b *pendingChange) int { return strings.Compare(a.what(), b.what()) })
	return all
}

// allVTEPs lists those that take part.
func (r *remotes) allVTEPs() []netip.AddrPort {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Keys(r.vteps))
}

// hasVTEP says whether a VTEP takes part.
func (r *remotes) hasVTEP(vtep netip.AddrPort) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.vteps[vtep]
}
