package discovery

import (
	"slices"
)

// What this node does of itself.

type subscribeEvent struct{ network Network }

func (e subscribeEvent) apply(c *core) {
	key := e.network.Key
	if c.self.subscription(key) != nil || c.self.left {
		return
	}
	c.clock++
	c.self.subscribe(subscription{announcedNetwork{e.network, c.clock}, newSet(c.self.incarnation, c.clock)})
	clear(c.groupsCache)
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

type unsubscribeEvent struct{ key string }

func (e unsubscribeEvent) apply(c *core) {
	if c.self.subscription(e.key) == nil {
		return
	}
	c.out.changes = append(c.out.changes, c.view.close(c.now, e.key)...)
	for _, o := range c.order {
		if sub := o.subscription(e.key); sub != nil {
			sub.set = nil
		}
		delete(c.pulls, pullKey{o.id, e.key})
	}
	c.self.unsubscribe(e.key)
	clear(c.groupsCache)
	delete(c.pushed, e.key)
	delete(c.beaconsLeft, e.key)
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
		c.warnf("endpoint %s is not published: this node does not subscribe to network %q", e.endpoint.MAC, e.key)
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
	return e.ID == o.ID && e.MAC == o.MAC && e.Seq == o.Seq && slices.Equal(e.Addrs, o.Addrs) && slices.Equal(e.Extras, o.Extras) && e.Names == o.Names
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
	for _, sub := range slices.Clone(c.self.subscriptions) {
		unsubscribeEvent{sub.Key}.apply(c)
	}
	c.self.left = true
	c.clock++
	c.announceSelf()
	c.deferring = false
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
	c.invalidateSums()
	if c.deferring {
		c.deferEnd = c.now.Add(deferQuiet)
		if c.deferEnd.After(c.deferLimit) {
			c.deferEnd = c.deferLimit
		}
		return
	}
	if c.flushAt.IsZero() {
		c.flushAt = c.now.Add(flushDelay)
	}
}

// keysEvent says that this node's keys have changed.
type keysEvent struct{ keys keys }

func (e keysEvent) apply(c *core) { c.self.meta.keys = e.keys }

// mtuEvent says that this node receives packets of another length.
type mtuEvent struct{ mtu uint32 }

func (e mtuEvent) apply(c *core) { c.self.meta.mtu = e.mtu }

// clusterEvent says that this node belongs to another cluster than before.
type clusterEvent struct{ claim claim }

func (e clusterEvent) apply(c *core) { c.self.meta.claim = e.claim }
