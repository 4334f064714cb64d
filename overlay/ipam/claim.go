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
	if p.settled {
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

// settle brings the first claim to its end: every host that is up says what it knows of the pool, and the oldest claim
// counts, or the one that is settled already.
func (c *core) settle(p *pool) {
	if other := c.otherwise(p); other != nil {
		c.abandon(p, other)
		return
	}
	if c.awaited(p) != "" {
		if len(p.opening) > 0 && c.now.Sub(p.opening[0].at) > requestLimit {
			c.abandon(p, fmt.Errorf("subnet %s: %s: try again", p.Subnet, c.awaited(p)))
			return
		}
		c.askAround(p)
		return
	}
	lo, hi := prefix.Bounds(p.Subnet)
	p.settled = true
	c.put(p, table{{First: lo, Last: hi, Owner: p.Owner, Version: 1}})
	for _, id := range c.order {
		c.sendTo(id, &message{Full: true}, p) // also who has no use for it: see hear
	}
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
	for _, id := range slices.Sorted(maps.Keys(c.heard[p.id])) {
		if !c.up(id) && id != c.self {
			return fmt.Sprintf("host %s, which has the pool, is down: start it or, if it is lost for good, run `overlane ipam reclaim %s` here", c.name(p, id), c.name(p, id))
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

// releasePool ends this host's part in a pool, once no network has it: Docker gives a pool back before it deletes the
// network, and so it does with that of a network which it failed to create beside one. Of another driver's network it gives
// the containers' addresses back before.
func (c *core) releasePool(id poolID) {
	p := c.pools[id]
	switch {
	case p == nil:
	case c.inUse(id):
		p.Released = true
		c.write(p)
	case !p.attached():
		c.closePool(id)
	}
}

// closeReleased closes the pools whose networks are gone by now.
func (c *core) closeReleased() {
	for _, p := range c.sorted() {
		if p.Member && p.Released && !c.inUse(p.id) {
			c.closePool(p.id)
		}
	}
}

// closePool ends this host's part in a pool at once. Its addresses are given to another host, when one is up.
func (c *core) closePool(id poolID) {
	p := c.pools[id]
	if p == nil {
		return
	}
	for at := range p.used {
		c.unlease(p, at)
	}
	p.Member, p.left, p.question = false, false, nil
	removed := fmt.Errorf("subnet %s: the network was removed", p.Subnet)
	if !p.settled {
		c.abandon(p, removed)
		return
	}
	c.finishAll(p, removed)
	c.write(p)
}

// passOn gives what a host owns of a pool that it no longer takes part in to one that does. Where none does, the first of
// those that know the pool asks the others for what they own. A host forgets the pool when it owns nothing and another one
// keeps it, or nobody else knows it; and when all have said so since it left, or since it asked: nobody gives it anything then.
func (c *core) passOn(p *pool) {
	if p.Member || p.quiet {
		return
	}
	if !p.left {
		p.left = true
		c.doubt(p)
	}
	if i := slices.IndexFunc(c.order, func(id string) bool { return c.mayGive(p, id) }); i >= 0 && p.own > 0 {
		c.give(p, p.Table.owned(p.Owner, 1, prefix.MaxOffset), p.peers[c.order[i]].owner)
		return
	}
	if c.dissenter(p) != "" || c.mayKnow(p) != "" || p.question != nil {
		return
	}
	known := c.knowing(p)
	kept := len(known) > 0 && known[0] < c.self || slices.ContainsFunc(known, func(id string) bool { return c.takesPart(p, id) })
	switch {
	case len(known) == 0, kept && p.own == 0:
		c.forget(p)
	case !kept && p.question == nil:
		c.gather(p, known)
	}
}

// startOver ends this host's part in a claim that has ended: it owns nothing of it, and all who did have forgotten it.
func (c *core) startOver(p *pool) {
	if !p.Member {
		c.forget(p)
		return
	}
	p.Owner = c.ownerName()
	p.Origin, p.settled = newOrigin(c.now, p.Owner), false
	p.dropQuestions()
	c.put(p, nil)
	c.doubt(p)
}

// dropQuestions is for when another claim counts from now on: what was asked and answered was about the other.
func (p *pool) dropQuestions() {
	p.question = nil
	for _, r := range p.waiting {
		r.question = nil
	}
	for _, peer := range p.peers {
		peer.answer = nil
	}
}

// ended says whether all hosts have told what they know of the claim, and nobody has anything of it any more.
func (c *core) ended(p *pool) bool {
	if !c.ownerless(p) {
		return false
	}
	c.dissenter(p) // asks who has not told yet
	return !slices.ContainsFunc(c.order, func(id string) bool {
		peer := p.peer(id)
		return !peer.told || peer.knows && peer.origin == p.Origin && peer.hash != p.hash
	})
}

// ownerless says whether nobody has anything of the pool, as far as this host knows.
func (c *core) ownerless(p *pool) bool {
	owners := p.Table.owners()
	return p.own == 0 && len(owners) > 0 && c.mayKnow(p) == "" && !slices.ContainsFunc(owners, func(id string) bool {
		peer := p.peers[nodeOf(id)]
		return c.up(nodeOf(id)) && peer != nil && peer.knows && peer.owner == id
	})
}

// gather asks the first of the known hosts that owns something for all of it.
func (c *core) gather(p *pool, known []string) {
	lo, hi := prefix.Bounds(p.Subnet)
	for _, id := range known {
		if owner := p.peers[id].owner; p.Table.owned(owner, 1, prefix.MaxOffset) != nil {
			c.doubt(p)
			c.ask(p, owner, ask{First: lo, Last: hi, Urgent: true})
			return
		}
	}
}

// dissenter is a host that is up and has not said, since it was doubted, that it does not know the pool, or has the same of it; empty:
// there is none. All of them are asked now and again.
func (c *core) dissenter(p *pool) (first string) {
	ask := !c.now.Before(p.nextAsk)
	for _, id := range c.order {
		if p.agreed(id) {
			continue
		}
		first = cmp.Or(first, id)
		if ask {
			p.nextAsk = c.now.Add(askRetry)
			c.sendTo(id, &message{Reply: true}, p)
		}
	}
	return first
}

// agreed says whether a host that is up does not know the pool, or has the same of it.
func (p *pool) agreed(id string) bool {
	peer := p.peer(id)
	return peer.told && (!peer.knows || peer.origin == p.Origin && peer.hash == p.hash)
}

// mayKnow is a host that is down and may know the pool; empty: there is none.
func (c *core) mayKnow(p *pool) string {
	all := append(c.partners(p), slices.Sorted(maps.Keys(c.heard[p.id]))...)
	for id, peer := range p.peers {
		if _, down := c.absent[id]; down && peer.knows {
			all = append(all, id)
		}
	}
	if i := slices.IndexFunc(all, func(id string) bool { return id != c.self && !c.up(id) }); i >= 0 {
		return all[i]
	}
	return ""
}

func (c *core) forget(p *pool) {
	delete(c.pools, p.id)
	c.out.gone = append(c.out.gone, p.id)
	for _, id := range c.order {
		o := p.peer(id).origin
		c.out.sends = append(c.out.sends, send{id, &message{Key: p.Key, Subnet: p.Subnet, Host: c.host, Re: &o}})
	}
	c.out.pools = slices.DeleteFunc(c.out.pools, func(q *pool) bool { return q == p })
}
