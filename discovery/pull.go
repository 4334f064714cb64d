package discovery

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"time"
)

// How the core asks for what it knows to be missing, and answers who asks.

// pull is something this node knows to be missing: an owner's set, or with an
// empty key its announcement, of at least this incarnation and version.
type pull struct {
	incarnation uint64
	version     uint64
	from        nodeID // a node that holds it
	tries       int
	retryAt     time.Time
}

type pullKey struct {
	owner nodeID
	key   string
}

// pull asks for something once, and then again until it comes.
func (c *core) pull(id nodeID, key string, incarnation, version uint64, from nodeID) {
	k := pullKey{id, key}
	p, asked := c.pulls[k]
	if !asked && len(c.pulls) >= maxPulls {
		return // a digest finds it again
	}
	if !asked {
		p = &pull{}
		c.pulls[k] = p
	}
	if incarnation > p.incarnation || incarnation == p.incarnation && version > p.version {
		p.incarnation, p.version, p.from = incarnation, version, from
	}
	if !asked {
		c.sendWant(k, p)
	}
}

// pullMissing asks an owner for every shared set that is not held.
func (c *core) pullMissing(o *owner) {
	for _, key := range c.shared(o) {
		if o.have(key) == 0 {
			c.pull(o.id, key, o.incarnation, o.since(key), o.id)
		}
	}
}

// sendWant sends the want to the node that is known to hold it and to the owner in turn.
func (c *core) sendWant(k pullKey, p *pull) {
	w := want{owner: k.owner, key: k.key}
	if o := c.owners[k.owner]; o != nil {
		w.incarnation, w.have = o.incarnation, o.have(k.key)
		if k.key == "" {
			w.have = o.version
		}
	}
	to := p.from
	if p.tries%2 == 1 {
		to = k.owner
	}
	if o := c.owners[to]; o == nil || !o.member {
		to = p.from
	}
	m := c.packetTo(to)
	m.wants = append(m.wants, w)
	p.retryAt = c.now.Add(pullRetry << p.tries)
	p.tries++
}

// pullDone ends a pull that has been answered, or asks for the rest at once.
func (c *core) pullDone(o *owner, key string) {
	k := pullKey{o.id, key}
	p := c.pulls[k]
	if p == nil {
		return
	}
	have := o.have(key)
	if key == "" {
		have = o.version
	}
	if o.incarnation > p.incarnation || o.incarnation == p.incarnation && have >= p.version {
		delete(c.pulls, k)
		return
	}
	p.tries = 0
	c.sendWant(k, p)
}

func (c *core) retryPulls() {
	var late []pullKey
	for k, p := range c.pulls {
		if c.due(p.retryAt) {
			late = append(late, k)
		}
	}
	slices.SortFunc(late, func(a, b pullKey) int {
		if a.owner != b.owner {
			return bytes.Compare(a.owner[:], b.owner[:])
		}
		return strings.Compare(a.key, b.key)
	})
	for _, k := range late {
		p, o := c.pulls[k], c.owners[k.owner]
		wanted := k.key == "" || o != nil && c.shares(o, k.key)
		if wanted && p.tries < pullTries {
			c.sendWant(k, p)
		} else {
			delete(c.pulls, k)
		}
	}
}

// handleWant sends what the sender lacks of what it asks for.
func (c *core) handleWant(w want, from nodeID) {
	o := c.owners[w.owner]
	if o == nil || !c.serves(o) {
		return
	}
	if w.key == "" && w.incarnation == o.incarnation && w.have < o.version || w.incarnation < o.incarnation {
		p := c.packetTo(from)
		p.announces = append(p.announces, c.announcement(o))
	}
	if have := o.have(w.key); have > 0 && (w.incarnation < o.incarnation || w.incarnation == o.incarnation && w.have < have) {
		p := c.packetTo(from)
		p.deltas = append(p.deltas, c.deltaFrom(o, w.key, w.incarnation, w.have))
	}
}

// serves says whether this node speaks for the owner: for itself only when it
// no longer holds back.
func (c *core) serves(o *owner) bool { return o != c.self || !c.deferring }

// announcement is what this node can say of an owner's announcement.
func (c *core) announcement(o *owner) announce {
	a := announce{owner: o.id, incarnation: o.incarnation, version: o.version, left: o.left}
	if !o.member {
		a.down = c.now.Sub(o.downSince)
	}
	for i := range o.subscriptions {
		a.networks = append(a.networks, o.subscriptions[i].announcedNetwork)
	}
	slices.SortFunc(a.networks, func(a, b announcedNetwork) int { return cmp.Compare(a.since, b.since) })
	return a
}

// deltaFrom brings a holder of the owner's set at a version up to this node's.
// The version counts only under the owner's current incarnation.
func (c *core) deltaFrom(o *owner, key string, incarnation, version uint64) delta {
	if incarnation != o.incarnation {
		version = 0
	}
	s := o.set(key)
	changes, full := s.since(version)
	if full {
		version = 0
	}
	d := delta{owner: o.id, incarnation: o.incarnation, key: key, encrypted: o.subscription(key).Encrypted, from: version, to: s.version, made: s.made}
	for _, ch := range changes {
		d.add(ch)
	}
	return d
}
