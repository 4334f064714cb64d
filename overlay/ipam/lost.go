package ipam

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// reclaim is an operator's word that hosts are lost for good. It waits until the others agree on who owns what: one of
// them may have been given something by a lost host that not all have heard of yet.
type reclaim struct {
	lost  []string
	began time.Time
	asked time.Time
	done  func(taken uint64, err error)
}

func (c *core) reclaim(lost []string, done func(uint64, error)) {
	for _, p := range c.sorted() {
		c.doubt(p)
	}
	c.reclaims = append(c.reclaims, &reclaim{lost: lost, began: c.now, done: done})
}

// takeBack is true when a reclaim is over.
func (c *core) takeBack(r *reclaim) bool {
	err := c.reclaimable(r)
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

// reclaimable says what is in the way in any of the pools that a lost host has.
func (c *core) reclaimable(r *reclaim) (err error) {
	ask := c.now.Sub(r.asked) >= askRetry
	if ask {
		r.asked = c.now
	}
	for _, p := range c.sorted() {
		if slices.ContainsFunc(c.partners(p), func(id string) bool { return slices.Contains(r.lost, id) }) {
			err = cmp.Or(c.inTheWay(p, r.lost, ask), err)
		}
	}
	return err
}

// inTheWay says why nobody's blocks can be taken: every host but the lost ones is to be up and, if it has the pool, to
// agree with this one. Whoever does not may be asked.
func (c *core) inTheWay(p *pool, lost []string, ask bool) (err error) {
	for _, id := range c.order {
		if p.agreed(id) {
			continue
		}
		err = fmt.Errorf("host %s and this one do not agree yet on who has which addresses of %s: try again in a moment", c.name(p, id), p.Key)
		if ask {
			c.sendTo(id, &message{Reply: true}, p)
		}
	}
	if id := c.down(p, lost); id != "" {
		err = fmt.Errorf("host %s is down as well, and may have addresses of %s that nobody else knows of: bring it back, or name it too if it is lost for good", c.name(p, id), p.Key)
	}
	return err
}

// down is a host that may have something of the pool, and is neither up nor lost; empty: there is none.
func (c *core) down(p *pool, lost []string) string {
	all := append(c.partners(p), slices.Sorted(maps.Keys(c.absent))...)
	if i := slices.IndexFunc(all, func(id string) bool { return !c.up(id) && !slices.Contains(lost, id) }); i >= 0 {
		return all[i]
	}
	return ""
}

// agreed says whether a host that is up does not have the pool, or the same of it.
func (p *pool) agreed(id string) bool {
	peer := p.peers[id]
	return peer != nil && peer.told && (!peer.knows || peer.hash == p.hash)
}

func (c *core) reclaimAll(lost []string) (taken uint64, err error) {
	alive := ""
	if slices.Contains(lost, c.self) {
		alive = c.host
	}
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
	if alive != "" && taken == 0 {
		return 0, fmt.Errorf("host %s is up: `overlane leave` there gives back what it has", alive)
	}
	for _, id := range lost {
		c.unhear(id)
	}
	return taken, nil
}

// reclaimFrom gives what an owner has that is no more to the first of the hosts that have the pool: those that reclaim
// at the same time say the same.
func (c *core) reclaimFrom(p *pool, owner string, lost []string) (taken uint64) {
	heir := p.Owner
	first := slices.IndexFunc(c.order, func(id string) bool { return c.takesPart(p, id) && !slices.Contains(lost, id) })
	if first >= 0 && (!p.Member || slices.Contains(lost, c.self) || c.order[first] < c.self) {
		heir = p.peers[c.order[first]].owner
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

// takesPart says whether another host that is up has a network with the pool.
func (c *core) takesPart(p *pool, id string) bool {
	peer := p.peers[id]
	return c.up(id) && peer != nil && peer.knows && peer.member && !peer.proposed && peer.origin == p.Origin
}

// change takes what is newly known of a pool. Of what this host gets of a lost one, the addresses that containers had come last.
func (c *core) change(p *pool, t table) {
	before := p.Table
	c.put(p, t)
	for lost, spans := range p.reclaimed(before) {
		for _, at := range c.lastUsed(p.id, nodeOf(lost)) {
			if _, ok := spans.of(at); ok && !p.inUse(at) {
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

// watch takes the blocks of a host that was lost long ago: one host of a majority does so, which has been one all the time.
// It notes whether this host may itself be the lost one.
func (c *core) watch(p *pool) {
	if c.now.Before(p.nextWatch) {
		return
	}
	p.nextWatch = c.now.Add(syncInterval)
	owners := p.Table.owners()
	maps.DeleteFunc(p.majority, func(id string, _ time.Time) bool { return c.up(id) })
	p.fenced = false
	for _, owner := range owners {
		node := nodeOf(owner)
		if node == c.self || c.up(node) {
			continue
		}
		if p.Seen[node] == 0 {
			p.Seen[node] = -c.now.Unix() // it went before this host came
			c.write(p)
		}
		p.fenced = p.fenced || c.cutOff(p, owners, node)
		if c.outvoted(p, owners, node) && c.firstUp(p, owners, p.Seen[node]) {
			c.reclaimFrom(p, owner, []string{node})
		}
	}
	c.takeFormer(p)
	c.join(p)
}

// former are owners whose hosts began anew, and are about to lose what is left under the old name.
type former struct {
	owners []string
	since  time.Time
}

// takeFormer takes what a host was given when it had just forgotten the pool. The first of those that have it does so, when
// all have said anew what they know: that one does not know the pool may be old news.
func (c *core) takeFormer(p *pool) {
	gone := slices.DeleteFunc(p.Table.owners(), func(id string) bool { return !c.renamed(p, id) })
	known := c.knowing(p)
	if p.former == nil && len(gone) == 0 {
		return // once doubted, a host counts as there until it has told
	}
	if p.quiet || len(known) > 0 && known[0] < c.self || c.down(p, nil) != "" || p.former != nil && c.now.Sub(p.former.since) > requestLimit {
		p.former = nil
		return
	}
	if p.former == nil && !c.now.Before(p.nextTake) {
		p.former, p.nextTake = &former{gone, c.now}, c.now.Add(formerRetry)
		c.doubt(p)
	}
	if p.former == nil || !c.toldByAll(p) {
		return
	}
	for _, owner := range gone {
		if slices.Contains(p.former.owners, owner) {
			c.reclaimFrom(p, owner, []string{nodeOf(owner)})
		}
	}
	p.former = nil
}

// toldByAll says whether every host that is up has told what it knows since it was doubted, and asks those that have not.
func (c *core) toldByAll(p *pool) bool {
	all := true
	for _, id := range c.order {
		if !p.peer(id).told {
			all = false
			c.sendTo(id, &message{Reply: true}, p)
		}
	}
	return all
}

// renamed says whether an owner is no more though its host is up.
func (c *core) renamed(p *pool, owner string) bool {
	if nodeOf(owner) == c.self {
		return owner != p.Owner
	}
	return c.up(nodeOf(owner)) && !c.there(p, owner)
}

// firstUp says whether this host is the first owner of those that are up and were there well before a cut.
func (c *core) firstUp(p *pool, owners []string, cut int64) bool {
	return longBefore(p.Owner, cut) && !slices.ContainsFunc(owners, func(id string) bool { return c.up(nodeOf(id)) && nodeOf(id) < c.self && longBefore(id, cut) })
}

// longBefore says whether an owner began well before a cut, by whatever clock.
func longBefore(owner string, cut int64) bool {
	return !began(owner).After(time.Unix(cut, 0).Add(-clockLimit))
}

// join makes one span of neighbouring ones of this host that differ by their version alone, or tables would grow for ever.
func (c *core) join(p *pool) {
	if p.quiet {
		return
	}
	var all table
	for _, s := range p.Table {
		if n := len(all); n > 0 && s.Owner == p.Owner {
			last := &all[n-1]
			if last.Owner == s.Owner && last.Epoch == s.Epoch && last.Last+1 == s.First {
				last.Last, last.Version = s.Last, max(last.Version, s.Version)
				continue
			}
		}
		all = append(all, s)
	}
	if len(all) < len(p.Table) {
		c.put(p, all)
		c.tell(p, message{Spans: all.owned(p.Owner, 1, maxOffset)})
	}
}

// outvoted says whether an absent host has been away for so long that it hands out nothing any more, as it knows that most
// others may have taken its addresses; and whether this host has been among those all the time, and would know if it was not away.
func (c *core) outvoted(p *pool, owners []string, node string) bool {
	seen := p.Seen[node]
	all, present := c.quorum(owners, seen, c.up)
	if !p.Member || seen < 0 || 2*present <= all {
		delete(p.majority, node)
		return false
	}
	if p.majority[node].IsZero() {
		p.majority[node] = c.now
	}
	return c.now.Sub(p.majority[node]) > fenceOthers && c.since(seen) > fenceOthers
}

// cutOff says whether the others may have taken this host's blocks: it has not heard of an absent one for long, nor of most
// that knew both. To hear of a few that are cut off too is no help.
func (c *core) cutOff(p *pool, owners []string, absent string) bool {
	lately := func(id string) bool {
		since := c.since(p.missedSince(id))
		return c.up(id) || since <= fenceSelf && since > -clockLimit // not by a clock that was set back
	}
	all, present := c.quorum(owners, p.missedSince(absent), lately)
	return !lately(absent) && 2*present < all
}

// missedSince is when this host saw another last, or came after it had gone: in seconds since 1970.
func (p *pool) missedSince(id string) int64 { return max(p.Seen[id], -p.Seen[id]) }

func (c *core) since(seconds int64) time.Duration { return c.now.Sub(time.Unix(seconds, 0)) }

// quorum counts the owners that both sides of a cut know, this host included: those that had the pool well before it. Who
// came later to one side does not count on the other.
func (c *core) quorum(owners []string, cut int64, here func(id string) bool) (all, present int) {
	for _, owner := range owners {
		if !longBefore(owner, cut) {
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
