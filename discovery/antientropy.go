package discovery

import (
	"encoding/binary"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
)

// Anti-entropy: two nodes compare digests of what both ought to hold, and where
// they differ send each other what one of them lacks.

// sync sends the digest of what this node holds to one random peer, seldom when all is told, and once
// more to one that has not answered.
func (c *core) sync() {
	c.digests, c.answers = 0, 0
	peers := c.peers()
	if len(peers) == 0 {
		return
	}
	c.probe(peers)
	behind := slices.ContainsFunc(peers, func(o *owner) bool { return !o.unanswered.IsZero() })
	if !behind && c.now.Sub(c.changedAt) > idleAfter && c.now.Sub(c.syncedAt) < idleInterval {
		return
	}
	c.syncedAt = c.now
	chosen := peers[c.rand.IntN(len(peers))]
	for _, o := range peers {
		if !o.unanswered.IsZero() && o != chosen {
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
	c.owes(peer)
	c.packetTo(peer.id).digest = c.digestFor(peer)
}

// owes notes that a peer is asked for an answer.
func (c *core) owes(peer *owner) {
	if peer.unanswered.IsZero() {
		peer.unanswered = c.now
	}
	if peer.asked.IsZero() {
		peer.asked = c.now
	}
}

func (c *core) digestFor(peer *owner) *digest {
	buckets := min(max(len(c.order)/ownersPerBucket, minBuckets), maxBuckets)
	return &digest{buckets: c.sums(c.shared(peer), buckets)}
}

// sums adds up hashes of everything that this node and a peer ought both to
// hold: every announcement, and the sets of the networks both subscribe to.
func (c *core) sums(shared []string, buckets int) []uint64 {
	name := strings.Join(shared, "\x00") + "\x00" + strconv.Itoa(buckets)
	if sums, ok := c.sumsCache[name]; ok {
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
	c.sumsCache[name] = sums
	return sums
}

// invalidateSums has the sums added up anew, and the peers asked each second again.
func (c *core) invalidateSums() {
	clear(c.sumsCache)
	c.changedAt = c.now
}

func hashEntry(o *owner, key string, version uint64) uint64 {
	h := fnv.New64a()
	numbers := binary.LittleEndian.AppendUint64(o.id[:], o.incarnation)
	h.Write(binary.LittleEndian.AppendUint64(numbers, version))
	h.Write([]byte(key))
	return h.Sum64()
}

func (c *core) handleDigest(from *owner, d *digest) {
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

// handleVersions asks for what the sender holds and this node lacks, and in return
// for an answer to a digest sends what the sender lacks. To a beacon it sends
// nothing: whoever passes one on may hold more than it says.
func (c *core) handleVersions(from *owner, v *versions) {
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
			c.pullNewer(from, o, ov)
		}
		if o != nil && answer {
			c.sendMissing(from, o, ov, shared)
		}
	}
	if !answer {
		return
	}
	for _, o := range c.order {
		if v.covers(o.id) && !listed[o.id] {
			c.sendMissing(from, o, &ownerVersions{owner: o.id}, shared)
		}
	}
}

// pullNewer asks the sender for the sets that it holds newer than this node does,
// and not too old to be taken.
func (c *core) pullNewer(from, o *owner, ov *ownerVersions) {
	if o == c.self || ov.incarnation != o.incarnation {
		return
	}
	for _, s := range ov.sets {
		if s.version > o.have(s.key) && s.version >= o.since(s.key) && c.shares(o, s.key) {
			c.pull(o.id, s.key, o.incarnation, s.version, from.id)
		}
	}
}

// sendMissing sends what the sender of an answer to a digest holds older of the
// owner, or does not hold.
func (c *core) sendMissing(from, o *owner, ov *ownerVersions, shared []string) {
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
