package ipam

import (
	"cmp"
	"fmt"
	"strings"
)

// full says who has the addresses of a subnet.
func (c *core) full(p *pool, r *request) error {
	var who, down []string
	var busy string
	for _, id := range p.Table.owners() {
		var n uint64
		for _, s := range p.Table.owned(id, p.lo, p.hi) {
			n += s.size()
		}
		switch {
		case n == 0:
		case id == p.Owner:
			who = append(who, fmt.Sprintf("this host %d, all in use", n))
		case !c.there(p, id):
			down = append(down, nodeOf(id))
			who = append(who, fmt.Sprintf("host %s %d, and it %s", c.name(p, nodeOf(id)), n, c.whyAway(nodeOf(id))))
		case r.silent[nodeOf(id)]:
			busy = c.name(p, nodeOf(id))
			who = append(who, fmt.Sprintf("host %s %d, and it does not answer", busy, n))
		default:
			who = append(who, fmt.Sprintf("host %s %d, all in use", c.name(p, nodeOf(id)), n))
		}
	}
	within := fmt.Sprintf("subnet %s", p.Subnet)
	if p.Range.IsValid() {
		within = fmt.Sprintf("ip-range %s of subnet %s", p.Range, p.Subnet)
	}
	cure := "remove containers, or use a network with a larger subnet"
	switch {
	case busy != "":
		cure = fmt.Sprintf("try again, or see `overlane status members` on %s", busy)
	case down != nil:
		cure = c.reclaimAdvice(down...)
	}
	return fmt.Errorf("%s has no free address: %s: %s", within, strings.Join(who, "; "), cure)
}

// whyAway says why an owner is not there: the host is down, or has forgotten the pool since and begun anew under another name.
func (c *core) whyAway(node string) string {
	if c.here(node) {
		return "has forgotten that since"
	}
	return "is down"
}

// askFor asks an address's owner for it. The error is why it can't be had.
func (c *core) askFor(p *pool, r *request, owner, to string) error {
	node := nodeOf(owner)
	name := c.name(p, node)
	why := r.refused[node]
	switch {
	case !c.there(p, owner):
		return fmt.Errorf("address %s: belongs to host %s, which %s: choose another --%s, or %s", p.addr(r.at), name, c.whyAway(node), r.option(), c.reclaimAdvice(node))
	case why != "" && why != silent:
		return fmt.Errorf("address %s: host %s has it: %s: choose another --%s, or remove the container that has it", p.addr(r.at), name, why, r.option())
	case r.question == nil || r.question.host != node:
		r.question = c.newQuestion(p, owner, ask{First: r.at, Last: r.at, Exact: true, To: to})
	}
	return nil
}

// late says why a request has waited for too long.
func (c *core) late(p *pool, r *request) error {
	if !p.bootstrapped {
		return fmt.Errorf("subnet %s: %s: try again", p.Subnet, c.awaited(p))
	}
	if p.resyncing {
		return fmt.Errorf("subnet %s: this host was away, and has yet to hear from %s what changed meanwhile: try again", p.Subnet, c.names(p, c.unheard(p)))
	}
	if r.taken {
		return c.giveUp(p, r)
	}
	if r.takeFrom != "" {
		return fmt.Errorf("address %s: belongs to host %s, which is down, and host %s, which has to confirm that, does not: choose another --ip, or try again",
			p.addr(r.at), c.name(p, nodeOf(r.takeFrom)), c.name(p, cmp.Or(c.dissenter(p), c.objector(p))))
	}
	if q := r.question; q != nil {
		return fmt.Errorf("address %s: belongs to host %s, which does not answer: choose another --%s, or try again", p.addr(r.at), c.name(p, q.host), r.option())
	}
	if p.question != nil {
		r.silent[p.question.host] = true
	}
	return c.full(p, r)
}
