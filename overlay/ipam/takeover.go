package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// How long who lost an address may wait for it to be given back, before its container is told of the loss.
const takenPatience = 3 * time.Second

// takeOver makes an address this host's that belongs to one which is down, in two steps: all others agree on who owns what; and then, that
// this host owns the address and nobody has it in use. The first step is here. ALGORITHM.md says why no two hosts get it.
func (c *core) takeOver(p *pool, r *request, owner string) error {
	if why := c.minority(p, nodeOf(owner)); why != "" && !r.Ordered {
		return fmt.Errorf("address %s: belongs to host %s, which is down, and %s: choose another --ip or, if its container there does not run any more, run `overlane ipam take %s` here",
			p.addr(r.at), c.name(p, nodeOf(owner)), why, p.addr(r.at))
	}
	if r.takeFrom != owner {
		r.takeFrom, p.lost = owner, nodeOf(owner)
		c.invalidate(p)
		c.tell(p, message{Reply: true})
	}
	if c.dissenter(p) != "" || c.objector(p) != "" {
		return nil
	}
	spans := p.Table.given(r.at, r.at, p.Owner, 1)
	c.apply(p, merge(p.Table, spans))
	c.lease(p, r.at, r) // so that no other request gets it meanwhile
	c.invalidate(p)
	c.tell(p, message{Spans: spans, Reply: true})
	r.taken = true
	return nil
}

// objector is a host that does not see the host down from which an address is being taken over; empty: there is none.
func (c *core) objector(p *pool) string {
	if i := slices.IndexFunc(c.order, func(id string) bool { return p.peer(id).lost != p.lost }); i >= 0 {
		return c.order[i]
	}
	return ""
}

// minority says why this host might be the one that is cut off, and not the one that is down; empty: all others are here.
func (c *core) minority(p *pool, lost string) string {
	if len(c.order) == 0 {
		return "no third host is up to say that it is not this one that is cut off"
	}
	if other := c.down(p, []string{lost}); other != "" {
		return fmt.Sprintf("so is host %s, so that this one may be cut off", c.name(p, other))
	}
	return ""
}

// confirm is the second step: true when the address is this host's alone.
func (c *core) confirm(p *pool, r *request) (bool, error) {
	s, _ := p.Table.of(r.at)
	holder, held := p.holder(r.at)
	switch {
	case s.Owner != p.Owner: // who took it over at the same moment has it
		c.unlease(p, r.at)
		r.taken = false
		return false, nil
	case held:
		c.unlease(p, r.at)
		r.taken = false
		c.transferHeld(p, holder)
		return false, fmt.Errorf("address %s: is in use on host %s: choose another --ip, or remove the container that has it", p.addr(r.at), c.name(p, holder))
	case c.there(p, r.takeFrom): // it was cut off, and its container may run
		return false, c.giveUp(p, r)
	}
	return c.dissenter(p) == "" && (r.Ordered || c.minority(p, nodeOf(r.takeFrom)) == ""), nil
}

// giveUp ends a takeover that not all have agreed to.
func (c *core) giveUp(p *pool, r *request) error {
	c.unlease(p, r.at)
	c.transfer(p, table{{First: r.at, Last: r.at}}, r.takeFrom)
	if c.there(p, r.takeFrom) {
		return fmt.Errorf("address %s: belongs to host %s, which is back: choose another --ip", p.addr(r.at), c.name(p, nodeOf(r.takeFrom)))
	}
	return fmt.Errorf("address %s: belonged to host %s, which is down, and not all other hosts have agreed that it is this one's: try again",
		p.addr(r.at), c.name(p, nodeOf(r.takeFrom)))
}

// noteTaken notes which addresses in use here were taken from this host, and which it has back.
func (c *core) noteTaken(p *pool, before table) {
	for at, l := range p.used {
		was, _ := before.of(at)
		now, _ := p.Table.of(at)
		taken := l.Taken
		switch {
		case now.Owner == p.Owner:
			taken = time.Time{}
		case was.Owner == p.Owner && now.Epoch > was.Epoch:
			taken = c.now
		}
		if !taken.Equal(l.Taken) {
			l.Taken = taken
			p.used[at] = l
			c.out.leases = append(c.out.leases, leaseWrite{p.id, at, &l})
		}
	}
}

// taken lists the addresses in use here that another host took over and does not give back, and that host's name.
func (c *core) taken() map[netip.Addr]string {
	all := map[netip.Addr]string{}
	for _, p := range c.pools {
		for at, l := range p.used {
			if s, _ := p.Table.of(at); !l.Taken.IsZero() && c.now.Sub(l.Taken) > takenPatience {
				all[p.addr(at)] = c.name(p, nodeOf(s.Owner))
			}
		}
	}
	return all
}
