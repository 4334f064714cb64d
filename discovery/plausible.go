package discovery

import (
	"fmt"
	"maps"
	"math"
	"slices"
)

// What no honest node says. Whoever has the cluster's token can speak for others (see SECURITY.md). What he says is bounded here by what no
// honest node makes, whatever its clock and however old its disk: so a lie does harm while he repeats it, and none that lasts.
//
// No wall clock is asked: that of this node may be wrong as well. What a node says of itself by membership is what its incarnation is
// measured by. A node puts an incarnation there before it says anything under it, and takes back what others put there.

const (
	// maxLead is how far an incarnation may be above the one in its owner's meta, which may be on its way: a year in milliseconds, so that a daemon
	// that starts anew need not wait for that. One that was down for longer, or whose clock was in 1970 before, waits for a second or two.
	// A lie within it makes its owner take a higher one, once a second at most: 2^62 are used up after four years of that.
	maxLead = 365 * 24 * 3600 * 1000
	// maxHosts is how many other nodes are known, also those that were there within a day: four for each VTEP that the datapath has room for.
	maxHosts = 1 << 14
	// maxRecords is how many endpoints of others are held: eight for each that the datapath has room for.
	maxRecords = 1 << 20
	// maxPulls is how much is asked for at a time: a hundred networks of a thousand hosts, and some.
	maxPulls = 1 << 17
	// maxSeqLead is how far a sequence number may be above all others at its route. Each move makes it higher by one, and two hosts that take an
	// address from each other all the time need a day for so many, in which neither hears the other.
	maxSeqLead = 1 << 16
)

// The reasons for which something is refused that only somebody with the token can have said.
const (
	reasonAhead    = "incarnation_ahead"
	reasonSequence = "sequence_ahead"
	reasonHosts    = "hosts_full"
	reasonRecords  = "records_full"
)

// refusals are what was refused in a step, by reason.
type refusals map[string]refusal

type refusal struct {
	times  uint64
	detail string // of the first
}

func (all *refusals) add(reason, format string, args ...any) {
	if *all == nil {
		*all = refusals{}
	}
	r := (*all)[reason]
	if r.times++; r.times == 1 {
		r.detail = fmt.Sprintf(format, args...)
	}
	(*all)[reason] = r
}

// refuse notes that something is not taken from the sender of the message in this step.
func (c *core) refuse(reason, format string, args ...any) {
	sender := fmt.Sprintf("node %s at %s", c.sender.id, c.sender.address)
	if o := c.owners[c.sender.id]; o != nil && o.seen {
		sender = fmt.Sprintf("%s (%s) at %s", o.meta.host, o.id, c.sender.address)
	}
	c.out.refused.add(reason, "%s says "+format, append([]any{sender}, args...)...)
}

// ahead says whether an incarnation is above all that its owner can have taken. Of an owner that was never a member nothing is
// known to measure it by, and nothing of it is used: see memberUpEvent.
func (c *core) ahead(id nodeID, incarnation uint64) bool {
	o := c.owners[id]
	switch {
	case o == nil || o != c.self && !o.seen:
		return false
	case o == c.self:
		return incarnation > o.incarnation+maxLead
	}
	return incarnation > o.meta.incarnation+maxLead
}

// screen gives a packet without what no honest node says.
func (c *core) screen(p *packet) *packet {
	refused := func(id nodeID, incarnation uint64) bool {
		if !c.ahead(id, incarnation) {
			return false
		}
		o := c.owners[id]
		c.refuse(reasonAhead, "that %s (%s) has incarnation %d, which says %d itself", o.meta.host, id, incarnation, o.meta.incarnation)
		return true
	}
	screened := *p // others may have the same
	screened.announces = without(p.announces, func(a *announce) bool { return refused(a.owner, a.incarnation) })
	screened.deltas = without(p.deltas, func(d *delta) bool { return refused(d.owner, d.incarnation) })
	if p.versions != nil {
		v := *p.versions
		v.owners = without(v.owners, func(o *ownerVersions) bool { return refused(o.owner, o.incarnation) })
		screened.versions = &v
	}
	return &screened
}

// without is the list without those that are refused: the same where none is.
func without[T any](list []T, refused func(*T) bool) []T {
	var kept []T
	for i := range list {
		switch {
		case !refused(&list[i]):
			if kept != nil {
				kept = append(kept, list[i])
			}
		case kept == nil:
			kept = append(make([]T, 0, len(list)-1), list[:i]...)
		}
	}
	if kept == nil {
		return list
	}
	return kept
}

// disown drops what was said of an owner under an incarnation that it has not come to: before it was a member, or while somebody passed for it. So
// is a node heard again whose disk was put back by more than maxLead, and whose clock is no help.
func (c *core) disown(o *owner) {
	c.out.refused.add(reasonAhead, "%s (%s) says that its incarnation is %d, and %d was said of it: that is dropped", o.meta.host, o.id, o.meta.incarnation, o.incarnation)
	c.hide(o)
	maps.DeleteFunc(c.pulls, func(k pullKey, _ *pull) bool { return k.owner == o.id })
	o.incarnation, o.version, o.left, o.subscriptions = o.meta.incarnation, 0, false, nil
	clear(c.groupsCache)
	c.invalidateSums()
	c.pull(o.id, "", o.incarnation, 1, o.id)
}

// roomForOwner says whether one more that is no member may be known.
func (c *core) roomForOwner() bool {
	if len(c.owners) < maxHosts {
		return true
	}
	c.refuse(reasonHosts, "that there is another host, and this one knows of %d: it takes in members alone", len(c.owners))
	return false
}

// roomForRecords says whether a delta may be applied.
func (c *core) roomForRecords(o *owner, d *delta) bool {
	more := len(d.upserts)
	if s := o.set(d.key); s != nil && d.from == 0 {
		more -= len(s.live)
	}
	if c.held+more > maxRecords {
		c.refuse(reasonRecords, "that %s (%s) has %d more endpoints, and this host has records of %d", o.meta.host, o.id, more, c.held)
		return false
	}
	c.held += more
	return true
}

// countRecords corrects what roomForRecords has guessed.
func (c *core) countRecords() {
	c.held = 0
	for _, o := range c.order {
		if o == c.self {
			continue
		}
		for i := range o.subscriptions {
			if s := o.subscriptions[i].set; s != nil {
				c.held += len(s.live)
			}
		}
	}
}

// leading is which of a route's paths counts: the first that is not far above the ones behind it. It depends on nothing but the paths, as their
// order does.
func leading(paths []path) int {
	last := 0
	for last+1 < len(paths) && paths[last+1].endpoint != nil && (paths[last+1].extra == nil) == (paths[0].extra == nil) {
		last++
	}
	for last > 0 && paths[last-1].seq()-paths[last].seq() <= maxSeqLead {
		last--
	}
	return last
}

// NextSeq is a sequence number above those of others, and not below the one that an endpoint has: but for what nobody can have come to
// by moves.
func NextSeq(own uint32, others []uint32) uint32 {
	for _, seq := range slices.Sorted(slices.Values(others)) {
		if seq < own {
			continue
		}
		if seq-own > maxSeqLead || seq == math.MaxUint32 {
			break
		}
		own = seq + 1
	}
	return own
}
