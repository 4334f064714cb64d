package ipam

import (
	"fmt"
	"time"

	"github.com/sirupsen/logrus"
)

const (
	helloPatience = 3 * time.Second // for the first word of another host after the start
	moreInterval  = 2 * time.Second // between questions for more, ahead of need
	nothing       = "it has no address to give"
	silent        = "it does not answer"

	logWarn = logrus.WarnLevel
	logInfo = logrus.InfoLevel
)

// transfer makes another host the owner of what this host owns, and tells all. Spans may be given of what is in use by that
// host alone.
func (c *core) transfer(p *pool, spans table, to string) table {
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
		c.refuse(p, q, silent)
	}
}

// refuse notes that a host gave nothing, for those who wait. Who was asked ahead of need may have something in need.
func (c *core) refuse(p *pool, q *question, why string) {
	if p.question == q {
		p.question, p.leaving = nil, false // it may be under way still
		for _, r := range p.waiting {
			r.silent[q.host] = why == silent
			if q.Urgent || why == silent {
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
	if !p.Member || p.resyncing || p.question != nil || c.now.Before(p.nextAsk) || p.freeWithin() >= lowWatermark {
		return
	}
	if id := nodeOf(c.mostFree(p, nil)); id != "" && p.peers[id] != nil && p.peers[id].free > 2*p.freeWithin()+1 {
		p.nextAsk = c.now.Add(moreInterval)
		c.ask(p, id, ask{First: p.lo, Last: p.hi, Free: p.freeWithin()})
	}
}

// answerTo is this host's answer to another's question.
func (c *core) answerTo(p *pool, from string, a *ask) {
	peer := p.peers[from]
	if peer.answered == a.ID && peer.answer != nil {
		again := *peer.answer
		c.sendTo(from, &again, p)
		return
	}
	m := c.grant(p, from, a)
	peer.answered, peer.answer = a.ID, m
	again := *m
	c.sendTo(from, &again, p)
}

func (c *core) grant(p *pool, from string, a *ask) *message {
	peer := p.peers[from]
	refusal := func(why string) *message { return &message{Answer: &answer{ID: a.ID, Why: why}} }
	if !a.Exact {
		free := p.freeFrom(a.First, a.Last)
		most := free
		if p.Member {
			most = (free - min(free, a.Free)) / 2
		}
		if a.Urgent {
			most = max(most, 1)
		}
		spare := p.spare(a.First, a.Last, most, false)
		if spare == nil && a.Free == 0 {
			spare = p.spare(a.First, a.Last, most, true)
		}
		if spare == nil {
			return refusal(nothing)
		}
		return &message{Answer: &answer{ID: a.ID}, Spans: c.transfer(p, spare, peer.owner)}
	}
	s, _ := p.Table.of(a.First)
	holder, held := p.holder(a.First)
	to := peer.owner
	if a.To != "" {
		to = a.To
	}
	switch {
	case s.Owner == to || s.Owner == peer.owner:
		return &message{Answer: &answer{ID: a.ID}, Spans: table{s}}
	case p.inUse(a.First):
		return refusal("it is in use there")
	case held && holder != from:
		return refusal(fmt.Sprintf("it is in use on host %s", c.name(p, holder)))
	case s.Owner != p.Owner:
		return &message{Answer: &answer{ID: a.ID}, Spans: p.Table} // it belongs to somebody else by now
	}
	return &message{Answer: &answer{ID: a.ID}, Spans: c.transfer(p, table{{First: a.First, Last: a.First}}, to)}
}

// answered takes the answer to a question of this host. What was given is in the table already. Who has nothing to give, but another
// table, may have been given something that it has not heard of yet: it is told, and asked anew.
func (c *core) answered(p *pool, from string, m *message) {
	a := m.Answer
	questions := []*question{p.question}
	for _, r := range p.waiting {
		questions = append(questions, r.question)
	}
	for _, q := range questions {
		switch {
		case q == nil || q.host != from || q.ID != a.ID:
		case a.Why == nothing && m.Hash != p.hash:
			q.ID, q.last, p.leaving = c.rand.Uint64(), c.now, false // a new question, put by askAgain once the tables are compared
			c.sendTo(from, &message{Full: true, Reply: true, Need: true}, p)
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
