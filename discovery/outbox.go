package discovery

import (
	"bytes"
	"maps"
	"net/netip"
	"slices"
)

// How the packets of a step go out: one to each recipient.

// Sizes of what is sent.
const (
	maxDatagram = 1300    // bytes; with encryption and headers below 1400
	maxPushed   = 16      // datagrams of one set's changes, 21 kB; beyond it others pull
	maxReliable = 1 << 20 // bytes after which another message begins
)

type send struct {
	to       []recipient
	packet   *packet
	reliable bool
}

type recipient struct {
	id      nodeID
	address netip.AddrPort
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
		case member && fits && id == c.sender.id && c.streamed:
			c.send([]recipient{{id, o.address}}, p, true)
			c.sendDatagram(recipient{id, o.address}, &packet{digest: &digest{}}) // whether it gets that is what it wants to know
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

// send sends a packet to nodes: over a stream each, or in datagrams to those that get them.
func (c *core) send(to []recipient, p *packet, reliable bool) {
	var others []recipient
	for _, r := range to {
		if o := c.owners[r.id]; reliable || o != nil && o.deaf {
			copied := *p
			c.sendStream(r, &copied)
		} else {
			others = append(others, r)
		}
	}
	if len(others) > 0 {
		p.from, p.address = c.self.id, c.address
		c.out.sends = append(c.out.sends, send{others, p, false})
	}
}
