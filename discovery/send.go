package discovery

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"time"
)

// How the core sends: pushes of its own changes, beacons that repeat its
// versions, pulls of what it lacks, and replies.

// flush pushes what changed here to every member that subscribes.
func (c *core) flush() {
	var keys []string
	deltas := map[string][]delta{}
	for _, sub := range c.self.subscriptions {
		if key, s := sub.Key, sub.set; s.version > c.pushed[key] {
			keys = append(keys, key)
			deltas[key] = c.pushDeltas(key)
			if deltas[key] == nil {
				c.beaconAt = c.now // too much to push: have it pulled at once
			}
			c.pushed[key] = s.version
			c.recent[key] = len(beaconDelays)
		}
	}
	var announces []announce
	if c.announcing {
		c.announcing = false
		announces = []announce{c.announcement(c.self)}
		c.recent[""] = len(beaconDelays)
	}
	if len(keys) == 0 && announces == nil {
		return
	}
	if first := c.now.Add(beaconDelays[0]); c.beaconAt.IsZero() || first.Before(c.beaconAt) {
		c.beaconAt = first
	}
	for _, group := range c.groups(keys) {
		var wanted []delta
		for _, key := range group.keys {
			wanted = append(wanted, deltas[key]...)
		}
		c.multicast(group, pack(announces, wanted, nil), 0)
	}
}

// pushDeltas cuts the changes of an own set since the last push into deltas of a
// datagram each; nil if they are too many. A full set is never cut.
func (c *core) pushDeltas(key string) []delta {
	s := c.self.set(key)
	changes, full := s.since(c.pushed[key])
	d := delta{owner: c.self.id, incarnation: c.self.incarnation, key: key, from: c.pushed[key], to: s.version, made: s.made}
	if full {
		d.from = 0
		for _, ch := range changes {
			d.add(ch)
		}
		if d.wireSize() > maxDatagram-packetSize {
			return nil
		}
		return []delta{d}
	}
	var deltas []delta
	for _, ch := range changes {
		size := d.wireSize() + deleteSize
		if ch.endpoint != nil {
			size += ch.endpoint.wireSize()
		}
		if size > maxDatagram-packetSize && len(d.upserts)+len(d.deletes) > 0 {
			done := d
			done.to = ch.version - 1
			deltas = append(deltas, done)
			d.from, d.upserts, d.deletes = done.to, nil, nil
		}
		d.add(ch)
	}
	if deltas = append(deltas, d); len(deltas) > maxPushed {
		return nil
	}
	return deltas
}

// group is the members that get the same push.
type group struct {
	keys []string
	to   []recipient // by ID
}

// groups sorts all members by which of the networks they subscribe to.
func (c *core) groups(keys []string) []*group {
	asked := strings.Join(keys, "\x00")
	if groups, ok := c.audiences[asked]; ok {
		return groups
	}
	var groups []*group
	byKeys := map[string]*group{}
	for _, o := range c.peers() {
		var shared []string
		for _, key := range keys {
			if c.shares(o, key) {
				shared = append(shared, key)
			}
		}
		name := strings.Join(shared, "\x00")
		g := byKeys[name]
		if g == nil {
			g = &group{keys: shared}
			byKeys[name] = g
			groups = append(groups, g)
		}
		g.to = append(g.to, recipient{o.id, o.address})
	}
	c.audiences[asked] = groups
	return groups
}

// pack fills datagrams. What does not fit into one by itself is left to the
// beacon and to pulls.
func pack(announces []announce, deltas []delta, owners []ownerVersions) []*packet {
	var packets []*packet
	size := maxDatagram
	room := func(n int) *packet {
		if packetSize+n > maxDatagram {
			return &packet{}
		}
		if size += n; size > maxDatagram {
			packets = append(packets, &packet{})
			size = packetSize + n
		}
		return packets[len(packets)-1]
	}
	for _, a := range announces {
		p := room(a.wireSize())
		p.announces = append(p.announces, a)
	}
	for _, d := range deltas {
		p := room(d.wireSize())
		p.deltas = append(p.deltas, d)
	}
	for _, ov := range owners {
		p := room(versionsSize + ov.wireSize())
		if p.versions == nil {
			p.versions = &versions{}
		}
		p.versions.owners = append(p.versions.owners, ov)
	}
	return packets
}

func (c *core) send(to []recipient, p *packet, reliable bool) {
	p.from, p.address = c.self.id, c.address
	c.out.sends = append(c.out.sends, send{to, p, reliable})
}

// beacon repeats the versions of what was pushed lately. When this node has
// left there is nobody to pull from, so that the announcement itself is repeated.
func (c *core) beacon() {
	announced := c.recent[""] > 0
	var keys []string
	left := 0
	for _, key := range slices.Sorted(maps.Keys(c.recent)) {
		if key != "" {
			keys = append(keys, key)
		}
		c.recent[key]--
		left = max(left, c.recent[key])
		if c.recent[key] == 0 {
			delete(c.recent, key)
		}
	}
	for _, g := range c.groups(keys) {
		switch {
		case len(g.keys) == 0 && !announced:
		case c.self.left:
			c.multicast(g, pack([]announce{c.announcement(c.self)}, nil, nil), len(beaconDelays)-left)
		default:
			c.multicast(g, pack(nil, nil, c.ownVersions(g.keys)), len(beaconDelays)-left)
		}
	}
	if left > 0 {
		c.beaconAt = c.now.Add(beaconDelays[len(beaconDelays)-left])
	}
}

// beaconKeys is how many networks a part of a beacon names, so that it fits
// into a datagram: at most 48 + beaconKeys * (16 + maxKey) = 1200 bytes.
const beaconKeys = 8

func (c *core) ownVersions(keys []string) []ownerVersions {
	own := ownerVersions{owner: c.self.id, incarnation: c.self.incarnation, version: c.self.version}
	if len(keys) == 0 {
		return []ownerVersions{own}
	}
	var parts []ownerVersions
	for some := range slices.Chunk(keys, beaconKeys) {
		part := own
		for _, key := range some {
			part.sets = append(part.sets, setVersion{key, c.self.set(key).version})
		}
		parts = append(parts, part)
	}
	return parts
}

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
	if !asked {
		p = &pull{}
		c.pulls[k] = p
	}
	if incarnation > p.incarnation || incarnation == p.incarnation && version > p.version {
		p.incarnation, p.version, p.from = incarnation, version, from
	}
	if !asked {
		c.ask(k, p)
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

// ask sends the want to the node that is known to hold it and to the owner in turn.
func (c *core) ask(k pullKey, p *pull) {
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
	c.ask(k, p)
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
			c.ask(k, p)
		} else {
			delete(c.pulls, k)
		}
	}
}

// packetTo is the packet this step sends to a node.
func (c *core) packetTo(to nodeID) *packet {
	p := c.outbox[to]
	if p == nil {
		p = &packet{}
		c.outbox[to] = p
	}
	return p
}

// sendOutbox sends the step's packets: in a datagram if they fit, else reliably.
func (c *core) sendOutbox() {
	for _, id := range slices.SortedFunc(maps.Keys(c.outbox), func(a, b nodeID) int { return bytes.Compare(a[:], b[:]) }) {
		p := c.outbox[id]
		o := c.owners[id]
		member := o != nil && o.member
		switch fits := p.wireSize() <= maxDatagram; {
		case member && fits:
			c.send([]recipient{{id, o.address}}, p, false)
		case member:
			for _, part := range p.split() {
				c.send([]recipient{{id, o.address}}, part, true)
			}
		case fits && id == c.sender.id && c.sender.address.IsValid():
			c.send([]recipient{c.sender}, p, false) // a node that is about to be a member
		}
	}
	clear(c.outbox)
}

// split cuts a packet at its deltas into messages of about maxReliable.
func (p *packet) split() []*packet {
	deltas := p.deltas
	p.deltas = nil
	parts := []*packet{p}
	size := p.wireSize()
	for _, d := range deltas {
		if n := d.wireSize(); size+n > maxReliable && size > packetSize {
			parts = append(parts, &packet{})
			size = packetSize + n
		} else {
			size += n
		}
		last := parts[len(parts)-1]
		last.deltas = append(last.deltas, d)
	}
	return parts
}
