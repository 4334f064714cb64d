package discovery

import (
	"bytes"
	"net/netip"
	"slices"
	"time"
)

// owner is what this node knows of a node: its membership, its announcement and
// its sets of the networks both subscribe to.
type owner struct {
	id         nodeID
	meta       meta
	address    netip.AddrPort
	member     bool      // memberlist holds it for alive
	stray      bool      // so a list did that was given up: see Move
	seen       bool      // it has been a member
	downSince  time.Time // when it ceased to be one
	frozen     bool      // it went down together with too many others
	unanswered time.Time // the first digest since its last message

	deaf        bool      // it says that it gets no datagrams of this node's: it is sent streams
	asked       time.Time // the first digest in a datagram since its last datagram
	gotDatagram time.Time // its last one
	gotStream   time.Time // its last message over a stream

	incarnation   uint64
	version       uint64         // of the announcement
	left          bool           // it went for good; it subscribes to nothing then
	subscriptions []subscription // by key

	shown     bool // its claims are in the view
	shownVTEP netip.AddrPort
	conflicts map[Conflict]bool // those already told
}

func newOwner(id nodeID) *owner {
	return &owner{id: id}
}

// have is the version at which this node holds an owner's set; 0 if it does not
// hold one of the owner's current incarnation.
func (o *owner) have(key string) uint64 {
	if s := o.set(key); s != nil && s.incarnation == o.incarnation {
		return s.version
	}
	return 0
}

// newer says whether (incarnation, version) is above what is known of the
// owner's announcement.
func (o *owner) newer(incarnation, version uint64) bool {
	return incarnation > o.incarnation || incarnation == o.incarnation && version > o.version
}

// owner finds or makes the entry of a node.
func (c *core) owner(id nodeID) *owner {
	o := c.owners[id]
	if o == nil {
		o = newOwner(id)
		o.downSince = c.now
		c.owners[id] = o
		c.invalidateSums()
		c.order = slices.Insert(c.order, c.indexOf(id), o)
	}
	return o
}

// indexOf is where in order an owner is or would be.
func (c *core) indexOf(id nodeID) int {
	at, _ := slices.BinarySearchFunc(c.order, id, func(o *owner, id nodeID) int { return bytes.Compare(o.id[:], id[:]) })
	return at
}

// peers lists the other members.
func (c *core) peers() []*owner {
	var peers []*owner
	for _, o := range c.order {
		if o.member && o != c.self {
			peers = append(peers, o)
		}
	}
	return peers
}

// shares says whether this node and the owner subscribe to the same network,
// with the same VNI, and both encrypt its packets or neither does. Records are
// taken from nobody else.
func (c *core) shares(o *owner, key string) bool {
	ours, theirs := c.self.subscription(key), o.subscription(key)
	return ours != nil && theirs != nil && ours.Network == theirs.Network
}

// complete says whether the set of every member that shares a network is held.
func (c *core) complete(key string) bool {
	for _, o := range c.owners {
		if o != c.self && o.member && c.shares(o, key) && o.have(key) == 0 {
			return false
		}
	}
	return true
}

// shared lists the networks that shares is true for, in order.
func (c *core) shared(o *owner) []string {
	var keys []string
	for _, sub := range c.self.subscriptions {
		if c.shares(o, sub.Key) {
			keys = append(keys, sub.Key)
		}
	}
	return keys
}
