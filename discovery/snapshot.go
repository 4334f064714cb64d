package discovery

import (
	"net/netip"
	"time"
)

// ownerSnapshot is what a node keeps of another while it is down itself: the way to
// it, and marks below which nothing of it is taken any more.
type ownerSnapshot struct {
	announce
	meta    meta
	address netip.AddrPort
}

// snapshot lists what is to be on disk.
func (c *core) snapshot() []ownerSnapshot {
	var owners []ownerSnapshot
	for _, o := range c.order {
		if o == c.self || !o.seen {
			continue
		}
		r := ownerSnapshot{c.announcement(o), o.meta, o.address}
		for i := range r.networks {
			p := &r.networks[i]
			p.since = max(p.since, o.have(p.Key))
		}
		owners = append(owners, r)
	}
	return owners
}

// restoreEvent gives a node that has just started the snapshot that an earlier
// life of it left so long ago. Nothing of it is used until its owner is a member
// again and its sets have come anew.
type restoreEvent struct {
	owners []ownerSnapshot
	ago    time.Duration
}

func (e restoreEvent) apply(c *core) {
	for i := range e.owners {
		r := e.owners[i]
		if r.down += e.ago; r.down == e.ago { // it was up: while this node was off, or its clock wrong, it need not have been away
			r.down = min(r.down, forgetAfter-rejoinTime)
		}
		if r.owner == c.self.id || r.down >= forgetAfter {
			continue
		}
		o := c.owner(r.owner)
		o.seen = true
		o.meta, o.address = r.meta, r.address
		o.downSince = c.now.Add(-max(r.down, hideAfter))
		c.handleAnnounce(&r.announce)
	}
}
