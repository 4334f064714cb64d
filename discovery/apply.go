package discovery

import (
	"slices"
	"time"
)

// packetEvent is a message from another node.
type packetEvent struct{ packet *packet }

func (e packetEvent) apply(c *core) {
	from := c.owners[e.packet.from]
	if from == c.self {
		return // an echo, or of a twin: see meet
	}
	c.sender, c.streamed = recipient{e.packet.from, e.packet.address}, e.packet.stream
	p := c.screen(e.packet)
	if from != nil {
		from.unanswered = time.Time{}
		c.noteWay(from, p)
	}
	if p.relay != nil {
		c.handleRelay(p)
	}
	if (from == nil || !from.member && !from.left) && p.address.IsValid() {
		c.out.join = append(c.out.join, p.address)
	}
	var announced []nodeID
	for i := range p.announces {
		if c.handleAnnounce(&p.announces[i]) {
			announced = append(announced, p.announces[i].owner)
		}
	}
	for i := range p.deltas {
		c.handleDelta(&p.deltas[i], p.from)
	}
	for _, id := range announced {
		c.pullMissing(c.owners[id])
	}
	for _, w := range p.wants {
		c.handleWant(w, p.from)
	}
	if from == nil {
		return
	}
	if p.digest != nil {
		c.handleDigest(from, p.digest)
	}
	if p.versions != nil {
		c.handleVersions(from, p.versions)
	}
}

// handleAnnounce reports whether the announcement was news.
func (c *core) handleAnnounce(a *announce) bool {
	if a.owner == c.self.id {
		c.refuteNewer(a.incarnation, a.version, c.self.version)
		return false
	}
	o := c.owners[a.owner]
	if o == nil {
		if a.down >= forgetAfter || !c.roomForOwner() {
			return false
		}
		o = c.owner(a.owner)
		o.downSince = c.now.Add(-a.down)
	}
	if !o.newer(a.incarnation, a.version) {
		return false
	}
	if o.member && o.overtook(a) {
		c.pull(o.id, "", a.incarnation, a.version+1, o.id)
		return false
	}
	c.hide(o)
	clear(c.groupsCache)
	c.invalidateSums()
	same := a.incarnation == o.incarnation
	o.incarnation, o.version, o.left = a.incarnation, a.version, a.left
	o.resubscribe(a.networks, same, func(sub *subscription) bool {
		ended := sub.set.incarnation == o.incarnation && sub.set.version < sub.since
		return !ended && c.shares(o, sub.Key)
	})
	c.refresh(o)
	if o.left {
		c.infof("member %s (%s) has left", o.meta.host, o.id)
	}
	c.noteConflicts(o)
	c.pullDone(o, "")
	return true
}

// overtook says whether a set that is held, or was before a restart, is newer than
// the announcement that ends its subscription: then it belongs to the next one, whose
// announcement is still on its way.
func (o *owner) overtook(a *announce) bool {
	return a.incarnation == o.incarnation && slices.ContainsFunc(o.subscriptions, func(sub subscription) bool {
		stays := slices.ContainsFunc(a.networks, func(n announcedNetwork) bool { return n.Key == sub.Key && n.Encrypted == sub.Encrypted })
		return !stays && max(sub.since, o.have(sub.Key)) > a.version
	})
}

// handleDelta applies the delta, or asks its sender for what is missing.
func (c *core) handleDelta(d *delta, from nodeID) {
	if d.owner == c.self.id {
		c.refuteNewer(d.incarnation, d.to, c.ownVersion(d.key))
		return
	}
	o := c.owners[d.owner]
	if o == nil || d.incarnation > o.incarnation {
		c.pull(d.owner, "", d.incarnation, 1, from)
		return
	}
	if d.incarnation < o.incarnation {
		return
	}
	if !c.shares(o, d.key) {
		if o.subscription(d.key) == nil && d.to > o.version {
			c.pull(o.id, "", d.incarnation, o.version+1, from)
		}
		return
	}
	if d.encrypted != o.subscription(d.key).Encrypted { // of the owner's network with this key before this one, or after it
		if d.to > o.version {
			c.pull(o.id, "", d.incarnation, o.version+1, from)
		}
		return
	}
	have := o.have(d.key)
	fits := d.from == 0 || have != 0 && d.from <= have
	switch {
	case d.to <= have || d.to < o.since(d.key):
		return
	case fits && !c.roomForRecords(o, d):
		return
	case d.from == 0:
		c.replaceSet(o, d)
	case fits:
		c.applyDelta(o, d)
	default:
		c.pull(o.id, d.key, d.incarnation, d.to, from)
		return
	}
	c.invalidateSums()
	c.pullDone(o, d.key)
}

// replaceSet puts a full set in place of whatever was held.
func (c *core) replaceSet(o *owner, d *delta) {
	c.hideSet(o, d.key)
	s := newSet(d.incarnation, d.to)
	s.fill(d.upserts)
	o.subscription(d.key).set = s
	c.showSet(o, d.key)
}

func (c *core) applyDelta(o *owner, d *delta) {
	s := o.set(d.key)
	withdraw := func(mac MAC) {
		if e := s.endpoint(mac); e != nil && o.shown {
			c.view.removeEndpoint(d.key, o.id, o.shownVTEP, e)
		}
	}
	for _, mac := range d.deletes {
		withdraw(mac)
		s.remove(mac, d.to)
	}
	for _, e := range d.upserts {
		withdraw(e.MAC)
		s.put(e, d.to)
		if o.shown {
			c.view.addEndpoint(d.key, o.id, o.shownVTEP, e)
		}
	}
	s.version, s.made = d.to, d.made
	if !d.made.IsZero() {
		c.out.delays = append(c.out.delays, max(c.now.Sub(d.made), 0))
	}
}
