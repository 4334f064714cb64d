package ipam

import (
	"cmp"
	"maps"
	"slices"
)

// Who is to have said what before this host may take, give up or hand out something: all others, no majority is enough.

// dissenter is a host that is up and has not said, since it was invalidated, that it does not know the pool, or has the same of it; empty:
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
	return peer.synced && (!peer.knows || peer.origin == p.Origin && peer.hash == p.hash)
}

// mayKnow is a host that is down and may know the pool; empty: there is none.
func (c *core) mayKnow(p *pool) string {
	all := append(c.partners(p), slices.Sorted(maps.Keys(c.peerPools[p.id]))...)
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

// down is a host that may have something of the pool, and is neither up nor lost; empty: there is none.
func (c *core) down(p *pool, lost []string) string {
	all := slices.Concat(c.partners(p), slices.Sorted(maps.Keys(c.absent)), slices.Sorted(maps.Keys(c.peerPools[p.id])))
	if i := slices.IndexFunc(all, func(id string) bool { return id != c.self && !c.up(id) && !slices.Contains(lost, id) }); i >= 0 {
		return all[i]
	}
	return ""
}

// takesPart says whether another host that is up has a network with the pool.
func (c *core) takesPart(p *pool, id string) bool {
	peer := p.peers[id]
	return c.up(id) && peer != nil && peer.knows && peer.member && !peer.proposed && peer.origin == p.Origin
}

// partners are the other hosts that own something, in order of their IDs.
func (c *core) partners(p *pool) []string {
	owners := slices.DeleteFunc(p.Table.owners(), func(id string) bool { return nodeOf(id) == c.self })
	for i, owner := range owners {
		owners[i] = nodeOf(owner)
	}
	slices.Sort(owners)
	return slices.Compact(owners)
}

// invalidate has every other host say again what it knows of a pool.
func (c *core) invalidate(p *pool) {
	for _, peer := range p.peers {
		c.invalidatePeer(peer)
	}
}

// invalidatePeer has a host's next word count that answers what is said from here on.
func (c *core) invalidatePeer(peer *peerState) {
	peer.fresh, peer.synced, peer.invalidated = false, false, c.sent+uint64(len(c.out.sends))
}

// resynced says whether every host that is up has told what changed since this host was away. One that the pool's table
// does not name may be who has its addresses by now. Who is down can't tell, and is waited for a little alone.
func (c *core) resynced(p *pool) bool {
	if len(c.order) == 0 {
		return len(p.Names) == 0 && !c.seeded || c.now.Sub(p.began) >= helloPatience
	}
	missing := slices.ContainsFunc(slices.Collect(maps.Keys(p.Names)), func(id string) bool { return !c.up(id) }) // it may be about to come
	return len(c.unheard(p)) == 0 && (!missing || c.now.Sub(p.began) >= helloPatience)
}

// unheard are the hosts that are up and have not told yet what they know.
func (c *core) unheard(p *pool) []string {
	return slices.DeleteFunc(slices.Clone(c.order), func(id string) bool { return p.peer(id).synced })
}
