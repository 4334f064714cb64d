package discovery

import (
	"net/netip"
	"slices"
	"time"
)

// The events a node makes itself, and those of its membership.

type participateEvent struct{ network Network }

func (e participateEvent) apply(c *core) {
	key := e.network.Key
	if c.self.part(key) != nil || c.self.left {
		return
	}
	c.clock++
	c.self.enter(part{participation{e.network, c.clock}, newSet(c.self.incarnation, c.clock)})
	clear(c.audiences)
	c.announceSelf()
	c.view.open(e.network)
	c.showStatics(e.network)
	for _, o := range c.order {
		if o == c.self {
			continue
		}
		c.noteConflicts(o)
		if !c.shares(o, key) {
			continue
		}
		if o.shown {
			c.view.addVTEP(key, o.id, o.shownVTEP)
		}
		c.pull(o.id, key, o.incarnation, o.since(key), o.id)
	}
}

type withdrawEvent struct{ key string }

func (e withdrawEvent) apply(c *core) {
	if c.self.part(e.key) == nil {
		return
	}
	c.out.changes = append(c.out.changes, c.view.close(c.now, e.key)...)
	for _, o := range c.order {
		if p := o.part(e.key); p != nil {
			p.set = nil
		}
		delete(c.pulls, pullKey{o.id, e.key})
	}
	c.self.quit(e.key)
	clear(c.audiences)
	delete(c.pushed, e.key)
	delete(c.recent, e.key)
	c.clock++
	c.announceSelf()
}

type putEvent struct {
	key      string
	endpoint *Endpoint
}

func (e putEvent) apply(c *core) {
	s := c.self.set(e.key)
	if s == nil {
		c.warnf("endpoint %s is not published: this node takes no part in network %q", e.endpoint.MAC, e.key)
		return
	}
	old := s.endpoint(e.endpoint.MAC)
	if old != nil && old.equal(e.endpoint) {
		return
	}
	if old == nil && len(s.live) >= maxEndpoints {
		c.warnf("endpoint %s is not published: network %q has %d endpoints on this node already", e.endpoint.MAC, e.key, maxEndpoints)
		return
	}
	c.clock++
	s.put(e.endpoint, c.clock)
	s.made = c.now
	c.changed()
}

func (e *Endpoint) equal(o *Endpoint) bool {
	return e.ID == o.ID && e.MAC == o.MAC && e.Seq == o.Seq && slices.Equal(e.Addrs, o.Addrs)
}

type deleteEvent struct {
	key string
	mac MAC
}

func (e deleteEvent) apply(c *core) {
	s := c.self.set(e.key)
	if s == nil || s.endpoint(e.mac) == nil {
		return
	}
	c.clock++
	s.remove(e.mac, c.clock)
	s.made = c.now
	c.changed()
}

// leaveEvent withdraws everything of this node for good.
type leaveEvent struct{}

func (leaveEvent) apply(c *core) {
	if c.self.left {
		return
	}
	for _, p := range slices.Clone(c.self.parts) {
		withdrawEvent{p.Key}.apply(c)
	}
	c.self.left = true
	c.clock++
	c.announceSelf()
	c.held = false
	c.flushAt = c.now
}

// announceSelf makes the latest local version that of a new announcement.
func (c *core) announceSelf() {
	c.self.version = c.clock
	c.announcing = true
	c.changed()
}

// changed sees to it that local changes are pushed soon.
func (c *core) changed() {
	c.resum()
	if c.held {
		c.holdEnd = c.now.Add(holdQuiet)
		if c.holdEnd.After(c.holdLimit) {
			c.holdEnd = c.holdLimit
		}
		return
	}
	if c.flushAt.IsZero() {
		c.flushAt = c.now.Add(flushDelay)
	}
}

// jump takes an incarnation above one that was heard of, and says everything
// anew under it. It happens when the data directory was put back to an older
// state, or when another node runs on a copy of it: then the two would jump in
// turn, so not more than once in a while.
func (c *core) jump(heard uint64) {
	if !c.lastJump.IsZero() && c.now.Sub(c.lastJump) < jumpInterval {
		return
	}
	if heard >= maxIncarnation-1 {
		c.warnf("the cluster knows this node under incarnation %d, above which there is none: remove identity.json to start as a new node", heard)
		return
	}
	c.lastJump = c.now
	c.warnf("the cluster knows this node under incarnation %d, its own is %d: taking a higher one; "+
		"if this repeats, another node runs on a copy of this data directory", heard, c.self.incarnation)
	c.self.incarnation = heard + 1
	c.self.meta.incarnation = c.self.incarnation
	for _, p := range c.self.parts {
		p.set.incarnation = c.self.incarnation
		delete(c.pushed, p.Key)
	}
	c.out.persist = c.self.incarnation
	c.announcing = true
	c.changed()
}

// memberEvent says that memberlist holds a node for alive, or has new meta of it.
type memberEvent struct {
	id      nodeID
	meta    meta
	address netip.AddrPort
}

func (e memberEvent) apply(c *core) {
	o := c.owner(e.id)
	if o == c.self {
		return
	}
	joined := !o.member
	o.member, o.seen, o.frozen = true, true, false
	o.meta, o.address = e.meta, e.address
	clear(c.audiences)
	c.refresh(o)
	if !joined {
		return
	}
	c.up++
	c.out.met = true
	c.infof("member %s (%s) is up at %s, VTEP %s", o.meta.host, o.id, o.address, o.meta.vtep)
	c.noteConflicts(o)
	o.asked = time.Time{}
	if !c.held {
		c.packetTo(o.id).announces = []announce{c.announcement(c.self)}
	}
	c.sendDigest(o)
}

// goneEvent says that memberlist holds a node for dead or left.
type goneEvent struct{ id nodeID }

func (e goneEvent) apply(c *core) {
	o := c.owners[e.id]
	if o == nil || o == c.self || !o.member {
		return
	}
	o.member = false
	o.downSince = c.now
	c.up--
	clear(c.audiences)
	if !o.left {
		c.lose(o)
	}
	c.refresh(o)
}
