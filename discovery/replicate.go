package discovery

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
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
	if p.relay != nil {
		c.handleRelay(p)
	}
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
	for i := range o.subscriptions {
		a.networks = append(a.networks, o.subscriptions[i].announcedNetwork)
	}
	slices.SortFunc(a.networks, func(a, b announcedNetwork) int { return cmp.Compare(a.since, b.since) })
	return a
}

// takeAnnounce reports whether the announcement was news.
func (c *core) takeAnnounce(a *announce) bool {
	if a.owner == c.self.id {
		c.refuteNewer(a.incarnation, a.version, c.self.version)
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
	if o.member && o.outran(a) {
		c.pull(o.id, "", a.incarnation, a.version+1, o.id)
		return false
	}
	c.hide(o)
	clear(c.audiences)
	c.resum()
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

// outran says whether a set that is held, or was before a restart, is newer than
// the announcement that ends its subscription: then it belongs to the next one, whose
// announcement is still on its way.
func (o *owner) outran(a *announce) bool {
	return a.incarnation == o.incarnation && slices.ContainsFunc(o.subscriptions, func(sub subscription) bool {
		stays := slices.ContainsFunc(a.networks, func(n announcedNetwork) bool { return n.Key == sub.Key })
		return !stays && max(sub.since, o.have(sub.Key)) > a.version
	})
}

// takeDelta applies the delta, or asks its sender for what is missing.
func (c *core) takeDelta(d *delta, from nodeID) {
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
	have := o.have(d.key)
	switch {
	case d.to <= have || d.to < o.since(d.key):
		return
	case d.from == 0:
		c.swapSet(o, d)
	case have != 0 && d.from <= have:
		c.patchSet(o, d)
	default:
		c.pull(o.id, d.key, d.incarnation, d.to, from)
		return
	}
	c.resum()
	c.pullDone(o, d.key)
}

// swapSet puts a full set in place of whatever was held.
func (c *core) swapSet(o *owner, d *delta) {
	c.hideSet(o, d.key)
	s := newSet(d.incarnation, d.to)
	s.fill(d.upserts)
	o.subscription(d.key).set = s
	c.showSet(o, d.key)
}

func (c *core) patchSet(o *owner, d *delta) {
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

// serves says whether this node speaks for the owner: for itself only when it
// no longer holds back.
func (c *core) serves(o *owner) bool { return o != c.self || !c.held }

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
	d := delta{owner: o.id, incarnation: o.incarnation, key: key, from: version, to: s.version, made: s.made}
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
	if w.key == "" && w.incarnation == o.incarnation && w.have < o.version || w.incarnation < o.incarnation {
		p := c.packetTo(from)
		p.announces = append(p.announces, c.announcement(o))
	}
	if have := o.have(w.key); have > 0 && (w.incarnation < o.incarnation || w.incarnation == o.incarnation && w.have < have) {
		p := c.packetTo(from)
		p.deltas = append(p.deltas, c.deltaFrom(o, w.key, w.incarnation, w.have))
	}
}

// sync sends the digest of what this node holds to one random peer, seldom when all is told, and once
// more to one that has not answered.
func (c *core) sync() {
	c.digests, c.answers = 0, 0
	peers := c.peers()
	if len(peers) == 0 {
		return
	}
	behind := slices.ContainsFunc(peers, func(o *owner) bool { return !o.asked.IsZero() })
	if !behind && c.now.Sub(c.changedAt) > restAfter && c.now.Sub(c.syncedAt) < restInterval {
		return
	}
	c.syncedAt = c.now
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
	buckets := min(max(len(c.order)/ownersPerBucket, minBuckets), maxBuckets)
	c.packetTo(peer.id).digest = &digest{buckets: c.sums(c.shared(peer), buckets)}
}

// sums adds up hashes of everything that this node and a peer ought both to
// hold: every announcement, and the sets of the networks both subscribe to.
func (c *core) sums(shared []string, buckets int) []uint64 {
	name := strings.Join(shared, "\x00") + "\x00" + strconv.Itoa(buckets)
	if sums, ok := c.summed[name]; ok {
		return sums
	}
	sums := make([]uint64, buckets)
	for _, o := range c.order {
		if !c.serves(o) {
			continue
		}
		sum := &sums[bucketOf(o.id, buckets)]
		*sum += hashEntry(o, "", o.version)
		for _, key := range shared {
			if have := o.have(key); have > 0 {
				*sum += hashEntry(o, key, have)
			}
		}
	}
	c.summed[name] = sums
	return sums
}

// resum has the sums added up anew, and the peers asked each second again.
func (c *core) resum() {
	clear(c.summed)
	c.changedAt = c.now
}

func hashEntry(o *owner, key string, version uint64) uint64 {
	h := fnv.New64a()
	numbers := binary.LittleEndian.AppendUint64(o.id[:], o.incarnation)
	h.Write(binary.LittleEndian.AppendUint64(numbers, version))
	h.Write([]byte(key))
	return h.Sum64()
}

func (c *core) takeDigest(from *owner, d *digest) {
	if len(d.buckets) == 0 {
		return
	}
	v := &versions{complete: make([]bool, len(d.buckets))}
	shared := c.shared(from)
	for i, sum := range c.sums(shared, len(d.buckets)) {
		v.complete[i] = sum != d.buckets[i]
	}
	if !slices.Contains(v.complete, true) || c.answers >= maxAnswers {
		c.packetTo(from.id).digest = &digest{}
		return
	}
	c.answers++
	for _, o := range c.order {
		if c.serves(o) && v.covers(o.id) {
			v.owners = append(v.owners, c.versionsOf(o, shared))
		}
	}
	c.packetTo(from.id).versions = v
}

// versionsOf names no set that is not held of an owner that is down: all that is
// left of it may be older than what was on disk here, and would be sent for nothing
// again and again.
func (c *core) versionsOf(o *owner, keys []string) ownerVersions {
	ov := ownerVersions{owner: o.id, incarnation: o.incarnation, version: o.version}
	for _, key := range keys {
		if have := o.have(key); c.shares(o, key) && (have > 0 || o.member) {
			ov.sets = append(ov.sets, setVersion{key, have})
		}
	}
	return ov
}

// takeVersions asks for what the sender holds and this node lacks, and in return
// for an answer to a digest sends what the sender lacks. To a beacon it sends
// nothing: whoever passes one on may hold more than it says.
func (c *core) takeVersions(from *owner, v *versions) {
	answer := len(v.complete) > 0
	var shared []string
	if answer {
		shared = c.shared(from)
	}
	listed := map[nodeID]bool{}
	for i := range v.owners {
		ov := &v.owners[i]
		if answer {
			listed[ov.owner] = true
		}
		if ov.owner == c.self.id {
			c.refuteNewer(ov.incarnation, ov.version, c.self.version)
			for _, s := range ov.sets {
				c.refuteNewer(ov.incarnation, s.version, c.ownVersion(s.key))
			}
		}
		o := c.owners[ov.owner]
		if o == nil || o != c.self && o.newer(ov.incarnation, ov.version) {
			c.pull(ov.owner, "", ov.incarnation, ov.version, from.id)
		}
		if o != nil {
			c.pullNamed(from, o, ov)
		}
		if o != nil && answer {
			c.sendLacking(from, o, ov, shared)
		}
	}
	if !answer {
		return
	}
	for _, o := range c.order {
		if v.covers(o.id) && !listed[o.id] {
			c.sendLacking(from, o, &ownerVersions{owner: o.id}, shared)
		}
	}
}

// pullNamed asks the sender for the sets that it holds newer than this node does,
// and not too old to be taken.
func (c *core) pullNamed(from, o *owner, ov *ownerVersions) {
	if o == c.self || ov.incarnation != o.incarnation {
		return
	}
	for _, s := range ov.sets {
		if s.version > o.have(s.key) && s.version >= o.since(s.key) && c.shares(o, s.key) {
			c.pull(o.id, s.key, o.incarnation, s.version, from.id)
		}
	}
}

// sendLacking sends what the sender of an answer to a digest holds older of the
// owner, or does not hold.
func (c *core) sendLacking(from, o *owner, ov *ownerVersions, shared []string) {
	if ov.incarnation > o.incarnation || !c.serves(o) {
		return
	}
	behind := ov.incarnation < o.incarnation || ov.version < o.version
	if behind {
		p := c.packetTo(from.id)
		p.announces = append(p.announces, c.announcement(o))
	}
	for _, key := range shared {
		version, named := ov.of(key)
		if ov.incarnation < o.incarnation {
			version = 0
		}
		if version < o.have(key) && (named || behind) && o != from {
			p := c.packetTo(from.id)
			p.deltas = append(p.deltas, c.deltaFrom(o, key, ov.incarnation, version))
		}
	}
}

// of is the version named for a network.
func (ov *ownerVersions) of(key string) (version uint64, named bool) {
	for _, s := range ov.sets {
		if s.key == key {
			return s.version, true
		}
	}
	return 0, false
}
