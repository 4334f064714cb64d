package discovery

import (
	"net/netip"
	"time"
)

// remembered is what a node keeps of another while it is down itself: the way to
// it, and marks below which nothing of it is taken any more.
type remembered struct {
	announce
	meta    meta
	address netip.AddrPort
}

// remember lists what is to be on disk.
func (c *core) remember() []remembered {
	var owners []remembered
	for _, o := range c.order {
		if o == c.self || !o.seen {
			continue
		}
		r := remembered{c.announcement(o), o.meta, o.address}
		for i := range r.networks {
			p := &r.networks[i]
			p.since = max(p.since, o.have(p.Key))
		}
		owners = append(owners, r)
	}
	return owners
}

// restoreEvent gives a node that has just started what an earlier life of it
// remembered, that long ago. Nothing of it is used until its owner is a member
// again and its sets have come anew.
type restoreEvent struct {
	owners []remembered
	ago    time.Duration
}

func (e restoreEvent) apply(c *core) {
	for i := range e.owners {
		r := e.owners[i]
		r.down += e.ago
		if r.owner == c.self.id || r.down >= forgetAfter {
			continue
		}
		o := c.owner(r.owner)
		o.seen = true
		o.meta, o.address = r.meta, r.address
		o.downSince = c.now.Add(-max(r.down, hideAfter))
		c.takeAnnounce(&r.announce)
	}
}
