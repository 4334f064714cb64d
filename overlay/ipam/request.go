package ipam

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/overlane/overlane/overlay/ipam/prefix"
)

// request is one of Docker's that waits for its answer.
type request struct {
	Request
	at       uint64 // the address that is wanted, if exact
	exact    bool
	began    time.Time
	question *question // about the exact address
	refused  map[string]string
	silent   map[string]bool // hosts whose last question got no answer
	restores bool            // nobody waits for the answer
	takeFrom string          // the owner from which the address is being taken over
	taken    bool            // and it is this host's by now, if the others agree
	done     func(netip.Addr, error)
}

// request hands out an address, now or as soon as another host has given it.
func (c *core) request(id poolID, r Request, done func(netip.Addr, error)) {
	p := c.pools[id]
	if p == nil || !p.Member {
		c.finish(done, netip.Addr{}, fmt.Errorf("pool %s: not known to overlane on this host: remove the network and create it again", id))
		return
	}
	q := &request{Request: r, done: done}
	if r.Addr.IsValid() {
		at, err := p.usable(r.Addr)
		if err != nil {
			if q.option() != "ip" {
				err = fmt.Errorf("%s: %w", q.option(), err)
			}
			c.finish(done, netip.Addr{}, err)
			return
		}
		q.at, q.exact = at, true
	}
	c.await(p, q)
}

// option is where the user gave the address.
func (r *request) option() string {
	switch {
	case r.Gateway:
		return "gateway"
	case r.MAC == "":
		return "aux-address"
	}
	return "ip"
}

func (c *core) await(p *pool, r *request) {
	r.began, r.refused, r.silent = c.now, map[string]string{}, map[string]bool{}
	p.waiting = append(p.waiting, r)
}

// usable is the offset of an address that a host may have.
func (p *pool) usable(addr netip.Addr) (uint64, error) {
	at, err := prefix.Offset(p.Subnet, addr)
	lo, hi := prefix.Bounds(p.Subnet)
	if err == nil && (at < lo || at > hi) {
		err = fmt.Errorf("address %s: is not for hosts in subnet %s", addr, p.Subnet)
	}
	if err != nil {
		err = fmt.Errorf("%w: give one from %s to %s", err, p.addr(lo), p.addr(hi))
	}
	return at, err
}

func (c *core) finish(done func(netip.Addr, error), addr netip.Addr, err error) {
	c.out.done = append(c.out.done, func(failed error) { done(addr, cmp.Or(failed, err)) })
}

// try is true when the request has its answer.
func (c *core) try(p *pool, r *request) bool {
	at, ready, err := c.answer(p, r)
	if !ready && err == nil && c.now.Sub(r.began) > requestLimit {
		err = c.late(p, r)
	}
	if !ready && err == nil {
		return false
	}
	if r.Ordered && err == nil {
		c.unlease(p, at)
	}
	if r.restores {
		if err != nil {
			c.notef(logWarn, "pool %s, of which another claim counts than this host's: %v", p.id, err)
		}
		return true
	}
	c.finish(r.done, p.addr(at), err)
	return true
}

func (c *core) answer(p *pool, r *request) (at uint64, ready bool, err error) {
	switch {
	case !p.bootstrapped:
		return 0, false, nil
	case p.resyncing:
		return 0, false, nil
	case r.Gateway:
		return c.gateway(p, r)
	case r.Ordered:
		return c.exactly(p, r)
	case r.exact && r.MAC == "" && p.inUse(r.at):
		return r.at, true, nil // Docker tells, at its start, which addresses its containers have
	case r.exact && r.MAC == "":
		return c.reserve(p, r, "aux-address", ownerReserved)
	case r.exact:
		return c.exactly(p, r)
	}
	return c.anyOf(p, r)
}

// anyOf hands out any address of this host's range.
func (c *core) anyOf(p *pool, r *request) (uint64, bool, error) {
	if at, ok := p.pick(c.now); ok {
		p.cursor = at
		c.lease(p, at, r)
		return at, true, nil
	}
	if p.question != nil {
		return 0, false, nil
	}
	if id := c.mostFree(p, r.refused); id != "" && c.now.After(p.exhaustedUntil) {
		c.ask(p, id, ask{First: p.lo, Last: p.hi, Free: p.freeWithin(), Urgent: true})
		return 0, false, nil
	}
	if at, ok := p.pickReleased(c.now.Add(2 * reclaimQuarantine)); ok {
		if !c.now.Before(p.exhaustedUntil) {
			p.exhaustedUntil = c.now.Add(exhaustedTime)
		}
		c.lease(p, at, r)
		return at, true, nil
	}
	p.exhaustedUntil = time.Time{}
	if c.mostFree(p, r.refused) != "" || c.now.Sub(r.began) <= requestLimit && r.retrySilent() {
		return 0, false, nil
	}
	return 0, false, c.full(p, r)
}

// retrySilent is true when there is somebody to ask anew: a host that was silent was busy, perhaps.
func (r *request) retrySilent() bool {
	refusals := len(r.refused)
	maps.DeleteFunc(r.refused, func(_, why string) bool { return why == silent })
	return len(r.refused) < refusals
}

// mostFree is the host that is up and says it has most addresses to give. One that had none when it last said so is asked
// as well: it may have got or released some since.
func (c *core) mostFree(p *pool, not map[string]string) string {
	best, most := "", uint64(0)
	for _, id := range p.Table.owners() {
		if _, refused := not[nodeOf(id)]; refused || id == p.Owner || !c.there(p, id) || p.Table.owned(id, p.lo, p.hi) == nil {
			continue
		}
		free := uint64(1)
		if peer := p.peers[nodeOf(id)]; peer != nil && peer.knows {
			free = peer.free
		}
		if best == "" || free > most {
			best, most = id, free
		}
	}
	return best
}

// exactly hands out the address that is asked for, once its owner gives it.
func (c *core) exactly(p *pool, r *request) (uint64, bool, error) {
	if r.taken {
		confirmed, err := c.confirm(p, r)
		return r.at, confirmed, err
	}
	l, used := p.used[r.at]
	switch {
	case used && l.MAC == r.MAC && l.Taken.IsZero() && !r.Ordered:
		c.lease(p, r.at, r)
		return r.at, true, nil
	case used && l.MAC == r.MAC && !r.Ordered: // it was taken over: who has it may give it back
	case used && c.stale(p, r.at, l):
		c.unlease(p, r.at) // its owner may have handed it out, where that is another host
	case used && !l.Taken.IsZero():
		s, _ := p.Table.of(r.at)
		return 0, false, fmt.Errorf("address %s: host %s took it over while this host was away: choose another --ip, or remove the container that has it there", p.addr(r.at), c.name(p, nodeOf(s.Owner)))
	case used:
		return 0, false, fmt.Errorf("address %s: is in use on this host: choose another --ip, or remove the container that has it", p.addr(r.at))
	}
	if id, held := p.holder(r.at); held {
		return 0, false, fmt.Errorf("address %s: is in use on host %s: choose another --ip, or remove the container that has it", p.addr(r.at), c.name(p, id))
	}
	s, _ := p.Table.of(r.at)
	if s.Owner == p.Owner {
		c.lease(p, r.at, r)
		return r.at, true, nil
	}
	if !isHost(s.Owner) {
		return 0, false, fmt.Errorf("address %s: is the network's %s: choose another --ip", p.addr(r.at), reservedFor[s.Owner])
	}
	if !c.here(nodeOf(s.Owner)) {
		return 0, false, c.takeOver(p, r, s.Owner)
	}
	return 0, false, c.askFor(p, r, s.Owner, "")
}

// gateway makes sure that the network has the gateway that is asked for, and no other.
func (c *core) gateway(p *pool, r *request) (uint64, bool, error) {
	if at, ok := p.gateway(); ok {
		if s, _ := p.Table.of(r.at); r.exact && s.Owner != ownerGateway {
			return 0, false, fmt.Errorf("gateway %s: the network has gateway %s on its other hosts: give --gateway %s, or none", r.Addr, p.addr(at), p.addr(at))
		}
		return at, true, nil
	}
	if !r.exact {
		lo, hi := prefix.Bounds(p.Subnet)
		for r.at = max(r.at, lo); c.unfit(p, r); r.at++ {
			if r.at == hi {
				return 0, false, c.full(p, r)
			}
		}
	}
	return c.reserve(p, r, "gateway", ownerGateway)
}

// unfit says whether somebody has the address that might be the gateway: engines from 28 on made networks without one for older daemons,
// whose containers have addresses from the first on. An owner that has refused it may have the next.
func (c *core) unfit(p *pool, r *request) bool {
	s, _ := p.Table.of(r.at)
	_, held := p.holder(r.at)
	if p.inUse(r.at) || held || s.Owner == ownerReserved {
		return true
	}
	node := nodeOf(s.Owner)
	if why := r.refused[node]; why == "" || why == silent {
		return false
	}
	delete(r.refused, node)
	return true
}

// reserve makes an address nobody's, on all hosts.
func (c *core) reserve(p *pool, r *request, what, to string) (uint64, bool, error) {
	if p.inUse(r.at) {
		return 0, false, fmt.Errorf("%s %s: a container on this host has the address: give another", what, p.addr(r.at))
	}
	if id, held := p.holder(r.at); held {
		return 0, false, fmt.Errorf("%s %s: a container on host %s has the address: give another", what, p.addr(r.at), c.name(p, id))
	}
	s, _ := p.Table.of(r.at)
	switch s.Owner {
	case to:
	case p.Owner:
		c.transfer(p, table{{First: r.at, Last: r.at}}, to)
	case ownerGateway, ownerReserved:
		return 0, false, fmt.Errorf("%s %s: is the network's %s: give another", what, p.addr(r.at), reservedFor[s.Owner])
	default:
		return 0, false, c.askFor(p, r, s.Owner, to)
	}
	return r.at, true, nil
}

// reservedFor says what an address is that no host owns.
var reservedFor = map[string]string{ownerGateway: "gateway", ownerReserved: "reserved address (--aux-address)"}

func (p *pool) gateway() (uint64, bool) {
	i := slices.IndexFunc(p.Table, func(s span) bool { return s.Owner == ownerGateway })
	if i < 0 {
		return 0, false
	}
	return p.Table[i].First, true
}
