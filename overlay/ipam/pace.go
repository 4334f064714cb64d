package ipam

import (
	"maps"
	"slices"
	"time"
)

// While nothing changes, hosts look at the clock, and compare what they know, less often: an idle daemon does little else.
const (
	idleTick     = time.Second      // between looks at the clock
	restInterval = 5 * time.Second  // between exchanges of a pool's state with another host
	restAfter    = 10 * time.Second // without a change; until then ten random hosts have heard of the last one
)

// pace is how often the clock, and who is up, are to be looked at.
func (c *core) pace() time.Duration {
	if len(c.searches) > 0 || len(c.reclaims) > 0 {
		return tick
	}
	for _, p := range c.pools {
		if !c.atRest(p) {
			return tick
		}
	}
	return idleTick
}

// atRest says whether nothing has changed in a pool lately, and nothing is waited for: all others that are up were last
// heard to have the same table, or not the pool.
func (c *core) atRest(p *pool) bool {
	if c.now.Sub(p.changed) < restAfter || !p.bootstrapped || p.resyncing || !p.Member || p.question != nil || len(p.waiting) > 0 {
		return false
	}
	return !slices.ContainsFunc(c.order, func(id string) bool {
		peer := p.peers[id]
		return peer == nil || !peer.fresh || peer.knows && peer.hash != p.hash
	})
}

// sameAs says whether another host tells of itself what it told before. Neither what it has free nor what it holds is in
// the hash of the table.
func (s *peerState) sameAs(m *message, held map[uint64]bool) bool {
	return s.owner == m.Owner && s.member == m.Member && s.knows == (m.Origin != nil) && s.free == m.Free && s.hash == m.Hash && maps.Equal(s.held, held)
}
