package discovery

import (
	"maps"
	"slices"
	"strings"
)

// How the core spreads its own changes: pushes, and beacons that repeat its
// versions.

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
			c.beaconsLeft[key] = len(beaconDelays)
		}
	}
	var announces []announce
	if c.announcing {
		c.announcing = false
		announces = []announce{c.announcement(c.self)}
		c.beaconsLeft[""] = len(beaconDelays)
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
	sub := c.self.subscription(key)
	s := sub.set
	changes, full := s.since(c.pushed[key])
	d := delta{owner: c.self.id, incarnation: c.self.incarnation, key: key, encrypted: sub.Encrypted, from: c.pushed[key], to: s.version, made: s.made}
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
	if groups, ok := c.groupsCache[asked]; ok {
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
	c.groupsCache[asked] = groups
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

// beacon repeats the versions of what was pushed lately. When this node has
// left there is nobody to pull from, so that the announcement itself is repeated.
func (c *core) beacon() {
	announced := c.beaconsLeft[""] > 0
	var keys []string
	left := 0
	for _, key := range slices.Sorted(maps.Keys(c.beaconsLeft)) {
		if key != "" {
			keys = append(keys, key)
		}
		c.beaconsLeft[key]--
		left = max(left, c.beaconsLeft[key])
		if c.beaconsLeft[key] == 0 {
			delete(c.beaconsLeft, key)
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
