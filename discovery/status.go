package discovery

import (
	"bytes"
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// What the core tells of itself.

// suspectAfter is how long a member may leave a digest without an answer.
const suspectAfter = time.Second

func (c *core) members(now time.Time) []Member {
	var members []Member
	replaced := c.replaced(now)
	for _, o := range c.order {
		if o.seen {
			m := c.member(now, o)
			m.Replaced = replaced(o)
			members = append(members, m)
		}
	}
	return members
}

// replaced says of nodes that are dead, and of which nothing is in use, whether their hosts were set up anew.
func (c *core) replaced(now time.Time) func(*owner) bool {
	type place struct {
		host string
		vtep netip.AddrPort
	}
	at := func(o *owner) place { return place{o.meta.host, o.meta.vtep} }
	up := map[place]bool{}
	for _, o := range c.order {
		if o.member {
			up[at(o)] = true
		}
	}
	return func(o *owner) bool { return o.state(now) == StateDead && !o.frozen && up[at(o)] }
}

func (c *core) member(now time.Time, o *owner) Member {
	var lastSeen time.Time
	if !o.member {
		lastSeen = o.downSince
	}
	return Member{
		ID:          o.id.String(),
		Host:        o.meta.host,
		Addr:        o.address,
		VTEP:        o.meta.vtep,
		State:       o.state(now),
		Incarnation: max(o.incarnation, o.meta.incarnation),
		Self:        o == c.self,
		Keys:        o.meta.keys.list(),
		MTU:         int(o.meta.mtu),
		Whole:       o.meta.whole,
		Networks:    o.meta.networks,
		Tests:       o.meta.tests,
		Cluster:     o.meta.claim.cluster.String(),
		Frozen:      o.frozen && !o.left,
		Deaf:        o.member && o.deaf,
		Mute:        o.mute(now),
		LastSeen:    lastSeen,
	}
}

func (o *owner) state(now time.Time) State {
	switch {
	case o.left && o.meta.incarnation <= o.incarnation:
		return StateLeft
	case !o.member:
		return StateDead
	case !o.unanswered.IsZero() && now.Sub(o.unanswered) > suspectAfter:
		return StateSuspect
	}
	return StateAlive
}

func (c *core) records() []Record {
	var records []Record
	for _, o := range c.owners {
		hidden := o != c.self && !o.shown
		for _, sub := range o.subscriptions {
			if sub.set == nil {
				continue
			}
			for _, it := range sub.set.live {
				e := *it.endpoint
				e.Addrs = slices.Clone(e.Addrs)
				records = append(records, Record{o.id.String(), o.meta.vtep, sub.Network, e, hidden})
			}
		}
	}
	for _, sub := range c.self.subscriptions {
		for _, s := range c.staticsOf(sub.Network) {
			s.Endpoint.Addrs = slices.Clone(s.Endpoint.Addrs)
			records = append(records, Record{StaticOwner, s.VTEP, sub.Network, s.Endpoint, false})
		}
	}
	slices.SortFunc(records, func(a, b Record) int {
		return cmp.Or(cmp.Compare(a.Network.Key, b.Network.Key), cmp.Compare(a.Owner, b.Owner),
			bytes.Compare(a.Endpoint.MAC[:], b.Endpoint.MAC[:]))
	})
	return records
}

func (c *core) allConflicts() []Conflict {
	found := map[Conflict]bool{}
	for _, o := range c.owners {
		maps.Copy(found, c.conflictsWith(o))
	}
	return sortedConflicts(found)
}

// tally counts the members and records by state, and the versions that are
// known of and lacking. A node whose host was set up anew is no member that is
// down.
func (c *core) tally(now time.Time) (states map[State]int, records map[string]int, behind int) {
	states, records = map[State]int{}, map[string]int{}
	replaced := c.replaced(now)
	for _, o := range c.order {
		if o.seen && !replaced(o) {
			states[o.state(now)]++
		}
		state := "used"
		switch {
		case o == c.self:
			state = "own"
		case !o.shown:
			state = "hidden"
		}
		for _, sub := range o.subscriptions {
			if sub.set != nil {
				records[state] += len(sub.set.live)
			}
		}
	}
	for _, sub := range c.self.subscriptions {
		records["static"] += len(c.staticsOf(sub.Network))
	}
	for k, p := range c.pulls {
		if o := c.owners[k.owner]; o != nil && k.key != "" && p.version > o.have(k.key) {
			behind += int(p.version - o.have(k.key))
		}
	}
	return states, records, behind
}
