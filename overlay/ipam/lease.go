package ipam

import (
	"net/netip"
	"time"

	"github.com/overlane/overlane/overlay/ipam/prefix"
)

// lease puts an address in use.
func (c *core) lease(p *pool, at uint64, r *request) {
	l := lease{MAC: r.MAC, Name: r.Name, At: c.now}
	if !p.inUse(at) {
		p.ownUsed += p.ours(at)
	}
	p.used[at], p.changed = l, c.now
	p.endQuarantine(at)
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

// release gives an address back. One that is not in use is no error: Docker may say it twice. One that an endpoint of this host has
// stays its own: Docker deletes an endpoint before it releases the address, so that this is the end of another call that asked for it.
func (c *core) release(id poolID, addr netip.Addr) {
	p := c.pools[id]
	if p == nil {
		return
	}
	at, err := prefix.Offset(p.Subnet, addr)
	if err != nil || p.used[at].MAC != "" && c.inUse(id) && c.lives(id, addr) {
		return
	}
	c.unlease(p, at)
}

func (c *core) unlease(p *pool, at uint64) {
	if !p.inUse(at) {
		return
	}
	delete(p.used, at)
	delete(p.missing, at)
	p.changed = c.now
	if ours := p.ours(at); ours > 0 {
		p.ownUsed -= ours
		p.putInQuarantine(at, c.now.Add(releaseQuarantine))
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

// lease is an address in use on this host, as it is stored.
type lease struct {
	MAC  string    `json:"mac,omitempty"`
	Name string    `json:"name,omitempty"` // of the container
	At   time.Time `json:"at"`
	// Since when another host has the address, which took it over while this one was away; zero: none has.
	Taken time.Time `json:"taken,omitzero"`
}
