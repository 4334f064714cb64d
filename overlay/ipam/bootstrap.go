package ipam

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/overlane/overlane/overlay/ipam/prefix"
)

// openPool makes this host take part in a pool. done is called when the pool is ready, or can't be.
func (c *core) openPool(id poolID, within netip.Prefix, done func(error)) {
	p := c.pools[id]
	if p == nil {
		owner := c.ownerName()
		p = newPool(stored{Key: id.Key, Subnet: id.Subnet, Owner: owner, Origin: newOrigin(c.now, owner)}, c.now)
		c.pools[id] = p
		for _, other := range c.order {
			c.sendTo(other, &message{Reply: true}, p)
		}
	}
	if p.Member && p.Range != within {
		err := fmt.Errorf("ip-range %s: this host has subnet %s already, with ip-range %s: give the same, or remove that network first", orNone(within), id.Subnet, orNone(p.Range))
		c.out.done = append(c.out.done, func(error) { done(err) })
		return
	}
	p.Member, p.Range, p.Released = true, within, false
	p.lo, p.hi = prefix.BoundsWithin(id.Subnet, within)
	if p.bootstrapped {
		c.write(p)
		c.tell(p, message{Reply: true})
	}
	p.opening = append(p.opening, opening{c.now, done})
}

func orNone(within netip.Prefix) string {
	if !within.IsValid() {
		return "none"
	}
	return within.String()
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
	c.finishAll(p, err)
	delete(c.pools, p.id)
	c.out.pools = slices.DeleteFunc(c.out.pools, func(q *pool) bool { return q == p })
	c.out.gone = append(c.out.gone, p.id) // a claim that began anew is on disk
}

// finishAll tells all who wait for something of the pool that they wait in vain.
func (c *core) finishAll(p *pool, err error) {
	c.finishOpening(p, err)
	for _, r := range p.waiting {
		if !r.restores {
			c.finish(r.done, netip.Addr{}, err)
		}
	}
	p.waiting = nil
}

// bootstrap brings the first claim to its end: every host that is up says what it knows of the pool, and the oldest claim
// counts, or the one that is bootstrapped already.
func (c *core) bootstrap(p *pool) {
	if other := c.otherwise(p); other != nil {
		c.abandon(p, other)
		return
	}
	if c.awaited(p) != "" {
		if len(p.opening) > 0 && c.now.Sub(p.opening[0].at) > requestLimit {
			late := fmt.Errorf("subnet %s: %s: try again", p.Subnet, c.awaited(p))
			if !c.inUse(p.id) {
				c.abandon(p, late)
				return
			}
			c.finishOpening(p, late) // its containers' addresses are not forgotten
		}
		c.askAround(p)
		return
	}
	lo, hi := prefix.Bounds(p.Subnet)
	p.bootstrapped = true
	c.put(p, table{{First: lo, Last: hi, Owner: p.Owner, Version: 1}})
	for _, id := range c.order {
		c.sendTo(id, &message{Full: true}, p) // also who has no use for it: see hear
	}
}

// awaited says for whom the first claim waits; empty: for nobody.
func (c *core) awaited(p *pool) string {
	if c.unjoined() {
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
	if down := slices.DeleteFunc(slices.Sorted(maps.Keys(c.peerPools[p.id])), c.here); len(down) > 0 {
		return fmt.Sprintf("host %s, which has the pool, is down: start it, or %s here", c.names(p, down), c.reclaimAdvice(down...))
	}
	for _, id := range slices.Sorted(maps.Keys(c.suspects)) {
		if !c.up(id) {
			return fmt.Sprintf("host %s is down, and this host has forgotten whether it has the pool (its overlane.db was damaged or lost): start it or, if it is lost for good, run `overlane ipam reclaim %s` here", c.name(p, id), c.name(p, id))
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
