package ipam

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
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
	case !p.settled:
		return 0, false, nil
	case p.quiet:
		return 0, false, nil
	case r.Gateway:
		return c.gateway(p, r)
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
	if id := c.richest(p, r.refused); id != "" && c.now.After(p.poorUntil) {
		c.ask(p, id, ask{First: p.lo, Last: p.hi, Free: p.freeWithin(), Urgent: true})
		return 0, false, nil
	}
	if at, ok := p.pickReleased(c.now.Add(2 * reclaimHold)); ok {
		if !c.now.Before(p.poorUntil) {
			p.poorUntil = c.now.Add(poorTime)
		}
		c.lease(p, at, r)
		return at, true, nil
	}
	p.poorUntil = time.Time{}
	if c.richest(p, r.refused) != "" || c.now.Sub(r.began) <= requestLimit && r.forgive() {
		return 0, false, nil
	}
	return 0, false, c.full(p, r)
}

// forgive is true when there is somebody to ask anew: a host that was silent was busy, perhaps.
func (r *request) forgive() bool {
	refusals := len(r.refused)
	maps.DeleteFunc(r.refused, func(_, why string) bool { return why == silent })
	return len(r.refused) < refusals
}

// richest is the host that is up and says it has most addresses to give. One that had none when it last said so is asked
// as well: it may have got or released some since.
func (c *core) richest(p *pool, not map[string]string) string {
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

// full says who has the addresses of a subnet.
func (c *core) full(p *pool, r *request) error {
	var who []string
	var down, busy string
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
			down = c.name(p, nodeOf(id))
			who = append(who, fmt.Sprintf("host %s %d, and it is down", down, n))
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
	case down != "":
		cure = fmt.Sprintf("if %s is lost for good, `overlane ipam reclaim %s` takes back what it had", down, down)
	}
	return fmt.Errorf("%s has no free address: %s: %s", within, strings.Join(who, "; "), cure)
}

// exactly hands out the address that is asked for, once its owner gives it.
func (c *core) exactly(p *pool, r *request) (uint64, bool, error) {
	l, used := p.used[r.at]
	switch {
	case used && l.MAC == r.MAC:
		c.lease(p, r.at, r)
		return r.at, true, nil
	case used && c.stale(p, r.at, l):
		c.unlease(p, r.at) // its owner may have handed it out, where that is another host
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
		return 0, false, fmt.Errorf("address %s: is the network's %s: choose another --ip", p.addr(r.at), nobodys[s.Owner])
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
		r.at, _ = prefix.Bounds(p.Subnet)
	}
	return c.reserve(p, r, "gateway", ownerGateway)
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
		c.give(p, table{{First: r.at, Last: r.at}}, to)
	case ownerGateway, ownerReserved:
		return 0, false, fmt.Errorf("%s %s: is the network's %s: give another", what, p.addr(r.at), nobodys[s.Owner])
	default:
		return 0, false, c.askFor(p, r, s.Owner, to)
	}
	return r.at, true, nil
}

// nobodys says what an address is that no host owns.
var nobodys = map[string]string{ownerGateway: "gateway", ownerReserved: "reserved address (--aux-address)"}

func (p *pool) gateway() (uint64, bool) {
	i := slices.IndexFunc(p.Table, func(s span) bool { return s.Owner == ownerGateway })
	if i < 0 {
		return 0, false
	}
	return p.Table[i].First, true
}

// askFor asks an address's owner for it. The error is why it can't be had.
func (c *core) askFor(p *pool, r *request, owner, to string) error {
	node := nodeOf(owner)
	name := c.name(p, node)
	why := r.refused[node]
	switch {
	case !c.there(p, owner):
		return fmt.Errorf("address %s: belongs to host %s, which is down: choose another --%s, or, if the host is lost for good, run `overlane ipam reclaim %s`", p.addr(r.at), name, r.option(), name)
	case why != "" && why != silent:
		return fmt.Errorf("address %s: host %s has it: %s: choose another --%s, or remove the container that has it", p.addr(r.at), name, why, r.option())
	case r.question == nil || r.question.host != node:
		r.question = c.newQuestion(p, owner, ask{First: r.at, Last: r.at, Exact: true, To: to})
	}
	return nil
}

// late says why a request has waited for too long.
func (c *core) late(p *pool, r *request) error {
	if !p.settled {
		return fmt.Errorf("subnet %s: %s: try again", p.Subnet, c.awaited(p))
	}
	if p.quiet {
		return fmt.Errorf("subnet %s: this host was away, and has yet to hear from %s what changed meanwhile: try again", p.Subnet, c.names(p, c.unheard(p)))
	}
	if q := r.question; q != nil {
		return fmt.Errorf("address %s: belongs to host %s, which does not answer: choose another --%s, or try again", p.addr(r.at), c.name(p, q.host), r.option())
	}
	if p.question != nil {
		r.silent[p.question.host] = true
	}
	return c.full(p, r)
}

// lease puts an address in use.
func (c *core) lease(p *pool, at uint64, r *request) {
	l := lease{MAC: r.MAC, Name: r.Name, At: c.now}
	if !p.inUse(at) {
		p.ownUsed += p.ours(at)
	}
	p.used[at] = l
	p.warm(at)
	delete(p.missing, at)
	c.out.leases = append(c.out.leases, leaseWrite{p.id, at, &l})
}

// ours is 1 for an address that this host owns.
func (p *pool) ours(at uint64) uint64 {
	if s, ok := p.Table.of(at); ok && s.Owner == p.Owner {
		return 1
	}
	return 0
}

// release gives an address back. One that is not in use is no error: Docker may say it twice.
func (c *core) release(id poolID, addr netip.Addr) {
	p := c.pools[id]
	if p == nil {
		return
	}
	if at, err := prefix.Offset(p.Subnet, addr); err == nil {
		c.unlease(p, at)
	}
}

func (c *core) unlease(p *pool, at uint64) {
	if !p.inUse(at) {
		return
	}
	delete(p.used, at)
	delete(p.missing, at)
	if ours := p.ours(at); ours > 0 {
		p.ownUsed -= ours
		p.cool(at, c.now.Add(releaseHold))
	}
	c.out.leases = append(c.out.leases, leaseWrite{p.id, at, nil})
}

// stale says whether an address was given to an endpoint that is no more: its release did not get here.
func (c *core) stale(p *pool, at uint64, l lease) bool {
	return l.MAC != "" && c.now.Sub(l.At) > collectAfter && !c.lives(p.id, p.addr(at))
}

// collect gives back the addresses of endpoints that are no more.
func (c *core) collect() {
	for _, p := range c.sorted() {
		for at, l := range p.used {
			switch since, missing := p.missing[at]; {
			case l.MAC == "" || c.lives(p.id, p.addr(at)):
				delete(p.missing, at)
			case !missing:
				p.missing[at] = c.now
			case c.now.Sub(since) > collectAfter: // Docker tells of an endpoint's end before it releases the address
				c.notef(logWarn, "address %s is given back: no endpoint of this host has it", p.addr(at))
				c.unlease(p, at)
			}
		}
	}
}
