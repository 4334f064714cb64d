package ipam

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/overlane/overlane/overlay/ipam/prefix"
)

// reclaim is an operator's word that hosts are lost for good. It waits until the others agree on who owns what: one of
// them may have been given something by a lost host that not all have heard of yet.
type reclaim struct {
	lost  []string
	heard []string // of them since: they may hand out what they have before they hear of the reclaim
	began time.Time
	done  func(taken uint64, err error)
}

func (c *core) reclaim(lost []string, done func(uint64, error)) {
	for _, p := range c.sorted() { // also such as turn out to be affected
		c.invalidate(p)
	}
	c.reclaims = append(c.reclaims, &reclaim{lost: lost, began: c.now, done: done})
}

// heardWhileReclaimed notes that a host which was named as lost is there.
func (c *core) heardWhileReclaimed(id string) {
	for _, r := range c.reclaims {
		if slices.Contains(r.lost, id) {
			r.heard = append(r.heard, id)
		}
	}
}

// affected are the pools in which a lost host has something.
func (c *core) affected(lost []string) []*pool {
	return slices.DeleteFunc(c.sorted(), func(p *pool) bool {
		return !slices.ContainsFunc(p.Table.owners(), func(id string) bool { return slices.Contains(lost, nodeOf(id)) })
	})
}

// advanceReclaim is true when a reclaim is over.
func (c *core) advanceReclaim(r *reclaim) bool {
	var err error
	for _, p := range c.affected(r.lost) {
		err = cmp.Or(err, c.blocker(p, r.lost))
	}
	if err != nil && c.now.Sub(r.began) <= requestLimit {
		return false
	}
	var taken uint64
	if err == nil {
		taken, err = c.reclaimAll(r.lost, r.heard)
	}
	c.out.done = append(c.out.done, func(failed error) { r.done(taken, cmp.Or(failed, err)) })
	return true
}

// blocker says why nobody's blocks can be taken: every host but the lost ones is to be up and, if it has the pool, to
// agree with this one.
func (c *core) blocker(p *pool, lost []string) error {
	dissenter := c.dissenter(p)
	if id := c.down(p, lost); id != "" {
		return fmt.Errorf("host %s is down as well, and may have addresses of %s that nobody else knows of: bring it back, or %s", c.name(p, id), p.Key, c.reclaimAdvice(lost...))
	}
	if dissenter != "" {
		return fmt.Errorf("host %s and this one do not agree yet on who has which addresses of %s: try again in a moment", c.name(p, dissenter), p.Key)
	}
	if first := c.successor(p, lost); nodeOf(first) != c.self && p.Table.owned(first, 1, prefix.MaxOffset) == nil {
		return fmt.Errorf("nobody is left who has addresses of %s: reclaim on host %s, which is to have them", p.Key, c.name(p, nodeOf(first)))
	}
	return nil
}

func (c *core) reclaimAll(lost, heard []string) (taken uint64, err error) {
	alive := ""
	if slices.Contains(lost, c.self) {
		alive = c.host
	}
	for _, p := range c.affected(lost) {
		successor := c.successor(p, lost)
		for _, owner := range p.Table.owners() {
			switch {
			case !slices.Contains(lost, nodeOf(owner)) || owner == p.Owner:
			case c.there(p, owner), slices.Contains(heard, nodeOf(owner)) && p.peer(nodeOf(owner)).owner == owner:
				alive = c.name(p, nodeOf(owner))
			default:
				taken += c.reclaimFrom(p, owner, successor)
			}
		}
	}
	if alive != "" && taken == 0 {
		return 0, fmt.Errorf("host %s is up: `overlane leave` there gives back what it has", alive)
	}
	for _, id := range lost {
		if !c.up(id) && !slices.Contains(heard, id) {
			c.gone(id)
		}
	}
	return taken, nil
}

// successor is who gets what lost hosts had: the first of the owners that are left. As the hosts agree on the table, all
// that reclaim at the same time say the same. Where no owner is left it is the first host that takes part, which alone may
// reclaim then.
func (c *core) successor(p *pool, lost []string) string {
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

func (c *core) reclaimFrom(p *pool, owner, successor string) (taken uint64) {
	var all table
	for _, s := range p.Table.owned(owner, 1, prefix.MaxOffset) {
		taken += s.size()
		all = append(all, p.Table.given(s.First, s.Last, successor, 1)...)
	}
	c.apply(p, merge(p.Table, all))
	c.tell(p, message{Spans: all})
	c.notef(logInfo, "%d addresses of %s that host %s had are host %s's", taken, p.id, c.name(p, nodeOf(owner)), c.name(p, nodeOf(successor)))
	return taken
}
