package ipam

import (
	"maps"
	"slices"
	"time"
)

// receive takes a message from another host.
func (c *core) receive(from string, m *message) {
	if from == c.self || m.Origin != nil && nodeOf(m.Owner) != from { // by another name it would be given what is not its own
		return
	}
	if last := c.latest[from]; m.Run != 0 && m.Run == last.Run && m.Sent <= last.Sent {
		return // a later one has overtaken it: where its sender stands is known better, and what was lost is said again
	}
	c.latest[from] = number{m.Run, m.Sent}
	c.noteOther(from, m)
	c.hear(from, m)
	c.heed(from, m)
	id := poolID{m.Key, m.Subnet}
	p := c.pools[id]
	if p == nil {
		c.receiveUnknown(from, m)
		return
	}
	p.peer(from).take(m)
	c.seen(p, from, m.Host)
	if m.Origin == nil {
		p.peers[from].told = m.Re != nil && *m.Re == p.Origin && c.fresh(from, p, m)
		return
	}
	switch {
	case !p.settled && !m.Proposed:
		if m.Full {
			c.adopt(p, from, m)
		} else {
			c.sendTo(from, &message{Need: true, Reply: true}, p)
		}
	case !p.settled:
		if m.Reply {
			c.sendTo(from, &message{}, p)
		}
	case m.Proposed:
		c.sendTo(from, &message{Full: true}, p)
	case *m.Origin != p.Origin:
		c.meetClaim(p, from, m)
	default:
		c.receiveSame(p, from, m)
	}
}

// fresh says whether another host said something after it had heard that it was doubted.
func (c *core) fresh(from string, p *pool, m *message) bool {
	return m.Heard.Run == c.run && m.Heard.Sent > p.peers[from].doubted
}

// seen notes that another host is there, now and then on disk.
func (c *core) seen(p *pool, id, name string) {
	if now := c.now.Unix(); now-p.Seen[id] >= int64(seenInterval/time.Second) {
		p.Seen[id], p.Names[id] = now, name
		if p.settled {
			c.write(p)
		}
	}
}

// noteOther notes that another host has a network with a subnet that this host is about to give another.
func (c *core) noteOther(from string, m *message) {
	if m.Origin == nil || !m.Subnet.IsValid() {
		return
	}
	for _, p := range c.pools {
		if m.Proposed && !m.Origin.before(p.Origin) {
			continue
		}
		if !p.settled && p.Key == m.Key && p.Subnet != m.Subnet && p.Subnet.Addr().Is4() == m.Subnet.Addr().Is4() {
			p.peer(from).other = m.Subnet
		}
	}
}

// receiveUnknown answers about a pool that this host does not have: with those it has of the same network and family. A first
// claim hears of these alone: that the pool is not known here might overtake them, and the claim would hold.
func (c *core) receiveUnknown(from string, m *message) {
	if !m.Reply {
		return
	}
	told := false
	v6 := m.V6 || m.Subnet.IsValid() && m.Subnet.Addr().Is6()
	for _, p := range c.sorted() {
		if p.Key == m.Key && p.Subnet.Addr().Is6() == v6 && (p.Member || p.settled) {
			c.sendTo(from, &message{}, p)
			told = true
		}
	}
	if !told || m.Subnet.IsValid() && !m.Proposed {
		c.out.sends = append(c.out.sends, send{from, &message{Key: m.Key, Subnet: m.Subnet, V6: m.V6, Host: c.host, Re: m.Origin}})
	}
}

// meetClaim has the older of two first claims win. What was in use under the other stays in use, and its owner by the
// older one gives it to who uses it.
func (c *core) meetClaim(p *pool, from string, m *message) {
	switch {
	case p.Origin.before(*m.Origin):
		c.sendTo(from, &message{Full: true}, p)
	case m.Full:
		c.adopt(p, from, m)
	default:
		c.sendTo(from, &message{Need: true, Reply: true}, p)
	}
}

// adopt takes another host's table in place of this host's claim.
func (c *core) adopt(p *pool, from string, m *message) {
	if !m.Spans.covers(bounds(p.Subnet)) {
		return
	}
	if p.settled {
		c.notef(logWarn, "pool %s was claimed by others before: the claim of host %s counts", p.id, m.Host)
	}
	before := p.Table
	p.Origin, p.settled = *m.Origin, true
	p.question = nil
	c.doubt(p) // what was told then is void, and what was given
	for _, peer := range p.peers {
		peer.answer = nil
	}
	p.peers[from].told = true
	c.put(p, merge(nil, m.Spans))
	c.tell(p, message{Full: true, Reply: true})
	c.grantHeld(p, from)
	c.restore(p, before)
}

// restore has the gateway and the reserved addresses of the claim that was given up be nobody's under the other as well.
func (c *core) restore(p *pool, before table) {
	_, has := p.gateway()
	for _, s := range before {
		for at := s.First; at <= s.Last && !isHost(s.Owner); at++ {
			if now, _ := p.Table.of(at); isHost(now.Owner) {
				gateway := s.Owner == ownerGateway && !has
				c.await(p, &request{Request: Request{Addr: p.addr(at), Gateway: gateway}, at: at, exact: true, restores: true})
			}
		}
	}
}

// receiveSame takes what a host of the same first claim says.
func (c *core) receiveSame(p *pool, from string, m *message) {
	if len(m.Spans) > 0 {
		if t := merge(p.Table, m.Spans); !slices.Equal(t, p.Table) {
			c.change(p, t)
		}
	}
	if (m.Full || m.Hash == p.hash) && c.fresh(from, p, m) {
		p.peers[from].told = true
	}
	c.grantHeld(p, from)
	if m.Ask != nil && !p.quiet {
		c.answerTo(p, from, m.Ask)
	}
	if m.Answer != nil {
		c.answered(p, from, m.Answer)
	}
	switch {
	case m.Need || m.Reply && m.Hash != p.hash:
		c.sendTo(from, &message{Full: true, Need: m.Hash != p.hash && !m.Full}, p)
	case m.Reply:
		c.sendTo(from, &message{}, p)
	}
}

// grantHeld gives the addresses that are in use on another host to it, where this host owns them and does not use them.
func (c *core) grantHeld(p *pool, to string) {
	var spans table
	for _, at := range sortedKeys(p.peers[to].held) {
		if !p.inUse(at) && p.ours(at) == 1 {
			spans = spans.add(span{First: at, Last: at})
		}
	}
	if spans != nil {
		c.give(p, spans, p.peers[to].owner)
	}
}

// sync has the pool's state compared with that of another host now and then: one that takes part, or any.
func (c *core) sync(p *pool) {
	if c.now.Before(p.nextSync) || len(c.order) == 0 {
		return
	}
	if p.quiet {
		p.nextSync = c.now.Add(askRetry)
		for _, id := range c.unheard(p) {
			c.sendTo(id, &message{Reply: true}, p)
		}
		return
	}
	p.nextSync = c.now.Add(syncInterval)
	to := c.order[c.rand.IntN(len(c.order))]
	if known := c.knowing(p); len(known) > 0 && c.rand.IntN(4) > 0 {
		to = known[c.rand.IntN(len(known))]
	}
	c.sendTo(to, &message{Reply: true}, p)
}

// knowing are the hosts that are up and have the pool.
func (c *core) knowing(p *pool) []string {
	return slices.DeleteFunc(slices.Clone(c.order), func(id string) bool { return p.peers[id] == nil || !p.peers[id].knows })
}

// take notes where another host stands.
func (s *peerState) take(m *message) {
	s.owner = m.Owner
	s.member, s.free, s.hash = m.Member, m.Free, m.Hash
	s.knows, s.proposed = m.Origin != nil, m.Proposed
	s.origin, s.echo = origin{}, origin{}
	if m.Origin != nil {
		s.origin = *m.Origin
	}
	if m.Re != nil {
		s.echo = *m.Re
	}
	s.held = make(map[uint64]bool, len(m.Held))
	for _, at := range m.Held {
		s.held[at] = true
	}
}

func sortedKeys(set map[uint64]bool) []uint64 { return slices.Sorted(maps.Keys(set)) }
