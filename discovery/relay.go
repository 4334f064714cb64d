package discovery

import (
	"bytes"
	"cmp"
	"hash/fnv"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// How a push reaches many members: over a tree of two levels. The members are
// cut, in the order of their IDs, into about as many ranges as a range has
// members, and one of each, its head, passes the push on to its range. All owners
// cut alike, so that a head has what several of them said at about the same time
// travel in one datagram. A repetition goes by other heads: one that is dead and
// not yet known to be keeps its range from hearing the first word only. An owner
// sends about √n datagrams for a packet: 32 in a cluster of a thousand.

const (
	relayAbove = 64                    // members; up to here an owner sends to each itself
	relayDelay = 10 * time.Millisecond // what is passed on collects this long
)

// multicast sends packets to all of a group. Attempt counts the repetitions.
func (c *core) multicast(g *group, packets []*packet, attempt int) {
	if len(g.to) <= relayAbove {
		for _, p := range packets {
			c.send(g.to, p, false)
		}
		return
	}
	at, _ := slices.BinarySearchFunc(g.to, c.self.id, func(r recipient, id nodeID) int { return bytes.Compare(r.id[:], id[:]) })
	all := slices.Insert(slices.Clone(g.to), at, recipient{c.self.id, c.address})
	first := headOf(g.keys, attempt)
	ranges := int(math.Ceil(math.Sqrt(float64(len(all)))))
	for i := range ranges {
		to := all[i*len(all)/ranges : (i+1)*len(all)/ranges]
		head := to[first%len(to)]
		for _, p := range packets {
			p := *p
			p.relay = &relay{to[0].id, to[len(to)-1].id}
			if head.id == c.self.id {
				c.handleRelay(&p)
			} else {
				c.send([]recipient{head}, &p, false)
			}
		}
	}
}

// headOf gives networks different heads, so that not the same nodes do the work
// of all.
func headOf(keys []string, attempt int) int {
	h := fnv.New32a()
	for _, key := range keys {
		h.Write([]byte(key))
	}
	return int(h.Sum32()&math.MaxUint16) + attempt
}

// relayBatch is what is to be passed on to the same members.
type relayBatch struct {
	to        []recipient
	announces []announce
	deltas    []delta
	owners    []ownerVersions
}

// relayKey is what packets of one batch have in common.
type relayKey struct {
	relay
	keys string
}

// handleRelay keeps what the packet carries until it is passed on.
func (c *core) handleRelay(p *packet) {
	keys := p.keys()
	k := relayKey{*p.relay, strings.Join(keys, "\x00")}
	b := c.relays[k]
	if b == nil {
		b = &relayBatch{to: c.membersIn(p.relay, keys)}
		c.relays[k] = b
	}
	b.announces = append(b.announces, p.announces...)
	b.deltas = append(b.deltas, p.deltas...)
	if p.versions != nil {
		b.owners = append(b.owners, p.versions.owners...)
	}
	if c.relayAt.IsZero() {
		c.relayAt = c.now.Add(relayDelay)
	}
}

// keys lists the networks that the packet is about.
func (p *packet) keys() []string {
	var keys []string
	for i := range p.deltas {
		keys = append(keys, p.deltas[i].key)
	}
	if p.versions != nil {
		for _, ov := range p.versions.owners {
			for _, s := range ov.sets {
				keys = append(keys, s.key)
			}
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// membersIn lists the members of a range that subscribe to all the networks.
func (c *core) membersIn(r *relay, keys []string) []recipient {
	var to []recipient
	for _, o := range c.order[c.indexOf(r.first):] {
		if bytes.Compare(o.id[:], r.last[:]) > 0 {
			break
		}
		apart := func(key string) bool { return !c.shares(o, key) }
		if o != c.self && o.member && !slices.ContainsFunc(keys, apart) {
			to = append(to, recipient{o.id, o.address})
		}
	}
	return to
}

// sendRelays passes the batches on.
func (c *core) sendRelays() {
	for _, k := range slices.SortedFunc(maps.Keys(c.relays), relayKey.compare) {
		b := c.relays[k]
		if len(b.to) == 0 {
			continue
		}
		for _, p := range pack(b.announces, b.deltas, b.owners) {
			c.send(b.to, p, false)
		}
	}
	clear(c.relays)
}

func (k relayKey) compare(o relayKey) int {
	return cmp.Or(bytes.Compare(k.first[:], o.first[:]), bytes.Compare(k.last[:], o.last[:]), strings.Compare(k.keys, o.keys))
}
