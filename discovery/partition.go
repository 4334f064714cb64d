package discovery

import (
	"slices"
	"time"
)

// Peers that die together have rarely died: this node has lost its way to them,
// and perhaps for gossip only. Their records are then no longer withdrawn, until
// they are back, leave, or are forgotten.

const (
	partitionWindow = 10 * time.Second
	partitionMin    = 2 // peers; one alone may die in the smallest cluster
	partitionShare  = 3 // of the peers, one in so many
)

// noteFailure notes that a peer went down without a word.
func (c *core) noteFailure(o *owner) {
	c.failures = slices.DeleteFunc(c.failures, func(p *owner) bool { return p == o || p.member || c.now.Sub(p.downSince) > partitionWindow })
	c.failures = append(c.failures, o)
	lost, peers := len(c.failures), c.up+len(c.failures)
	if lost < partitionMin || lost*partitionShare < peers {
		c.partitioned = false
		c.warnf("member %s (%s) is down: its records stay in use for %s", o.meta.host, o.id, hideAfter)
		return
	}
	for _, o := range c.failures {
		if !o.frozen && !o.left {
			o.frozen = true
			c.refresh(o)
		}
	}
	if c.partitioned {
		return
	}
	c.partitioned = true
	c.warnf("%d of %d members went down within %s: this node seems to be cut off, and their records stay in use until they return; "+
		"look at the network between the hosts, and if it is they who are down, run `overlane withdraw --down` here", lost, peers, partitionWindow)
}

// withdrawEvent is an operator's word that a node is down, and that this one is not cut off.
type withdrawEvent struct{ id nodeID }

func (e withdrawEvent) apply(c *core) {
	o := c.owners[e.id]
	if o == nil || o.member {
		return
	}
	o.frozen, c.partitioned = false, false
	c.failures = slices.DeleteFunc(c.failures, func(p *owner) bool { return p == o })
	c.refresh(o)
}
