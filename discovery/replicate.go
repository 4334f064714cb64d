package discovery

import (
	"cmp"
	"hash/fnv"
	"slices"
	"time"
)

// packetEvent is a message from another node.
type packetEvent struct{ packet *packet }

func (e packetEvent) apply(c *core) {
	p := e.packet
	from := c.owners[p.from]
	if from == c.self {
		return // an echo, or a copy of this node's data directory: memberlist tells of the latter
	}
	if from != nil {
		from.asked = time.Time{}
	}
	c.sender = recipient{p.from, p.address}
	if (from == nil || !from.member && !from.left) && p.address.IsValid() {
		c.out.meet = append(c.out.meet, p.address)
	}
	var announced []nodeID
	for i := range p.announces {
		if c.takeAnnounce(&p.announces[i]) {
			announced = append(announced, p.announces[i].owner)
		}
	}
	for i := range p.deltas {
		c.takeDelta(&p.deltas[i], p.from)
	}
	for _, id := range announced {
		c.pullMissing(c.owners[id])
	}
	for _, w := range p.wants {
		c.answerWant(w, p.from)
	}
	if from == nil {
		return
	}
	if p.digest != nil {
		c.takeDigest(from, p.digest)
	}
	if p.versions != nil {
		c.takeVersions(from, p.versions)
	}
}

// announcement is what this node can say of an owner's announcement.
func (c *core) announcement(o *owner) announce {
	a := announce{owner: o.id, incarnation: o.incarnation, version: o.version, left: o.left}
	if !o.member {
		a.down = c.now.Sub(o.downSince)
	}
	for _, p := range o.networks {
		a.networks = append(a.networks, p)
	}
	slices.SortFunc(a.networks, func(a, b participation) int { return cmp.Compare(a.since, b.since) })
	return a
}

// takeAnnounce reports whether the announcement was news.
func (c *core) takeAnnounce(a *announce) bool {
	if a.owner == c.self.id {
		c.heardOfSelf(a.incarnation, a.version)
		return false
	}
	o := c.owners[a.owner]
	if o == nil {
		if a.down >= forgetAfter {
			return false
		}
		o = c.owner(a.owner)
		o.downSince = c.now.Add(-a.down)
	}
	if !o.newer(a.incarnation, a.version) {
		return false
	}
	c.hide(o)
	o.incarnation, o.version, o.left = a.incarnation, a.version, a.left
	o.networks = make(map[string]participation, len(a.networks))
	for _, p := range a.networks {
		o.networks[p.Key] = p
	}
	for key, s := range o.sets {
		ended := s.incarnation == o.incarnation && s.version < o.networks[key].since
		if ended || !c.shares(o, key) {
			delete(o.sets, key)
		}
	}
	c.refresh(o)
	if o.left {
		c.infof("member %s (%s) has left", o.meta.host, o.id)
	}
	c.noteConflicts(o)
	c.pullDone(o, "")
	return true
}

// heardOfSelf makes sure that nothing said of this node outranks what it says.
func (c *core) heardOfSelf(incarnation, version uint64) {
	if incarnation > c.self.incarnation || incarnation == c.self.incarnation && version > c.clock {
		c.jump(incarnation)
	}
}

// takeDelta applies the delta, or asks its sender for what is missing.
func (c *core) takeDelta(d *delta, from nodeID) {
	if d.owner == c.self.id {
		c.heardOfSelf(d.incarnation, d.to)
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
		if _, ok := o.networks[d.key]; !ok && d.to > o.version {
			c.pull(o.id, "", d.incarnation, o.version+1, from)
		}
		return
	}
	have := o.have(d.key)
	switch {
	case d.to <= have || d.to < o.networks[d.key].since:
		return
	case d.from == 0:
		c.swapSet(o, d)
	case have != 0 && d.from <= have:
		c.patchSet(o, d)
	default:
		c.pull(o.id, d.key, d.incarnation, d.to, from)
		return
	}
	c.pullDone(o, d.key)
}

// swapSet puts a full set in place of whatever was held.
func (c *core) swapSet(o *owner, d *delta) {
	c.hideSet(o, d.key)
	s := newSet(d.incarnation, d.to)
	for _, e := range d.upserts {
		s.put(e, d.to)
	}
	o.sets[d.key] = s
	c.showSet(o, d.key)
}

func (c *core) patchSet(o *owner, d *delta) {
	s := o.sets[d.key]
	withdraw := func(mac MAC) {
		if it, ok := s.live[mac]; ok && o.shown {
			c.view.removeEndpoint(d.key, o.id, o.shownVTEP, it.endpoint)
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
	s.version = d.to
}

// serves says whether this node speaks for the owner: for itself only when it
// no longer holds back.
func (c *core) serves(o *owner) bool { return o != c.self || !c.held }

// deltaFrom brings a holder of the owner's set at a version up to this node's.
// The version counts only under the owner's current incarnation.
func (c *core) deltaFrom(o *owner, key string, incarnation, version uint64) delta {
	if incarnation != o.incarnation {
		version = 0
	}
	s := o.sets[key]
	changes, full := s.since(version)
	if full {
		version = 0
	}
	d := delta{owner: o.id, incarnation: o.incarnation, key: key, from: version, to: s.version}
	for _, ch := range changes {
		d.add(ch)
	}
	return d
}

func (c *core) answerWant(w want, from nodeID) {
	o := c.owners[w.owner]
	if o == nil || !c.serves(o) {
		return
	}
	if o.newer(w.incarnation, w.have) && w.key == "" || w.incarnation < o.incarnation {
		p := c.post(from)
		p.announces = append(p.announces, c.announcement(o))
	}
	if have := o.have(w.key); have > 0 && (w.incarnation < o.incarnation || w.incarnation == o.incarnation && w.have < have) {
		p := c.post(from)
		p.deltas = append(p.deltas, c.deltaFrom(o, w.key, w.incarnation, w.have))
	}
}

// sync sends the digest of what this node holds to one random peer, and once
// more to one that has not answered.
func (c *core) sync() {
	c.digests, c.answers = 0, 0
	peers := c.peers()
	if len(peers) == 0 {
		return
	}
	chosen := peers[c.rand.IntN(len(peers))]
	for _, o := range peers {
		if !o.asked.IsZero() && o != chosen {
			c.sendDigest(o)
			break
		}
	}
	c.sendDigest(chosen)
}

func (c *core) sendDigest(peer *owner) {
	if c.digests >= maxDigests {
		return
	}
	c.digests++
	if peer.asked.IsZero() {
		peer.asked = c.now
	}
	c.post(peer.id).digest = &digest{buckets: c.sums(peer)}
}

// sums adds up hashes of everything that this node and the peer ought both to
// hold: every announcement, and the sets of the networks both take part in.
func (c *core) sums(peer *owner) []uint64 {
	sums := make([]uint64, buckets)
	shared := c.shared(peer)
	for _, o := range c.owners {
		if !c.serves(o) {
			continue
		}
		sum := &sums[bucketOf(o.id)]
		*sum += hashEntry(o, "", o.version)
		for _, key := range shared {
			if c.shares(o, key) {
				*sum += hashEntry(o, key, o.have(key))
			}
		}
	}
	return sums
}

func hashEntry(o *owner, key string, version uint64) uint64 {
	h := fnv.New64a()
	h.Write(o.id[:])
	var numbers [16]byte
	for i := range 8 {
		numbers[i] = byte(o.incarnation >> (8 * i))
		numbers[8+i] = byte(version >> (8 * i))
	}
	h.Write(numbers[:])
	h.Write([]byte(key))
	return h.Sum64()
}

func (c *core) takeDigest(from *owner, d *digest) {
	if len(d.buckets) == 0 {
		return
	}
	var differ uint32
	for i, sum := range c.sums(from) {
		if sum != d.buckets[i] {
			differ |= 1 << i
		}
	}
	if differ == 0 || c.answers >= maxAnswers {
		c.post(from.id).digest = &digest{}
		return
	}
	c.answers++
	v := &versions{complete: differ}
	shared := c.shared(from)
	for _, id := range c.ids() {
		if o := c.owners[id]; c.serves(o) && differ&(1<<bucketOf(id)) != 0 {
			v.owners = append(v.owners, c.versionsOf(o, shared))
		}
	}
	c.post(from.id).versions = v
}

func (c *core) versionsOf(o *owner, keys []string) ownerVersions {
	ov := ownerVersions{owner: o.id, incarnation: o.incarnation, version: o.version}
	for _, key := range keys {
		if c.shares(o, key) {
			ov.sets = append(ov.sets, setVersion{key, o.have(key)})
		}
	}
	return ov
}

// takeVersions asks for what the sender holds and this node lacks, and sends
// what the sender lacks.
func (c *core) takeVersions(from *owner, v *versions) {
	shared := c.shared(from)
	listed := map[nodeID]bool{}
	for i := range v.owners {
		ov := &v.owners[i]
		listed[ov.owner] = true
		if ov.owner == c.self.id {
			c.heardOfSelf(ov.incarnation, ov.newest())
		}
		o := c.owners[ov.owner]
		if o == nil || o != c.self && o.newer(ov.incarnation, ov.version) {
			c.pull(ov.owner, "", ov.incarnation, ov.version, from.id)
		}
		if o != nil {
			c.levelSets(from, o, ov, shared)
		}
	}
	if v.complete == 0 {
		return
	}
	for _, id := range c.ids() {
		if v.complete&(1<<bucketOf(id)) != 0 && !listed[id] {
			c.levelSets(from, c.owners[id], &ownerVersions{owner: id}, shared)
		}
	}
}

// newest is the highest version named.
func (ov *ownerVersions) newest() uint64 {
	version := ov.version
	for _, s := range ov.sets {
		version = max(version, s.version)
	}
	return version
}

// levelSets evens out what this node and the sender of ov hold of the owner.
func (c *core) levelSets(from, o *owner, ov *ownerVersions, shared []string) {
	reply := func() *packet { return c.post(from.id) }
	behind := ov.incarnation < o.incarnation || ov.incarnation == o.incarnation && ov.version < o.version
	if behind && c.serves(o) {
		p := reply()
		p.announces = append(p.announces, c.announcement(o))
	}
	if ov.incarnation > o.incarnation {
		return
	}
	theirs := make(map[string]uint64, len(ov.sets))
	for _, s := range ov.sets {
		theirs[s.key] = s.version
		if ov.incarnation < o.incarnation {
			theirs[s.key] = 0
		}
	}
	for _, key := range shared {
		if !c.shares(o, key) {
			continue
		}
		version, named := theirs[key]
		have := o.have(key)
		switch {
		case version > have && o != c.self:
			c.pull(o.id, key, o.incarnation, version, from.id)
		case version < have && (named || behind) && c.serves(o) && o != from:
			p := reply()
			p.deltas = append(p.deltas, c.deltaFrom(o, key, ov.incarnation, version))
		}
	}
}
