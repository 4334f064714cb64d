package discovery

import "time"

// Datagrams to a member, or from it, may be lost for good where streams get through: a
// firewall passes TCP alone, or UDP one way. Membership holds such a member for
// alive, for it asks over a stream as well. So does this: who owes an answer is asked
// both ways, and says in streams whether datagrams reach it. One that gets none is
// sent streams, until it gets them again.

const (
	doubtAfter  = 2 * time.Second // without an answer in a datagram: more than one was lost
	lately      = 3 * time.Second // two questions of a second each, and an answer
	maxDoubtful = maxDigests      // asked each second
)

// noteWay notes how a message came in, and what it says of the way back.
func (c *core) noteWay(from *owner, p *packet) {
	if p.stream {
		from.gotStream = c.now
		from.deaf = !p.heard
		return
	}
	from.gotDatagram = c.now
	from.asked = time.Time{}
}

// probe asks those members both ways that datagrams may not reach, or not come from.
func (c *core) probe(peers []*owner) {
	left := maxDoubtful
	start := c.rand.IntN(len(peers))
	for i := range peers {
		o := peers[(start+i)%len(peers)]
		if !o.deaf && (o.asked.IsZero() || c.now.Sub(o.asked) < doubtAfter) {
			continue
		}
		if left--; left < 0 {
			return
		}
		c.owes(o)
		to := recipient{o.id, o.address}
		c.sendDatagram(to, &packet{digest: c.digestFor(o)})
		c.sendStream(to, &packet{digest: c.digestFor(o)})
	}
}

func (c *core) sendDatagram(to recipient, p *packet) {
	p.from, p.address = c.self.id, c.address
	c.out.sends = append(c.out.sends, send{[]recipient{to}, p, false})
}

func (c *core) sendStream(to recipient, p *packet) {
	p.from, p.address, p.stream = c.self.id, c.address, true
	if o := c.owners[to.id]; o != nil {
		p.heard = c.now.Sub(o.gotDatagram) < lately
	}
	c.out.sends = append(c.out.sends, send{[]recipient{to}, p, true})
}

// mute says whether a member is heard in streams alone.
func (o *owner) mute(now time.Time) bool {
	return o.member && !o.asked.IsZero() && now.Sub(o.asked) > lately && now.Sub(o.gotStream) < lately
}
