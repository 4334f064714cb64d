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
	c.losses = slices.DeleteFunc(c.losses, func(p *owner) bool { return p == o || p.member || c.now.Sub(p.downSince) > togetherWithin })
	c.losses = append(c.losses, o)
	lost, peers := len(c.losses), c.up+len(c.losses)
	if lost < togetherLeast || lost*togetherShare < peers {
		c.cutOff = false
		c.warnf("member %s (%s) is down: its records stay in use for %s", o.meta.host, o.id, hideAfter)
		return
	}
	for _, o := range c.losses {
		if !o.frozen && !o.left {
			o.frozen = true
			c.refresh(o)
		}
	}
	if c.cutOff {
		return
	}
	c.cutOff = true
	c.warnf("%d of %d members went down within %s: this node seems to be cut off, and their records stay in use until they return; "+
		"look at the network between the hosts, and if they are gone for good, restart overlane here", lost, peers, togetherWithin)
}
