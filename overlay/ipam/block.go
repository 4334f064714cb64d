package ipam

import (
	"fmt"
	"slices"
	"time"

	"github.com/sirupsen/logrus"
)

const (
	helloPatience = 3 * time.Second // for the first word of another host after the start
	moreInterval  = 2 * time.Second // between questions for more, ahead of need
	nothing       = "it has no address to give"

	logWarn = logrus.WarnLevel
	logInfo = logrus.InfoLevel
)

// give makes another host the owner of what this host owns, and tells all. Spans may be given of what is in use by that
// host alone.
func (c *core) give(p *pool, spans table, to string) table {
	var given table
	for _, s := range spans {
		given = append(given, p.Table.given(s.First, s.Last, to, 0)...)
	}
	c.put(p, merge(p.Table, given))
	c.tell(p, message{Spans: given})
	return given
}

// newQuestion asks another host for addresses, until it answers.
func (c *core) newQuestion(p *pool, owner string, a ask) *question {
	a.ID = c.rand.Uint64()
	q := &question{ask: a, host: nodeOf(owner), first: c.now, last: c.now}
	sent := a
	c.sendTo(q.host, &message{Ask: &sent}, p)
	return q
}

func (c *core) ask(p *pool, owner string, a ask) { p.question = c.newQuestion(p, owner, a) }

// askAgain repeats what got no answer, and gives up on who is silent.
func (c *core) askAgain(p *pool) {
	questions := []*question{p.question}
	for _, r := range p.waiting {
		questions = append(questions, r.question)
	}
	for _, q := range questions {
		if q != nil && c.now.Sub(q.last) >= askRetry {
			q.last = c.now
			sent := q.ask
			c.sendTo(q.host, &message{Ask: &sent}, p)
		}
	}
	if q := p.question; q != nil && (c.now.Sub(q.first) >= askPatience || !c.up(q.host)) {
		c.refuse(p, q, "it does not answer")
	}
}

// refuse notes that a host gave nothing, for those who wait. Who was asked ahead of need may have something in need.
func (c *core) refuse(p *pool, q *question, why string) {
	if p.question == q {
		p.question = nil
		for _, r := range p.waiting {
			if q.Urgent {
				r.refused[q.host] = why
			}
		}
		return
	}
	for _, r := range p.waiting {
		if r.question == q {
			r.question = nil
			r.refused[q.host] = why
		}
	}
}

// askMore asks ahead of need whoever has much more.
func (c *core) askMore(p *pool) {
	if !p.Member || p.quiet || p.question != nil || c.now.Before(p.nextAsk) || p.free() >= lowWater {
		return
	}
	if id := nodeOf(c.richest(p, nil)); id != "" && p.peers[id] != nil && p.peers[id].free > 2*p.free()+1 {
		p.nextAsk = c.now.Add(moreInterval)
		c.ask(p, id, ask{First: p.lo, Last: p.hi})
	}
}

// answerTo is this host's answer to another's question.
func (c *core) answerTo(p *pool, from string, a *ask, theirFree uint64) {
	peer := p.peers[from]
	if peer.answered == a.ID && peer.answer != nil {
		again := *peer.answer
		c.sendTo(from, &again, p)
		return
	}
	m := c.donate(p, from, a, theirFree)
	peer.answered, peer.answer = a.ID, m
	again := *m
	c.sendTo(from, &again, p)
}

func (c *core) donate(p *pool, from string, a *ask, theirFree uint64) *message {
	peer := p.peers[from]
	refusal := func(why string) *message { return &message{Answer: &answer{ID: a.ID, Why: why}} }
	if a.First < a.Last {
		most := (p.free() - min(p.free(), theirFree)) / 2
		if a.Urgent {
			most = max(most, 1)
		}
		spare := p.spare(a.First, a.Last, most, theirFree == 0)
		if spare == nil || c.fenced(p) {
			return refusal(nothing)
		}
		return &message{Answer: &answer{ID: a.ID}, Spans: c.give(p, spare, peer.owner)}
	}
	s, _ := p.Table.of(a.First)
	_, used := p.used[a.First]
	holder, held := p.holder(a.First)
	to := peer.owner
	if a.To != "" {
		to = a.To
	}
	switch {
	case s.Owner == to || s.Owner == peer.owner:
		return &message{Answer: &answer{ID: a.ID}, Spans: table{s}}
	case used:
		return refusal("it is in use there")
	case held && holder != from:
		return refusal(fmt.Sprintf("it is in use on host %s", c.name(p, holder)))
	case s.Owner != p.Owner:
		return &message{Answer: &answer{ID: a.ID}, Spans: p.Table} // it belongs to somebody else by now
	}
	return &message{Answer: &answer{ID: a.ID}, Spans: c.give(p, table{{First: a.First, Last: a.First}}, to)}
}

// answered takes the answer to a question of this host. What was given is in the table already.
func (c *core) answered(p *pool, from string, a *answer) {
	questions := []*question{p.question}
	for _, r := range p.waiting {
		questions = append(questions, r.question)
	}
	for _, q := range questions {
		switch {
		case q == nil || q.host != from || q.ID != a.ID:
		case a.Why != "":
			c.refuse(p, q, a.Why)
		case q == p.question:
			p.question = nil
		default:
			for _, r := range p.waiting {
				if r.question == q {
					r.question = nil
				}
			}
		}
	}
}

// reclaim takes what a lost host owned. The addresses that its containers had come last.
func (c *core) reclaim(lost string) (taken uint64, err error) {
	up := lost == c.self
	for _, p := range c.sorted() {
		if p.quiet {
			return 0, fmt.Errorf("pool %s: this host has just started and has yet to hear what the lost one gave away: try again in a moment", p.id)
		}
	}
	for _, p := range c.sorted() {
		for _, owner := range p.Table.owners() {
			switch {
			case nodeOf(owner) != lost || owner == p.Owner:
			case c.there(p, owner):
				up = true
			default:
				taken += c.reclaimFrom(p, owner)
			}
		}
	}
	if up && taken == 0 {
		return 0, fmt.Errorf("host %s is up: `overlane leave` there gives back what it has", lost)
	}
	return taken, nil
}

func (c *core) reclaimFrom(p *pool, lost string) (taken uint64) {
	var all table
	for _, s := range p.Table.owned(lost, 1, maxOffset) {
		taken += s.size()
		all = append(all, p.Table.given(s.First, s.Last, p.Owner, 1)...)
	}
	if all == nil {
		return 0
	}
	until := c.now.Add(reclaimHold)
	for _, at := range c.lastUsed(p.id, nodeOf(lost)) {
		if s, ok := all.of(at); ok && s.Owner == p.Owner {
			p.cool(at, until)
		}
	}
	delete(p.Seen, nodeOf(lost))
	c.put(p, merge(p.Table, all))
	c.tell(p, message{Spans: all})
	c.notef(logInfo, "took %d addresses of %s back from host %s", taken, p.id, c.name(p, nodeOf(lost)))
	return taken
}

// watch notes who is there, and takes the blocks of a host that was lost long ago: one host of a majority does so.
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
	if !p.Member || len(partners) == 0 || 2*(c.present(p)+1) <= len(partners)+1 {
		p.majority = time.Time{}
		return
	}
	if p.majority.IsZero() {
		p.majority = c.now
	}
	if c.now.Sub(p.majority) <= fenceOthers {
		return // this host may itself have been away, while the one that it did not see was there
	}
	if first := slices.IndexFunc(partners, func(id string) bool { return c.up(id) }); first >= 0 && partners[first] < c.self {
		return // it does so
	}
	for _, owner := range p.Table.owners() {
		node := nodeOf(owner)
		if seen := p.Seen[node]; node != c.self && !c.up(node) && seen != 0 && c.now.Unix()-seen > int64(fenceOthers/time.Second) {
			c.reclaimFrom(p, owner)
		}
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

// present counts the partners that are up.
func (c *core) present(p *pool) (n int) {
	for _, id := range c.partners(p) {
		if c.up(id) {
			n++
		}
	}
	return n
}

// fenced says whether the others may have taken this host's blocks, since it has been cut off from most of them for long.
// What counts is when it last heard of half: to hear of a few that are cut off too is no help.
func (c *core) fenced(p *pool) bool {
	partners := c.partners(p)
	half := len(partners) / 2 // with which this host is half of all
	if c.present(p) >= half {
		return false
	}
	var seen []int64
	for _, id := range partners {
		if c.up(id) {
			seen = append(seen, c.now.Unix())
		} else {
			seen = append(seen, p.Seen[id])
		}
	}
	slices.Sort(seen)
	return c.now.Unix()-seen[len(seen)-half] > int64(fenceSelf/time.Second)
}
