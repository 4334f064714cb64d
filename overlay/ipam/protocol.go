package ipam

import (
	"maps"
	"slices"

	"github.com/overlane/overlane/overlay/ipam/prefix"
)

// receive takes a message from another host.
func (c *core) receive(from string, m *message) {
	if from == c.self || m.Origin != nil && nodeOf(m.Owner) != from { // by another name it would be given what is not its own
		return
	}
	id := poolID{m.Key, m.Subnet}
	if _, down := c.absent[from]; down || !c.inOrder(id, from, m.Number) {
		return
	}
	c.heardWhileReclaimed(from)
	c.noteOther(from, m)
	c.notePeerPool(from, m)
	c.takeSearchAnswer(from, m)
	p := c.pools[id]
	if p == nil {
		c.receiveUnknown(from, m)
		return
	}
	c.take(p, from, m)
	c.seen(p, from, m.Host)
	if m.Origin == nil {
		p.peers[from].synced = m.answers(p) && p.peers[from].fresh
		return
	}
	switch {
	case !p.bootstrapped && !m.Proposed:
		c.meetClaim(p, from, m)
	case !p.bootstrapped:
		if m.Reply {
			c.sendTo(from, &message{}, p)
		}
	case *m.Origin != p.Origin:
		c.meetClaim(p, from, m)
	default:
		c.receiveSame(p, from, m)
	}
}

// inOrder is false for a message about a pool that a later one of its sender has overtaken: where that stands is known
// better, and what was lost is said again.
func (c *core) inOrder(id poolID, from string, n number) bool {
	if c.latest[id] == nil {
		c.forgetNumbers()
		c.latest[id] = map[string]number{}
	}
	if !c.latest[id][from].before(n) {
		return false
	}
	c.latest[id][from] = n
	return true
}

// maxLatest is of how many pools numbers of messages are kept: others may make any number up.
const maxLatest = 1 << 14

// forgetNumbers makes room for those of another pool. Of one that is not here an old message does nothing but cause an answer.
func (c *core) forgetNumbers() {
	if len(c.latest) >= maxLatest {
		maps.DeleteFunc(c.latest, func(id poolID, _ map[string]number) bool { return c.pools[id] == nil })
	}
}

// answers says whether the message was sent by one who has heard where this host stands.
func (m *message) answers(p *pool) bool { return m.Re != nil && *m.Re == p.Origin }

// seen notes on disk that another host was met.
func (c *core) seen(p *pool, id, name string) {
	if old, met := p.Names[id]; !met || old != name {
		p.Names[id] = name
		if p.bootstrapped {
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
		if !p.bootstrapped && p.Key == m.Key && p.Subnet != m.Subnet && p.Subnet.Addr().Is4() == m.Subnet.Addr().Is4() {
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
		if p.Key == m.Key && p.Subnet.Addr().Is6() == v6 && (p.Member || p.bootstrapped) {
			c.sendTo(from, &message{}, p)
			told = true
		}
	}
	if !told || m.Subnet.IsValid() && !m.Proposed {
		c.out.sends = append(c.out.sends, send{from, &message{Key: m.Key, Subnet: m.Subnet, V6: m.V6, Host: c.host, Re: m.Origin, Lost: c.confirmsLost(m.Lost)}})
	}
}

// meetClaim has the older of two first claims win. What was in use under the other stays in use, and its owner by the
// older one gives it to who uses it.
func (c *core) meetClaim(p *pool, from string, m *message) {
	peer := p.peers[from]
	older := p.bootstrapped && (m.Proposed || p.Origin.before(*m.Origin))
	ownerless := older && c.ownerless(p)
	// It has nothing of this claim. What it has in use of its own it tells once it has taken this one.
	peer.synced = older && peer.fresh && (m.Proposed || ownerless)
	switch {
	case older && m.Proposed && p.resyncing, ownerless: // whoever takes a claim that has ended keeps it alive
		if !peer.fresh {
			c.sendTo(from, &message{Reply: true}, p)
		}
	case older:
		c.sendTo(from, &message{Full: true}, p)
	case m.Full && m.answers(p): // it knows of this host, and does not forget the pool meanwhile
		c.adopt(p, from, m)
	default:
		c.sendTo(from, &message{Need: true, Reply: true}, p)
	}
}

// adopt takes another host's table in place of this host's claim.
func (c *core) adopt(p *pool, from string, m *message) {
	if !m.Spans.covers(prefix.Bounds(p.Subnet)) {
		return
	}
	if p.bootstrapped {
		c.notef(logWarn, "pool %s was claimed by others before: the claim of host %s counts", p.id, m.Host)
	}
	before := p.Table
	p.Origin, p.bootstrapped = *m.Origin, true
	p.dropQuestions()
	c.invalidate(p) // what was told then is void
	c.put(p, merge(nil, m.Spans))
	c.tell(p, message{Full: true, Reply: true})
	c.transferHeld(p, from)
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
			c.apply(p, t)
		}
	}
	peer := p.peers[from]
	if (m.Full || m.Hash == p.hash) && peer.fresh {
		peer.synced = true
	}
	c.transferHeld(p, from)
	if m.Ask != nil && (c.mayTransfer(p, from) || !p.Member && !p.resyncing && peer.fresh) {
		c.answerTo(p, from, m.Ask)
	}
	if m.Answer != nil {
		c.answered(p, from, m)
	}
	switch {
	case m.Need || m.Reply && m.Hash != p.hash:
		c.sendTo(from, &message{Full: true, Need: m.Hash != p.hash && !m.Full}, p)
	case m.Reply || !peer.fresh:
		c.sendTo(from, &message{Reply: !peer.fresh}, p)
	}
}

// mayTransfer says whether this host knows that it has its addresses still, and by a fresh word that the other takes part.
func (c *core) mayTransfer(p *pool, to string) bool {
	return !p.resyncing && c.takesPart(p, to) && p.peers[to].fresh
}

// transferHeld gives the addresses that are in use on another host to it, where this host owns them and does not use them.
func (c *core) transferHeld(p *pool, to string) {
	if !c.mayTransfer(p, to) {
		return
	}
	var spans table
	for _, at := range sortedKeys(p.peers[to].held) {
		if !p.inUse(at) && p.ours(at) == 1 {
			spans = spans.add(span{First: at, Last: at})
		}
	}
	if spans != nil {
		c.transfer(p, spans, p.peers[to].owner)
	}
}

// sync has the pool's state compared with that of another host now and then: one that takes part, or any.
func (c *core) sync(p *pool) {
	interval := syncInterval
	switch {
	case p.resyncing:
		interval = askRetry
	case c.atRest(p):
		interval = restInterval
	}
	if c.now.Sub(p.lastSync) < interval || len(c.order) == 0 {
		return
	}
	p.lastSync = c.now
	if p.resyncing {
		for _, id := range c.unheard(p) {
			c.sendTo(id, &message{Reply: true}, p)
		}
		return
	}
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
func (c *core) take(p *pool, from string, m *message) {
	s := p.peer(from)
	held := make(map[uint64]bool, len(m.Held))
	for _, at := range m.Held {
		held[at] = true
	}
	if !s.sameAs(m, held) {
		p.changed = c.now
	}
	s.fresh = m.Heard.Run == c.run && m.Heard.Sent > s.invalidated
	s.owner = m.Owner
	s.member, s.free, s.hash, s.lost, s.held = m.Member, m.Free, m.Hash, m.Lost, held
	s.knows, s.proposed = m.Origin != nil, m.Proposed
	s.origin, s.echo = origin{}, origin{}
	if m.Origin != nil {
		s.origin = *m.Origin
	}
	if m.Re != nil {
		s.echo = *m.Re
	}
}

func sortedKeys(set map[uint64]bool) []uint64 { return slices.Sorted(maps.Keys(set)) }
