package ipam

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// openPool makes this host take part in a pool. done is called when the pool is ready, or can't be.
func (c *core) openPool(id poolID, within netip.Prefix, done func(error)) {
	p := c.pools[id]
	if p == nil {
		p = newPool(stored{Key: id.Key, Subnet: id.Subnet, Owner: ownerName(c.self, c.now), Origin: origin{c.now.UnixMilli(), c.self}}, c.now)
		c.pools[id] = p
		for _, other := range c.order {
			c.sendTo(other, &message{Reply: true}, p)
		}
	}
	if p.Member && p.Range != within {
		err := fmt.Errorf("ip-range %s: this host has subnet %s already, with range %s: remove that network first", within, id.Subnet, p.Range)
		c.out.done = append(c.out.done, func(error) { done(err) })
		return
	}
	p.Member, p.Range = true, within
	p.lo, p.hi = boundsWithin(id.Subnet, within)
	if p.settled {
		c.write(p)
		c.tell(p, message{Reply: true})
	}
	p.opening = append(p.opening, opening{c.now, done})
}

// finishOpening answers those who wait for the pool.
func (c *core) finishOpening(p *pool, err error) {
	for _, o := range p.opening {
		c.out.done = append(c.out.done, func(failed error) { o.done(cmp.Or(failed, err)) })
	}
	p.opening = nil
}

// abandon ends a first claim that failed.
func (c *core) abandon(p *pool, err error) {
	c.finishOpening(p, err)
	for _, r := range p.waiting {
		c.finish(r.done, netip.Addr{}, err)
	}
	p.waiting = nil
	delete(c.pools, p.id)
}

// settle brings the first claim to its end: every host that is up says what it knows of the pool, and the oldest claim
// counts, or the one that is settled already.
func (c *core) settle(p *pool) {
	if c.awaited(p) != "" {
		if len(p.opening) > 0 && c.now.Sub(p.opening[0].at) > requestLimit {
			c.abandon(p, fmt.Errorf("subnet %s: %s: try again", p.Subnet, c.awaited(p)))
			return
		}
		c.askAround(p)
		return
	}
	if other := c.otherwise(p); other != nil {
		c.abandon(p, other)
		return
	}
	lo, hi := bounds(p.Subnet)
	p.settled = true
	c.put(p, table{{First: lo, Last: hi, Owner: p.Owner, Version: 1}})
	c.tell(p, message{Full: true})
}

// awaited says for whom the first claim waits; empty: for nobody.
func (c *core) awaited(p *pool) string {
	if c.lonely() {
		return "no host of --join has answered yet"
	}
	var silent []string
	for _, id := range c.order {
		peer := p.peers[id]
		switch {
		case peer == nil || peer.echo != p.Origin:
			silent = append(silent, id)
		case peer.knows && (!peer.proposed || peer.origin.before(p.Origin)):
			return fmt.Sprintf("host %s, which has the pool, has not told of it yet", c.name(p, id))
		}
	}
	if len(silent) == 0 {
		return ""
	}
	return fmt.Sprintf("the first use needs a word of every host, and %s did not answer", c.names(p, silent))
}

// askAround asks again those whose word is missing.
func (c *core) askAround(p *pool) {
	if c.now.Sub(p.asked) < askRetry {
		return
	}
	p.asked = c.now
	for _, id := range c.order {
		peer := p.peers[id]
		if peer == nil || peer.echo != p.Origin || peer.knows {
			c.sendTo(id, &message{Reply: true, Need: true}, p)
		}
	}
}

// otherwise says which host has the network with another subnet of the same family.
func (c *core) otherwise(p *pool) error {
	for _, id := range c.order {
		if peer := p.peers[id]; peer != nil && peer.other.IsValid() && peer.other != p.Subnet {
			return fmt.Errorf("subnet %s: the network %s has %s on host %s: give --subnet %s", p.Subnet, p.Key, peer.other, c.name(p, id), peer.other)
		}
	}
	return nil
}

// closePool ends this host's part in a pool. Its addresses are given to another host, when one is up.
func (c *core) closePool(id poolID) {
	p := c.pools[id]
	if p == nil {
		return
	}
	for at := range p.used {
		c.unlease(p, at)
	}
	p.Member, p.ceased = false, c.now
	removed := fmt.Errorf("subnet %s: the network was removed", p.Subnet)
	if !p.settled {
		c.abandon(p, removed)
		return
	}
	c.finishOpening(p, removed)
	c.write(p)
}

// passOn gives what a host owns of a pool that it no longer takes part in to one that does, and forgets the pool when
// that is known there.
func (c *core) passOn(p *pool) {
	if p.Member {
		return
	}
	heir := ""
	for _, id := range c.order {
		if peer := p.peers[id]; peer != nil && peer.knows && peer.member && !peer.proposed && peer.origin == p.Origin {
			heir = id
			break
		}
	}
	switch {
	case heir == "":
		if !c.expectsOthers(p) {
			c.forget(p)
		}
	case p.own > 0:
		var all table
		for _, s := range p.Table.owned(p.Owner, 1, maxOffset) {
			all = append(all, span{First: s.First, Last: s.Last})
		}
		c.give(p, all, p.peers[heir].owner)
		p.ceased = c.now
	case p.peers[heir].hash == p.hash && c.now.Sub(p.ceased) > forgetAfter:
		c.forget(p)
	}
}

// expectsOthers says whether somebody may come back who takes part.
func (c *core) expectsOthers(p *pool) bool {
	return slices.ContainsFunc(p.Table.owners(), func(id string) bool {
		peer := p.peers[nodeOf(id)]
		return nodeOf(id) != c.self && (peer == nil || peer.member || !c.up(nodeOf(id)))
	})
}

func (c *core) forget(p *pool) {
	delete(c.pools, p.id)
	c.out.gone = append(c.out.gone, p.id)
	c.out.pools = slices.DeleteFunc(c.out.pools, func(q *pool) bool { return q == p })
}
