package ipam

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// reclaim is an operator's word that hosts are lost for good. It waits until the others agree on who owns what: one of
// them may have been given something by a lost host that not all have heard of yet.
type reclaim struct {
	lost  []string
	began time.Time
	done  func(taken uint64, err error)
}

func (c *core) reclaim(lost []string, done func(uint64, error)) {
	c.reclaims = append(c.reclaims, &reclaim{lost, c.now, done})
}

// takeBack is true when a reclaim is over.
func (c *core) takeBack(r *reclaim) bool {
	err := c.reclaimable(r.lost)
	if err != nil && c.now.Sub(r.began) <= requestLimit {
		return false
	}
	var taken uint64
	if err == nil {
		taken, err = c.reclaimAll(r.lost)
	}
	c.out.done = append(c.out.done, func(failed error) { r.done(taken, cmp.Or(failed, err)) })
	return true
}

// reclaimable says what is in the way: every owner but the lost ones is to be up and to agree with this host.
func (c *core) reclaimable(lost []string) error {
	for _, p := range c.sorted() {
		nodes := c.partners(p)
		if !slices.ContainsFunc(nodes, func(id string) bool { return slices.Contains(lost, id) }) {
			continue
		}
		for _, id := range nodes {
			switch peer := p.peers[id]; {
			case slices.Contains(lost, id):
			case !c.up(id):
				return fmt.Errorf("host %s is down as well, and may have addresses of %s that nobody else knows of: bring it back, or name it too if it is lost for good", c.name(p, id), p.Key)
			case peer == nil || !peer.told || peer.hash != p.hash:
				return fmt.Errorf("host %s and this one do not agree yet on who has which addresses of %s: try again in a moment", c.name(p, id), p.Key)
			}
		}
	}
	return nil
}

func (c *core) reclaimAll(lost []string) (taken uint64, err error) {
	alive := ""
	for _, p := range c.sorted() {
		for _, owner := range p.Table.owners() {
			switch {
			case !slices.Contains(lost, nodeOf(owner)) || owner == p.Owner:
			case c.there(p, owner):
				alive = c.name(p, nodeOf(owner))
			default:
				taken += c.reclaimFrom(p, owner, lost)
			}
		}
	}
	if alive == "" && slices.Contains(lost, c.self) {
		alive = c.host
	}
	if alive != "" && taken == 0 {
		return 0, fmt.Errorf("host %s is up: `overlane leave` there gives back what it has", alive)
	}
	return taken, nil
}

// reclaimFrom gives what an owner has that is no more to the first of those that remain: hosts that reclaim at the same
// time say the same.
func (c *core) reclaimFrom(p *pool, owner string, lost []string) (taken uint64) {
	heir := p.Owner
	for _, id := range p.Table.owners() {
		remains := id == p.Owner || !slices.Contains(lost, nodeOf(id)) && c.there(p, id)
		if remains && (p.own == 0 && heir == p.Owner || id < heir) {
			heir = id
		}
	}
	var all table
	for _, s := range p.Table.owned(owner, 1, maxOffset) {
		taken += s.size()
		all = append(all, p.Table.given(s.First, s.Last, heir, 1)...)
	}
	delete(p.Seen, nodeOf(owner))
	c.change(p, merge(p.Table, all))
	c.tell(p, message{Spans: all})
	c.notef(logInfo, "%d addresses of %s that host %s had are host %s's", taken, p.id, c.name(p, nodeOf(owner)), c.name(p, nodeOf(heir)))
	return taken
}

// change takes what is newly known of a pool. Of what this host gets of a lost one, the addresses that containers had come last.
func (c *core) change(p *pool, t table) {
	before := p.Table
	c.put(p, t)
	for lost, spans := range p.reclaimed(before) {
		for _, at := range c.lastUsed(p.id, nodeOf(lost)) {
			if _, ok := spans.of(at); ok {
				p.cool(at, c.now.Add(reclaimHold))
			}
		}
	}
}

// reclaimed are the addresses that this host has got since from owners that were lost, by owner.
func (p *pool) reclaimed(before table) map[string]table {
	from := map[string]table{}
	for _, s := range p.Table.owned(p.Owner, 1, maxOffset) {
		for s.First <= s.Last {
			was, known := before.of(s.First)
			if !known {
				break
			}
			if s.Epoch > was.Epoch {
				from[was.Owner] = append(from[was.Owner], span{First: s.First, Last: min(s.Last, was.Last)})
			}
			s.First = was.Last + 1
		}
	}
	return from
}

// watch notes who is there, and takes the blocks of a host that was lost long ago: one host of a majority does so, which
// has been one all the time.
func (c *core) watch(p *pool) {
	if c.now.Before(p.nextWatch) {
		return
	}
	p.nextWatch = c.now.Add(syncInterval)
	partners := c.partners(p)
	for _, id := range partners {
		if c.up(id) {
			c.seen(p, id, c.members[id])
		}
	}
	p.fenced = c.cutOff(p)
	first := slices.IndexFunc(partners, func(id string) bool { return c.up(id) })
	for _, owner := range p.Table.owners() {
		if node := nodeOf(owner); c.outvoted(p, node) && first >= 0 && partners[first] > c.self {
			c.reclaimFrom(p, owner, []string{node})
		}
	}
}

// outvoted says whether a host has been away for so long that it hands out nothing any more, as it knows that most others
// may have taken its addresses; and whether this host has been among those all the time, and would know if it was not away.
func (c *core) outvoted(p *pool, node string) bool {
	seen := p.Seen[node]
	all, present := c.quorum(p, seen, func(id string) bool { return c.up(id) })
	if node == c.self || c.up(node) || seen == 0 || !p.Member || 2*present <= all {
		delete(p.majority, node)
		return false
	}
	if p.majority[node].IsZero() {
		p.majority[node] = c.now
	}
	return c.now.Sub(p.majority[node]) > fenceOthers && c.since(seen) > fenceOthers
}

// cutOff says whether the others may have taken this host's blocks: it has not heard of most of them for long. To hear of
// a few that are cut off too is no help.
func (c *core) cutOff(p *pool) bool {
	lately := func(id string) bool { return c.up(id) || c.since(p.Seen[id]) <= fenceSelf }
	return slices.ContainsFunc(c.partners(p), func(id string) bool {
		all, present := c.quorum(p, p.Seen[id], lately)
		return !lately(id) && 2*present < all
	})
}

func (c *core) since(seconds int64) time.Duration { return c.now.Sub(time.Unix(seconds, 0)) }

// quorum counts the owners that both sides of a cut know, this host included: those that had the pool well before it, by
// whatever clock. Who came later to one side does not count on the other.
func (c *core) quorum(p *pool, cut int64, here func(id string) bool) (all, present int) {
	for _, owner := range p.Table.owners() {
		if began(owner).After(time.Unix(cut, 0).Add(-clockLimit)) {
			continue
		}
		all++
		if nodeOf(owner) == c.self || here(nodeOf(owner)) {
			present++
		}
	}
	return all, present
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

// present counts the partners that are up.
func (c *core) present(p *pool) (n int) {
	for _, id := range c.partners(p) {
		if c.up(id) {
			n++
		}
	}
	return n
}
