package discovery

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	settleTime     = 5 * time.Second  // that all hosts must be there before a cluster gets its identity: members find each other in two
	strangerMemory = 10 * time.Minute // also of a twin
	maxStrangers   = 16
)

// Stranger is a node that was not taken in, and when it was last heard of.
type Stranger struct {
	Host    string         // empty: not known
	Addr    netip.AddrPort // port 0: not known
	Cluster string         // the identity of its cluster; empty: none yet, or not known
	Key     bool           // it has another token, or only one side has one: nothing else is known of it
	Seen    time.Time
}

// affiliation decides who belongs to this node's cluster. It is not memberlist's
// label, which hosts of the version before would not understand, and a new host
// could not find out.
//
// A node that has no cluster yet takes over that of whom it was told to join, or
// of whom it knew before. It is asked under memberlist's locks, so that it does
// no I/O.
type affiliation struct {
	limiter *limiter
	log     func(format string, args ...any)

	mu        sync.Mutex
	self      nodeID
	own       clusterID
	kin       map[nodeID]bool         // who was a member within a day, also before a restart
	met       bool                    // there was one
	told      map[netip.AddrPort]bool // whom an operator or Docker named
	dialled   map[netip.AddrPort]bool // who is being joined
	strangers []Stranger              // the one heard last at the end
	changed   chan struct{}           // own is new
}

func newAffiliation(self nodeID, own clusterID, limiter *limiter, warnf func(string, ...any)) *affiliation {
	return &affiliation{limiter: limiter, log: warnf, self: self, own: own, kin: map[nodeID]bool{}, told: map[netip.AddrPort]bool{},
		dialled: map[netip.AddrPort]bool{}, changed: make(chan struct{}, 1)}
}

// claim is what this node says of itself.
func (a *affiliation) claim() claim {
	a.mu.Lock()
	defer a.mu.Unlock()
	return claim{true, a.own}
}

// tell says who is to be joined, or no longer.
func (a *affiliation) tell(address netip.AddrPort, join bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.told, address)
	if join {
		a.told[address] = true
	}
}

// dial says that a join of an address begins, or that it is over.
func (a *affiliation) dial(address netip.AddrPort, begins bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.dialled, address)
	if begins {
		a.dialled[address] = true
	}
}

func (a *affiliation) isTold(address netip.AddrPort) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.told[address]
}

// know notes a node that was a member before this node's restart.
func (a *affiliation) know(id nodeID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.kin[id], a.met = true, true
}

// lose forgets nodes that were members.
func (a *affiliation) lose(ids []nodeID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, id := range ids {
		delete(a.kin, id)
	}
}

func (a *affiliation) knows(id nodeID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.kin[id]
}

// alone says whether this node never had a member beside it.
func (a *affiliation) alone() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.met
}

// set makes an identity this node's own; the zero one makes it look for another.
func (a *affiliation) set(id clusterID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.adopt(id)
}

func (a *affiliation) adopt(id clusterID) {
	a.own = id
	signal(a.changed)
}

// belongs says whether what a node says is to be heard.
func (a *affiliation) belongs(id nodeID, c claim) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.fits(id, c)
}

func (a *affiliation) fits(id nodeID, c claim) bool {
	none := clusterID{}
	return !c.known || c.cluster == a.own || a.kin[id] && (a.own == none || c.cluster == none)
}

// admit takes a node in, or gives the reason why not.
func (a *affiliation) admit(m memberUpEvent) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if m.id == a.self {
		return nil
	}
	if !a.fits(m.id, m.meta.claim) {
		return a.refuse(m)
	}
	if !a.kin[m.id] && len(a.kin) >= maxHosts {
		return fmt.Errorf("%s (%s) at %s: %w", m.meta.host, m.id, m.address, errCrowd)
	}
	if a.own == (clusterID{}) && m.meta.claim.cluster != a.own {
		a.adopt(m.meta.claim.cluster)
	}
	a.kin[m.id], a.met = true, true
	a.strangers = slices.DeleteFunc(a.strangers, func(s Stranger) bool { return s.Addr == m.address })
	return nil
}

// merge is asked before the members of another node are taken in, and refuses
// where none of them fits. Of a cluster that is refused one member is noted.
func (a *affiliation) merge(members []memberUpEvent) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if id := a.heard(members); a.own == (clusterID{}) && id != a.own {
		a.adopt(id)
	}
	members = slices.DeleteFunc(members, func(m memberUpEvent) bool { return m.id == a.self })
	if len(members) == 0 || slices.ContainsFunc(members, func(m memberUpEvent) bool { return a.fits(m.id, m.meta.claim) }) {
		return nil
	}
	return a.refuse(slices.MaxFunc(members, func(x, y memberUpEvent) int { return cmp.Compare(a.interest(x), a.interest(y)) }))
}

// interest says how much of a cluster's members one is to be noted: above all who
// is being joined, then who is on the list already.
func (a *affiliation) interest(m memberUpEvent) int {
	switch {
	case a.dialled[m.address]:
		return 3
	case a.told[m.address]:
		return 2
	case slices.ContainsFunc(a.strangers, func(s Stranger) bool { return s.Addr == m.address }):
		return 1
	}
	return 0
}

// heard gives the identity that a node which this one was told to join says with
// its members. One of the version before says none itself: then it is that of its
// members, if they have one and the same, also where it was only a member before.
func (a *affiliation) heard(members []memberUpEvent) (id clusterID) {
	none := clusterID{}
	before, several := false, false
	for _, m := range members {
		if m.id == a.self {
			continue
		}
		said := m.meta.claim
		if a.told[m.address] && said.cluster != none {
			return said.cluster
		}
		before = before || !said.known && (a.told[m.address] || a.kin[m.id])
		if said.cluster != none {
			several = several || id != none && id != said.cluster
			id = said.cluster
		}
	}
	if !before || several {
		return none
	}
	return id
}

// seeks says whether this node has no cluster, and one was named to it.
func (a *affiliation) seeks() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forget()
	return a.own == (clusterID{}) && slices.ContainsFunc(a.strangers, func(s Stranger) bool { return s.Cluster != "" })
}

// errStranger is in every refusal, and nowhere else: what memberlist makes of it
// is recognised by its text.
var errStranger = errors.New("is not of this node's cluster")

// errCrowd keeps out who was no member before.
var errCrowd = fmt.Errorf("this host knows %d others, and takes in no more: each is forgotten a day after it has gone", maxHosts)

func (a *affiliation) refuse(m memberUpEvent) error {
	a.note(Stranger{Host: m.meta.host, Addr: m.address, Cluster: m.meta.claim.cluster.String()})
	return fmt.Errorf("%s at %s %w", m.meta.host, m.address, errStranger)
}

// refuseKey notes that there is a node with another token.
func (a *affiliation) refuseKey(address netip.AddrPort) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.note(Stranger{Addr: address, Key: true})
}

func (a *affiliation) note(s Stranger) {
	a.forget()
	at := slices.IndexFunc(a.strangers, func(o Stranger) bool { return o.Addr == s.Addr && o.Key == s.Key })
	if at >= 0 {
		a.strangers = slices.Delete(a.strangers, at, at+1)
	} else if s.Cluster != "" && a.limiter.allow("cluster "+s.Cluster) {
		a.log("%s at %s belongs to another cluster, %s; this host's is %s: neither takes anything from the other", s.Host, s.Addr, s.Cluster, cmp.Or(a.own.String(), "none yet"))
	}
	s.Seen = time.Now()
	a.strangers = append(a.strangers, s)
	a.strangers = a.strangers[max(0, len(a.strangers)-maxStrangers):]
}

// forget drops who was not heard of for long.
func (a *affiliation) forget() {
	a.strangers = slices.DeleteFunc(a.strangers, func(s Stranger) bool { return time.Since(s.Seen) > strangerMemory })
}

// stranger gives what is known of a node at an address that was not taken in.
func (a *affiliation) stranger(address netip.AddrPort) (Stranger, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := slices.IndexFunc(a.strangers, func(s Stranger) bool { return s.Addr == address })
	if at < 0 {
		return Stranger{}, false
	}
	return a.strangers[at], true
}

// Strangers lists the nodes that knocked, or were found where one was to be
// joined, and were not taken in.
func (c *Cluster) Strangers() []Stranger {
	a := c.affiliation
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forget()
	return slices.Clone(a.strangers)
}
