package discovery

// What others say of this node may outrank what it has said itself: the data
// directory was put back to an older state, or another node runs on a copy of it.
// As in memberlist the node refutes it by a higher incarnation.

// refuteNewer refutes what is said of this node's announcement or of one of its
// sets if it outranks the node's own version.
func (c *core) refuteNewer(incarnation, version, own uint64) {
	if incarnation > c.self.incarnation || incarnation == c.self.incarnation && version > own {
		c.refute(incarnation)
	}
}

// ownVersion is the highest version this node has given to a set of its own.
func (c *core) ownVersion(key string) uint64 {
	if s := c.self.set(key); s != nil {
		return s.version
	}
	return c.clock
}

// refute takes an incarnation above one that was heard of, and says everything
// anew under it. Two nodes on copies of one directory refute each other in turn,
// so not more than once in a while.
func (c *core) refute(heard uint64) {
	if !c.refutedAt.IsZero() && c.now.Sub(c.refutedAt) < refuteInterval {
		return
	}
	if heard >= maxIncarnation-1 {
		c.warnf("the cluster knows this node under incarnation %d, above which there is none: remove identity.json to start as a new node", heard)
		return
	}
	c.refutedAt = c.now
	c.warnf("the cluster knows this node under incarnation %d, its own is %d: taking a higher one; "+
		"if this repeats, another node runs on a copy of this data directory", heard, c.self.incarnation)
	c.self.incarnation = heard + 1
	c.self.meta.incarnation = c.self.incarnation
	for _, sub := range c.self.subscriptions {
		sub.set.incarnation = c.self.incarnation
		delete(c.pushed, sub.Key)
	}
	c.out.persist = c.self.incarnation
	c.announcing = true
	c.changed()
}
