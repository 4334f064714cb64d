package ipam

import (
	"fmt"
	"slices"

	"github.com/overlane/overlane/overlay/ipam/prefix"
)

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

// dropPool ends this host's part in a pool that no network has, whoever had addresses of it.
func (c *core) dropPool(id poolID) {
	if !c.inUse(id) {
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
	p.Member, p.leaving, p.question = false, false, nil
	removed := fmt.Errorf("subnet %s: the network was removed", p.Subnet)
	if !p.bootstrapped {
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
	if p.Member || p.resyncing {
		return
	}
	if !p.leaving {
		p.leaving = true
		c.invalidate(p)
	}
	if i := slices.IndexFunc(c.order, func(id string) bool { return c.mayTransfer(p, id) }); i >= 0 && p.own > 0 {
		c.transfer(p, p.Table.owned(p.Owner, 1, prefix.MaxOffset), p.peers[c.order[i]].owner)
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
	p.Origin, p.bootstrapped = newOrigin(c.now, p.Owner), false
	p.dropQuestions()
	c.put(p, nil)
	c.invalidate(p)
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
		return !peer.synced || peer.knows && peer.origin == p.Origin && peer.hash != p.hash
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
			c.invalidate(p)
			c.ask(p, owner, ask{First: lo, Last: hi, Urgent: true})
			return
		}
	}
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

// leave closes all pools of this host, and says which.
func (c *core) leave() (closed []poolID, err error) {
	for _, p := range c.sorted() {
		for at, l := range p.used {
			if l.MAC != "" {
				return nil, fmt.Errorf("address %s of %s is in use by a container: remove this host's containers and networks first", p.addr(at), p.Key)
			}
		}
	}
	for _, p := range c.sorted() {
		if p.Member {
			closed = append(closed, p.id)
			c.closePool(p.id)
		}
	}
	return closed, nil
}

// stay takes a leave back.
func (c *core) stay(closed []poolID) {
	for _, id := range closed {
		if p := c.pools[id]; p != nil {
			p.Member = true
			c.write(p)
		}
	}
}

// owning is a pool of which this host still has something, or not all others know that it has nothing; empty: there is none.
func (c *core) owning() string {
	if left := c.sorted(); len(left) > 0 {
		return left[0].id.String()
	}
	return ""
}
