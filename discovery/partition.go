package discovery

import (
	"slices"
	"time"
)

// Peers that die together have rarely died: this node has lost its way to them,
// and perhaps for gossip only. Their records are then no longer withdrawn, until
// they are back, leave, or are forgotten.

const (
	togetherWithin = 10 * time.Second
	togetherLeast  = 2 // peers; one alone may die in the smallest cluster
	togetherShare  = 3 // of the peers, one in so many
)

// lose notes that a peer went down without a word.
func (c *core) lose(o *owner) {
	c.losses = slices.DeleteFunc(c.losses, func(at time.Time) bool { return c.now.Sub(at) > togetherWithin })
	c.losses = append(c.losses, c.now)
	lost, peers := len(c.losses), c.up+len(c.losses)
	if lost < togetherLeast || lost*togetherShare < peers {
		c.cutOff = false
		c.warnf("member %s (%s) is down: its records stay in use for %s", o.meta.host, o.id, hideAfter)
		return
	}
	o.frozen = true
	if c.cutOff {
		return
	}
	c.cutOff = true
	c.warnf("%d of %d members went down within %s: this node seems to be cut off, and their records stay in use until they return; "+
		"look at the network between the hosts, and if they are gone for good, restart overlane here", lost, peers, togetherWithin)
	for _, o := range c.order {
		if !o.member && o.seen && !o.left && c.now.Sub(o.downSince) <= togetherWithin {
			o.frozen = true
			c.refresh(o)
		}
	}
}
