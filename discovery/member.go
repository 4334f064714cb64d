package discovery

import (
	"net/netip"
	"time"
)

// What memberlist tells of the others.

// memberUpEvent says that memberlist holds a node for alive, or has new meta of it.
type memberUpEvent struct {
	id      nodeID
	meta    meta
	address netip.AddrPort
}

func (e memberUpEvent) apply(c *core) {
	o := c.owner(e.id)
	if o == c.self {
		return
	}
	joined := !o.member
	o.member, o.seen, o.frozen, o.stray = true, true, false, false
	o.meta, o.address = e.meta, e.address
	if o.incarnation > o.meta.incarnation+maxLead {
		c.disown(o)
	}
	clear(c.groupsCache)
	c.refresh(o)
	if !joined {
		return
	}
	c.up++
	c.out.memberUp = true
	c.infof("member %s (%s) is up at %s, VTEP %s", o.meta.host, o.id, o.address, o.meta.vtep)
	c.noteConflicts(o)
	o.unanswered, o.asked, o.deaf = time.Time{}, time.Time{}, false
	if !c.deferring {
		c.packetTo(o.id).announces = []announce{c.announcement(c.self)}
	}
	c.sendDigest(o)
}

// memberDownEvent says that memberlist holds a node for dead or left.
type memberDownEvent struct{ id nodeID }

func (e memberDownEvent) apply(c *core) {
	o := c.owners[e.id]
	if o == nil || o == c.self || !o.member {
		return
	}
	o.member, o.stray = false, false
	o.downSince = c.now
	c.up--
	clear(c.groupsCache)
	if !o.left {
		c.noteFailure(o)
	}
	c.refresh(o)
}
