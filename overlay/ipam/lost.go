package ipam

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/overlane/overlane/overlay/ipam/prefix"
)

// reclaim is an operator's word that hosts are lost for good. It waits until the others agree on who owns what: one of
// them may have been given something by a lost host that not all have heard of yet.
type reclaim struct {
	lost  []string
	began time.Time
	done  func(taken uint64, err error)
}

func (c *core) reclaim(lost []string, done func(uint64, error)) {
	for _, p := range c.sorted() { // also such as turn out to be affected
		c.doubt(p)
	}
	c.reclaims = append(c.reclaims, &reclaim{lost: lost, began: c.now, done: done})
}

// affected are the pools in which a lost host has something.
func (c *core) affected(lost []string) []*pool {
	return slices.DeleteFunc(c.sorted(), func(p *pool) bool {
		return !slices.ContainsFunc(p.Table.owners(), func(id string) bool { return slices.Contains(lost, nodeOf(id)) })
	})
}

// takeBack is true when a reclaim is over.
func (c *core) takeBack(r *reclaim) bool {
	var err error
	for _, p := range c.affected(r.lost) {
		err = cmp.Or(err, c.inTheWay(p, r.lost))
	}
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

// inTheWay says why nobody's blocks can be taken: every host but the lost ones is to be up and, if it has the pool, to
// agree with this one.
func (c *core) inTheWay(p *pool, lost []string) error {
	dissenter := c.dissenter(p)
	if id := c.down(p, lost); id != "" {
		return fmt.Errorf("host %s is down as well, and may have addresses of %s that nobody else knows of: bring it back, or name it too if it is lost for good", c.name(p, id), p.Key)
	}
	if dissenter != "" {
		return fmt.Errorf("host %s and this one do not agree yet on who has which addresses of %s: try again in a moment", c.name(p, dissenter), p.Key)
	}
	if first := c.heir(p, lost); nodeOf(first) != c.self && p.Table.owned(first, 1, prefix.MaxOffset) == nil {
		return fmt.Errorf("nobody is left who has addresses of %s: reclaim on host %s, which is to have them", p.Key, c.name(p, nodeOf(first)))
	}
	return nil
}

// down is a host that may have something of the pool, and is neither up nor lost; empty: there is none.
func (c *core) down(p *pool, lost []string) string {
	all := slices.Concat(c.partners(p), slices.Sorted(maps.Keys(c.absent)), slices.Sorted(maps.Keys(c.heard[p.id])))
	if i := slices.IndexFunc(all, func(id string) bool { return id != c.self && !c.up(id) && !slices.Contains(lost, id) }); i >= 0 {
		return all[i]
	}
	return ""
}

func (c *core) reclaimAll(lost []string) (taken uint64, err error) {
	alive := ""
	if slices.Contains(lost, c.self) {
		alive = c.host
	}
	for _, p := range c.affected(lost) {
		heir := c.heir(p, lost)
		for _, owner := range p.Table.owners() {
			switch {
			case !slices.Contains(lost, nodeOf(owner)) || owner == p.Owner:
			case c.there(p, owner):
				alive = c.name(p, nodeOf(owner))
			default:
				taken += c.reclaimFrom(p, owner, heir)
			}
		}
	}
	if alive != "" && taken == 0 {
		return 0, fmt.Errorf("host %s is up: `overlane leave` there gives back what it has", alive)
	}
	for _, id := range lost {
		if !c.up(id) {
			c.gone(id)
		}
	}
	return taken, nil
}

// heir is who gets what lost hosts had: the first of the owners that are left. As the hosts agree on the table, all
// that reclaim at the same time say the same. Where no owner is left it is the first host that takes part, which alone may
// reclaim then.
func (c *core) heir(p *pool, lost []string) string {
	left := slices.DeleteFunc(p.Table.owners(), func(id string) bool {
		return id != p.Owner && !c.there(p, id)
	})
	if len(left) > 0 {
		return slices.Min(left)
	}
	first := slices.IndexFunc(c.order, func(id string) bool { return c.takesPart(p, id) && !slices.Contains(lost, id) })
	if first >= 0 && (!p.Member || c.order[first] < c.self) {
		return p.peers[c.order[first]].owner
	}
	return p.Owner
}

func (c *core) reclaimFrom(p *pool, owner, heir string) (taken uint64) {
	var all table
	for _, s := range p.Table.owned(owner, 1, prefix.MaxOffset) {
		taken += s.size()
		all = append(all, p.Table.given(s.First, s.Last, heir, 1)...)
	}
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
	for _, s := range before {
		if now, _ := t.of(s.First); now.Epoch > s.Epoch && nodeOf(s.Owner) != c.self && !c.up(nodeOf(s.Owner)) {
			c.gone(nodeOf(s.Owner))
		}
	}
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
	for _, s := range p.Table.owned(p.Owner, 1, prefix.MaxOffset) {
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

// join makes one span of neighbouring ones of this host that differ by their version alone, or tables would grow for ever.
func (c *core) join(p *pool) {
	if p.quiet || c.now.Before(p.nextJoin) {
		return
	}
	p.nextJoin = c.now.Add(syncInterval)
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
		c.tell(p, message{Spans: all.owned(p.Owner, 1, prefix.MaxOffset)})
	}
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
