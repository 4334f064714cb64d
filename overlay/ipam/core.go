package ipam

import (
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
)

// core is one host's part in all of its pools, and the protocol: a step function from time and event to output, without
// goroutines, clocks or I/O. It is not safe for concurrent use.
type core struct {
	now       time.Time // of the current step
	started   time.Time
	rand      *rand.Rand
	self      string
	host      string
	seeded    bool // it was told of hosts to join, and may not have met them yet
	pools     map[poolID]*pool
	searches  []*search
	reclaims  []*reclaim
	members   map[string]string                    // the others that are up: ID to name
	absent    map[string]string                    // and those that are down, and have not left
	away      map[string]absence                   // of all that are not up, as far as it is known
	peerPools map[poolID]map[string]string         // who else has which pools, also such as this host does not have: ID to name
	suspects  map[string]string                    // who may have pools that this host has forgotten: ID to name
	order     []string                             // their IDs
	lives     func(p poolID, addr netip.Addr) bool // whether an endpoint of this host has the address
	inUse     func(p poolID) bool                  // whether a network of this host has the subnet
	lastUsed  func(p poolID, host string) []uint64 // what the endpoints of another host have, or had
	run       uint64                               // see number
	sent      uint64
	latest    map[poolID]map[string]number // of what came about a pool, by its sender
	out       output
}

// output is what a step wants done, in this order.
type output struct {
	pools     []*pool      // to be written
	gone      []poolID     // to be removed, leases too
	leases    []leaseWrite // to be written
	peerPools []poolID     // to be written
	suspects  bool         // are to be written
	sends     []send
	done      []func(failed error) // failed: what was decided is not on disk
	notes     []note
}

// after puts what an earlier step could not write before what this one wants written.
func (o *output) after(failed *output) {
	for _, p := range failed.pools {
		if !slices.Contains(o.pools, p) && !slices.Contains(o.gone, p.id) {
			o.pools = append(o.pools, p)
		}
	}
	written := func(id poolID) bool {
		return slices.ContainsFunc(o.pools, func(p *pool) bool { return p.id == id })
	}
	o.gone = append(slices.DeleteFunc(failed.gone, written), o.gone...)
	o.leases = append(failed.leases, o.leases...)
	o.peerPools = append(failed.peerPools, o.peerPools...)
	o.suspects = o.suspects || failed.suspects
}

type leaseWrite struct {
	pool  poolID
	at    uint64
	lease *lease // nil: to be removed
}

type send struct {
	to      string
	message *message
}

type note struct {
	level logrus.Level
	text  string
}

// newCore takes up what was stored. The run is higher than those of this host's cores before.
func newCore(now time.Time, run uint64, self, host string, pools []stored, leases map[poolID]map[uint64]lease) *core {
	seed := fnv.New64a()
	seed.Write([]byte(self))
	c := &core{
		now: now, started: now, self: self, host: host,
		rand:  rand.New(rand.NewPCG(seed.Sum64()+run, uint64(now.UnixNano()))),
		run:   run,
		pools: map[poolID]*pool{}, members: map[string]string{}, peerPools: map[poolID]map[string]string{}, latest: map[poolID]map[string]number{},
		lives:    func(poolID, netip.Addr) bool { return true },
		inUse:    func(poolID) bool { return false },
		lastUsed: func(poolID, string) []uint64 { return nil },
	}
	for _, s := range pools {
		if s.Owner == "" { // this host has forgotten its part in the pool
			s.Owner = c.ownerName()
			s.Origin = newOrigin(now, s.Owner)
		}
		p := newPool(s, now)
		for at, l := range leases[p.id] {
			p.used[at] = l
		}
		p.count()
		p.resyncing = true
		c.pools[p.id] = p
	}
	return c
}

// step runs one event and what time has brought, and says what to do.
func (c *core) step(now time.Time, event func()) output {
	paused := now.Round(0).Sub(c.now.Round(0)) > pauseLimit // by the wall clock: the other stops with the machine
	c.now = now
	if paused {
		c.wake()
	}
	if event != nil {
		event()
	}
	for _, p := range c.sorted() {
		c.advance(p)
	}
	c.searches = slices.DeleteFunc(c.searches, c.advanceSearch)
	c.reclaims = slices.DeleteFunc(c.reclaims, c.advanceReclaim)
	out := c.out
	c.out = output{}
	for i, s := range out.sends {
		numbered := *s.message
		c.sent++
		numbered.Number, numbered.Heard = number{c.run, c.sent}, c.latest[poolID{numbered.Key, numbered.Subnet}][s.to]
		out.sends[i].message = &numbered
	}
	return out
}

// renew begins a new run when this host has a higher incarnation: it went back to an older state, from which it went on counting its
// messages, and others would take them for overtaken ones.
func (c *core) renew(incarnation uint64) {
	if incarnation > c.run {
		c.run, c.sent = incarnation, 0
		c.wake()
	}
}

// wake has everything heard anew after the daemon did not run, or was alone, for a while: what it knows of the others may be old.
func (c *core) wake() {
	for _, p := range c.sorted() {
		if p.bootstrapped && len(p.Names) > 0 {
			p.began, p.resyncing = c.now, true
		}
		c.invalidate(p)
	}
}

// sorted lists the pools in an order that does not depend on chance.
func (c *core) sorted() []*pool {
	return slices.SortedFunc(maps.Values(c.pools), func(a, b *pool) int { return a.id.compare(b.id) })
}

// unjoined says whether this host has just started and has yet to meet others.
func (c *core) unjoined() bool {
	return c.seeded && len(c.order) == 0 && c.now.Sub(c.started) < helloPatience
}

// advance does what is due for a pool.
func (c *core) advance(p *pool) {
	if p.resyncing && c.resynced(p) {
		p.resyncing = false
	}
	if p.bootstrapped && !p.resyncing && c.ended(p) {
		c.startOver(p)
	}
	if !p.bootstrapped {
		c.bootstrap(p)
	}
	if p.bootstrapped && c.pools[p.id] == p {
		c.finishOpening(p, nil)
		c.compact(p)
		c.askMore(p)
		c.sync(p)
		c.passOn(p)
	}
	p.waiting = slices.DeleteFunc(p.waiting, func(r *request) bool { return c.try(p, r) })
	if !slices.ContainsFunc(p.waiting, func(r *request) bool { return r.takeFrom != "" }) {
		p.lost = ""
	}
	c.askAgain(p)
}

// meet tells the core who else is up, and who is down and has not left: names by ID. Whoever is new hears of every pool.
func (c *core) meet(members, absent map[string]string) {
	before := c.members
	c.members, c.order, c.absent = members, slices.Sorted(maps.Keys(members)), absent
	if len(before) == 0 && len(members) > 0 {
		c.wake() // it was alone: the others may have taken over addresses meanwhile
	}
	for id := range before {
		if !c.up(id) {
			for _, p := range c.sorted() {
				c.invalidatePeer(p.peer(id))
			}
		}
	}
	for _, id := range c.order {
		if _, known := before[id]; !known {
			for _, p := range c.sorted() {
				c.sendTo(id, &message{Reply: true}, p)
			}
		}
	}
}

// gone forgets what a host said that is lost for good.
func (c *core) gone(id string) {
	c.forgetPeerPools(id)
	if _, suspect := c.suspects[id]; suspect {
		delete(c.suspects, id)
		c.out.suspects = true
	}
	for _, p := range c.pools {
		delete(p.peers, id)
		delete(p.Names, id)
	}
}

func (c *core) up(id string) bool {
	_, up := c.members[id]
	return up
}

// there says whether an owner is up, and has not forgotten since what it had.
func (c *core) there(p *pool, owner string) bool {
	peer := p.peers[nodeOf(owner)]
	return c.up(nodeOf(owner)) && (peer == nil || !peer.synced && !peer.knows || peer.knows && peer.owner == owner)
}

// ownerName names a host as the owner of blocks. One that takes part in a pool, forgets it, and takes part again is not
// the same: old news of what it had are not to be taken for true.
func (c *core) ownerName() string { return fmt.Sprintf("%s.%x", c.self, c.rand.Uint64()) }

// nodeOf is the host behind an owner: discovery's Member.ID.
func nodeOf(owner string) string {
	node, _, _ := strings.Cut(owner, ".")
	return node
}

// sendTo sends a message with where this host stands on the pool.
func (c *core) sendTo(id string, m *message, p *pool) {
	m.Key, m.Subnet, m.Host = p.Key, p.Subnet, c.host
	m.Member, m.Owner, m.Proposed = p.Member, p.Owner, !p.bootstrapped
	if p.Origin != (origin{}) {
		o := p.Origin
		m.Origin = &o
	}
	if peer := p.peers[id]; peer != nil && peer.knows {
		o := peer.origin
		m.Re = &o
	}
	if p.lost != "" {
		m.Lost = p.lost
	} else if peer := p.peers[id]; peer != nil {
		m.Lost = c.confirmsLost(peer.lost)
	}
	if p.bootstrapped {
		m.Free, m.Hash, m.Held = p.free(), p.hash, p.held()
	}
	if m.Full {
		m.Spans = p.Table
	}
	c.out.sends = append(c.out.sends, send{id, m})
}

// confirmsLost repeats the ID of a host that is down here too.
func (c *core) confirmsLost(id string) string {
	if _, down := c.absent[id]; down {
		return id
	}
	return ""
}

// tell sends to every host that is up and takes part.
func (c *core) tell(p *pool, m message) {
	for _, id := range c.order {
		if peer := p.peers[id]; peer != nil && peer.knows {
			copied := m
			c.sendTo(id, &copied, p)
		}
	}
}

func (c *core) write(p *pool) {
	if !slices.Contains(c.out.pools, p) {
		c.out.pools = append(c.out.pools, p)
	}
}

// name is what people call a host.
func (c *core) name(p *pool, id string) string {
	if name := c.members[id]; name != "" {
		return name
	}
	for _, names := range []map[string]string{c.absent, p.Names, c.peerPools[p.id], c.suspects} {
		if name := names[id]; name != "" {
			return name
		}
	}
	return id
}

func (c *core) names(p *pool, ids []string) string {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = c.name(p, id)
	}
	return strings.Join(names, ", ")
}

func (c *core) notef(level logrus.Level, format string, args ...any) {
	c.out.notes = append(c.out.notes, note{level, fmt.Sprintf(format, args...)})
}

// overlapping is another pool of this host with some of the same addresses.
func (c *core) overlapping(id poolID) *pool {
	for _, p := range c.sorted() {
		if p.id != id && p.Member && p.Subnet.Overlaps(id.Subnet) {
			return p
		}
	}
	return nil
}

// orGiveUp is the other way out where no network of overlane's has a pool: Docker may have been killed before it had made the network, and says
// nothing of it any more.
func (c *core) orGiveUp(p *pool) string {
	if c.inUse(p.id) {
		return ""
	}
	option := ""
	if p.Subnet.Addr().Is6() {
		option = " --ipv6"
	}
	if p.Key != SubnetKey(p.Subnet) {
		option += " --ipam-opt " + p.Key
	}
	return fmt.Sprintf(". If `docker network ls` has no network with that subnet any more: create one with --ipam-driver overlane%s --subnet %s, and remove it", option, p.Subnet)
}
