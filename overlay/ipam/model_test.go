package ipam

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/overlane/overlane/overlay/ipam/prefix"
)

// The model visits every state that some hosts can get into: the cores themselves, their disks, and the messages under way, of
// which each may come late or not at all. Time stands still, so what waits for it (asking again, comparing tables) is an
// event of its own, that may come at any moment. What is not in it: containers, and that a host which
// starts sees not all others that are up.
type model struct {
	visited map[[2]uint64]struct{}
	seeds   [2]maphash.Seed
	path    []string
	fail    func(format string, args ...any)
}

// bounded says how often things may happen in one run.
type bounded struct {
	hosts                                                      int
	members                                                    int // of them that use the pool at the beginning, and have some of it
	inFlight                                                   int // messages from one host to another; of more the oldest is lost
	compares, opens, asks, closes, crashes, restarts, reclaims int
}

var modelPool = poolID{"k", netip.MustParsePrefix("10.20.0.0/29")}

// world is one state.
type world struct {
	left  bounded
	now   time.Time
	hosts []*modelHost
	wire  [][][]*message // by sender and recipient, the oldest first
}

type modelHost struct {
	id        string
	core      *core // nil: down
	life      uint64
	chance    uint64 // what its random numbers go on with
	disk      *stored
	peerPools map[string]string
}

// counting is a source of random numbers that has no two alike.
type counting struct{ n *uint64 }

func (c counting) Uint64() uint64 { *c.n++; return *c.n }

func (w *world) clone() *world {
	c := *w
	c.hosts = make([]*modelHost, len(w.hosts))
	c.wire = make([][][]*message, len(w.wire))
	for i, h := range w.hosts {
		copied := *h
		c.hosts[i] = &copied
		copied.peerPools = maps.Clone(h.peerPools)
		if h.core != nil {
			copied.core = h.core.clone()
			copied.core.rand = rand.New(counting{&copied.chance})
		}
		c.wire[i] = make([][]*message, len(w.wire[i]))
		for j := range w.wire[i] {
			c.wire[i][j] = slices.Clone(w.wire[i][j])
		}
	}
	return &c
}

// clone copies what a step changes in place. Tables, and sets of held addresses, are replaced as a whole.
func (c *core) clone() *core {
	d := *c
	d.pools = make(map[poolID]*pool, len(c.pools))
	d.peerPools, d.latest = map[poolID]map[string]string{}, map[poolID]map[string]number{}
	for id, p := range c.pools {
		q := *p
		q.Names = maps.Clone(p.Names)
		q.peers = make(map[string]*peerState, len(p.peers))
		for node, peer := range p.peers {
			copied := *peer
			q.peers[node] = &copied
		}
		if p.question != nil {
			copied := *p.question
			q.question = &copied
		}
		q.opening = slices.Clone(p.opening)
		d.pools[id] = &q
	}
	for id := range c.peerPools {
		d.peerPools[id] = maps.Clone(c.peerPools[id])
	}
	for id := range c.latest {
		d.latest[id] = maps.Clone(c.latest[id])
	}
	d.reclaims = make([]*reclaim, len(c.reclaims))
	for i, r := range c.reclaims {
		copied := *r
		d.reclaims[i] = &copied
	}
	return &d
}

// step runs one event on a host: what it writes is on its disk, what it sends on the wire.
func (w *world) step(h *modelHost, event func()) {
	out := h.core.step(w.now, event)
	for _, p := range out.pools {
		s := p.stored
		s.Names = maps.Clone(s.Names)
		h.disk = &s
	}
	if out.gone != nil {
		h.disk = nil
	}
	if out.peerPools != nil {
		h.peerPools = maps.Clone(h.core.peerPools[modelPool])
	}
	from := slices.Index(w.hosts, h)
	for _, s := range out.sends {
		to := slices.IndexFunc(w.hosts, func(o *modelHost) bool { return o.id == s.to })
		queue := append(w.wire[from][to], s.message)
		w.wire[from][to] = queue[max(0, len(queue)-w.left.inFlight):]
	}
	for _, done := range out.done {
		done(nil)
	}
}

// meet has everybody see who is up.
func (w *world) meet() {
	for _, h := range w.hosts {
		if h.core == nil {
			continue
		}
		up, absent := map[string]string{}, map[string]string{}
		for _, other := range w.hosts {
			switch {
			case other == h:
			case other.core != nil:
				up[other.id] = other.id
			default:
				absent[other.id] = other.id
			}
		}
		w.step(h, func() { h.core.meet(up, absent) })
	}
}

func (w *world) start(h *modelHost) {
	var disk []stored
	if h.disk != nil {
		s := *h.disk
		s.Names = maps.Clone(s.Names)
		disk = []stored{s}
	}
	h.life++
	h.core = newCore(w.now, h.life, h.id, h.id, disk, nil)
	h.core.rand = rand.New(counting{&h.chance})
	if h.peerPools != nil {
		h.core.peerPools[modelPool] = maps.Clone(h.peerPools)
	}
	w.meet()
}

func (h *modelHost) pool() *pool {
	if h.core == nil {
		return nil
	}
	return h.core.pools[modelPool]
}

// event is one thing that can happen in a state.
type event struct {
	name string
	do   func(w *world)
}

// events are all that can happen.
func (w *world) events() (all []event) {
	add := func(left *int, name string, do func(w *world)) {
		if left == nil || *left > 0 {
			all = append(all, event{name, do})
		}
	}
	for i, h := range w.hosts {
		for j := range w.hosts {
			for k := range w.wire[i][j] {
				if w.hosts[j].core != nil {
					add(nil, fmt.Sprintf("%s's message %d comes to %s", h.id, k, w.hosts[j].id), func(w *world) { w.deliver(i, j, k) })
				}
			}
		}
		if h.core == nil {
			add(&w.left.restarts, h.id+" starts", func(w *world) { w.left.restarts--; w.start(w.hosts[i]) })
			continue
		}
		add(&w.left.crashes, h.id+" goes down", func(w *world) { w.left.crashes--; w.crash(i) })
		p := h.pool()
		if p == nil || !p.Member {
			add(&w.left.opens, h.id+" opens", func(w *world) {
				w.left.opens--
				w.step(w.hosts[i], func() { w.hosts[i].core.openPool(modelPool, netip.Prefix{}, func(error) {}) })
			})
		}
		if p == nil {
			continue
		}
		for j, other := range w.hosts {
			if i != j && other.core != nil && len(w.wire[i][j]) == 0 {
				add(&w.left.compares, h.id+" compares with "+other.id, func(w *world) { w.left.compares--; w.compare(i, j) })
			}
		}
		if !p.bootstrapped {
			continue
		}
		if p.Member {
			add(&w.left.closes, h.id+" closes", func(w *world) {
				w.left.closes--
				w.step(w.hosts[i], func() { w.hosts[i].core.closePool(modelPool) })
			})
			if p.question == nil && !p.resyncing {
				add(&w.left.asks, h.id+" asks", func(w *world) { w.ask(i) })
			}
		}
		if len(h.core.reclaims) == 0 && slices.ContainsFunc(w.hosts, func(o *modelHost) bool { return o.core == nil }) {
			add(&w.left.reclaims, h.id+" reclaims", func(w *world) { w.reclaim(i) })
		}
	}
	return all
}

// deliver has a message come in. Those before it come too late then: see inOrder.
func (w *world) deliver(from, to, k int) {
	m := *w.wire[from][to][k]
	w.wire[from][to] = w.wire[from][to][k+1:]
	h := w.hosts[to]
	w.step(h, func() { h.core.receive(w.hosts[from].id, &m) })
}

func (w *world) crash(i int) {
	w.hosts[i].core = nil
	for j := range w.hosts {
		w.wire[j][i] = nil
	}
	w.meet()
}

// compare is what time brings: a host says where it stands, and asks what the other knows.
func (w *world) compare(i, j int) {
	h := w.hosts[i]
	w.step(h, func() {
		h.pool().nextCompaction, h.pool().nextAsk = time.Time{}, time.Time{}
		h.core.sendTo(w.hosts[j].id, &message{Reply: true, Need: !h.pool().bootstrapped}, h.pool())
	})
}

// ask has a host ask the first other owner for more.
func (w *world) ask(i int) {
	w.left.asks--
	h := w.hosts[i]
	p := h.pool()
	for _, owner := range p.Table.owners() {
		if owner != p.Owner && h.core.there(p, owner) {
			w.step(h, func() { h.core.ask(p, owner, ask{First: 1, Last: 6, Urgent: true}) })
			return
		}
	}
}

// reclaim is an operator's word that all hosts that are down are lost.
func (w *world) reclaim(i int) {
	w.left.reclaims--
	var lost []string
	for _, h := range w.hosts {
		if h.core == nil {
			lost = append(lost, h.id)
		}
	}
	w.step(w.hosts[i], func() { w.hosts[i].core.reclaim(lost, func(uint64, error) {}) })
}

// explore visits every state that follows from one.
func (m *model) explore(w *world) {
	if key := m.key(w); !m.isNew(key) {
		return
	}
	m.check(w)
	m.checkLeaks(w)
	for _, e := range w.events() {
		next := w.clone()
		next.now = next.now.Add(time.Millisecond)
		m.path = append(m.path, e.name)
		e.do(next)
		m.explore(next)
		m.path = m.path[:len(m.path)-1]
	}
}

func (m *model) isNew(key [2]uint64) bool {
	if _, known := m.visited[key]; known {
		return false
	}
	m.visited[key] = struct{}{}
	return true
}

// check demands that no two hosts own one address.
func (m *model) check(w *world) {
	for i, a := range w.hosts {
		for _, b := range w.hosts[:i] {
			p, q := a.pool(), b.pool()
			if p == nil || q == nil || !p.bootstrapped || !q.bootstrapped || p.resyncing || q.resyncing || p.Origin != q.Origin {
				continue
			}
			for _, mine := range p.Table.owned(p.Owner, 0, prefix.MaxOffset) {
				if both := q.Table.owned(q.Owner, mine.First, mine.Last); both != nil {
					m.fail("%s and %s both own %+v and %+v after:\n%s", a.id, b.id, mine, both, strings.Join(m.path, "\n"))
				}
			}
		}
	}
}

// checkLeaks demands that every address belongs to somebody who knows the pool by that name.
func (m *model) checkLeaks(w *world) {
	for _, h := range w.hosts {
		if h.disk == nil {
			continue
		}
		all := h.disk.Table
		names := map[string]bool{}
		for _, other := range w.hosts {
			if other.disk != nil && other.disk.Origin == h.disk.Origin {
				all = merge(all, other.disk.Table)
				names[other.disk.Owner] = true
			}
		}
		for _, owner := range all.owners() {
			if !names[owner] {
				m.fail("%s is no more, and has %+v after:\n%s", owner, all.owned(owner, 0, prefix.MaxOffset), strings.Join(m.path, "\n"))
			}
		}
	}
}

func newModel(t *testing.T) *model {
	return &model{visited: map[[2]uint64]struct{}{}, seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, fail: t.Fatalf}
}

// begin is the state in which some hosts share the pool, and have told each other all.
func (b bounded) begin() *world {
	w := &world{left: b, now: time.UnixMilli(1_700_000_000_000)}
	for i := range b.hosts {
		w.hosts = append(w.hosts, &modelHost{id: string(rune('a' + i))})
		w.wire = append(w.wire, make([][]*message, b.hosts))
	}
	for _, h := range w.hosts {
		w.start(h)
	}
	for _, h := range w.hosts[:b.members] {
		w.step(h, func() { h.core.openPool(modelPool, netip.Prefix{}, func(error) {}) })
		w.deliverAll()
	}
	for range 2 {
		for i := range w.hosts[:b.members] {
			for j := range w.hosts {
				if i != j {
					w.compare(i, j)
					w.deliverAll()
				}
			}
		}
	}
	for i, h := range w.hosts[1:max(b.members, 1)] {
		w.left.asks++
		w.ask(i + 1)
		w.deliverAll()
		if h.pool().own == 0 {
			panic("a member got nothing")
		}
	}
	return w
}

func (w *world) deliverAll() {
	for again := true; again; {
		again = false
		for i := range w.hosts {
			for j := range w.hosts {
				if len(w.wire[i][j]) > 0 {
					w.now = w.now.Add(time.Millisecond)
					w.deliver(i, j, 0)
					again = true
				}
			}
		}
	}
}

// key is a hash of all that matters for what can follow: of numbers that grow and of names only how they compare.
func (m *model) key(w *world) [2]uint64 {
	b := w.canonical()
	return [2]uint64{maphash.Bytes(m.seeds[0], b), maphash.Bytes(m.seeds[1], b)}
}

type canonical struct {
	b     []byte
	sent  map[string]map[uint64]uint64 // by sender: numbers of messages to their ranks
	times map[int64]uint64             // of claims, likewise
	names map[string]uint64            // owners in order of appearance
	ids   map[uint64]uint64            // of questions, likewise
}

func (w *world) canonical() []byte {
	c := &canonical{sent: map[string]map[uint64]uint64{}, times: map[int64]uint64{}, names: map[string]uint64{"": 0}, ids: map[uint64]uint64{}}
	c.rank(w)
	l := w.left
	for _, n := range []int{l.compares, l.opens, l.asks, l.closes, l.crashes, l.restarts, l.reclaims} {
		c.b = append(c.b, byte(n))
	}
	for i, h := range w.hosts {
		c.host(h)
		for j, to := range w.hosts {
			c.b = append(c.b, byte(len(w.wire[i][j])))
			for _, m := range w.wire[i][j] {
				c.message(h.id, to.id, m)
			}
		}
	}
	return c.b
}

// rank numbers what is only compared.
func (c *canonical) rank(w *world) {
	sent, times := map[string][]uint64{}, []int64{}
	note := func(o *origin) {
		if o != nil {
			times = append(times, o.At)
		}
	}
	for i, h := range w.hosts {
		if h.disk != nil {
			note(&h.disk.Origin)
		}
		if h.core != nil {
			sent[h.id] = append(sent[h.id], h.core.sent)
			for from, n := range h.core.latest[modelPool] {
				sent[from] = append(sent[from], n.Sent)
			}
		}
		if p := h.pool(); p != nil {
			note(&p.Origin)
			for _, peer := range p.peers {
				sent[h.id] = append(sent[h.id], peer.invalidated)
				note(&peer.origin)
				note(&peer.echo)
			}
		}
		for j, to := range w.hosts {
			for _, m := range w.wire[i][j] {
				sent[h.id] = append(sent[h.id], m.Number.Sent)
				sent[to.id] = append(sent[to.id], m.Heard.Sent)
				note(m.Origin)
				note(m.Re)
			}
		}
	}
	for id, all := range sent {
		slices.Sort(all)
		c.sent[id] = map[uint64]uint64{}
		for _, n := range slices.Compact(all) {
			c.sent[id][n] = uint64(len(c.sent[id]))
		}
	}
	slices.Sort(times)
	for _, at := range slices.Compact(times) {
		c.times[at] = uint64(len(c.times))
	}
}

func (c *canonical) num(n uint64) { c.b = binary.AppendUvarint(c.b, n) }

func (c *canonical) flags(all ...bool) {
	for _, f := range all {
		c.b = append(c.b, map[bool]byte{true: 1}[f])
	}
}

func (c *canonical) name(s string) {
	if !isHost(s) {
		c.b = append(c.b, s...)
		return
	}
	if _, known := c.names[s]; !known {
		c.names[s] = uint64(len(c.names))
	}
	c.b = append(c.b, nodeOf(s)...)
	c.num(c.names[s])
}

func (c *canonical) id(n uint64) {
	if _, known := c.ids[n]; !known {
		c.ids[n] = uint64(len(c.ids))
	}
	c.num(c.ids[n])
}

func (c *canonical) origin(o *origin) {
	if o == nil {
		c.b = append(c.b, '-')
		return
	}
	c.num(c.times[o.At])
	c.name(o.Owner)
}

func (c *canonical) table(t table) {
	c.num(uint64(len(t)))
	for _, s := range t {
		for _, n := range []uint64{s.First, s.Last, s.Epoch, s.Version} {
			c.num(n)
		}
		c.name(s.Owner)
	}
}

func (c *canonical) number(of string, n number) {
	c.num(n.Run)
	c.num(c.sent[of][n.Sent])
}

func (c *canonical) ask(a *ask) {
	if a == nil {
		c.b = append(c.b, '-')
		return
	}
	c.id(a.ID)
	c.num(a.Free)
}

func (c *canonical) message(from, to string, m *message) {
	c.number(from, m.Number)
	c.number(to, m.Heard)
	c.name(m.Owner)
	c.origin(m.Origin)
	c.origin(m.Re)
	c.flags(m.Member, m.Proposed, m.Full, m.Reply, m.Need, m.Answer != nil)
	c.num(m.Free)
	c.table(m.Spans)
	c.ask(m.Ask)
	if m.Answer != nil {
		c.id(m.Answer.ID)
		c.b = append(c.b, m.Answer.Why...)
	}
	c.num(m.Hash)
}

func (c *canonical) host(h *modelHost) {
	c.num(h.life)
	c.flags(h.core != nil, h.disk != nil)
	for _, id := range slices.Sorted(maps.Keys(h.peerPools)) {
		c.b = append(c.b, id...)
	}
	if h.disk != nil {
		c.name(h.disk.Owner)
		c.flags(h.disk.Member)
		c.origin(&h.disk.Origin)
		c.table(h.disk.Table)
		c.num(uint64(len(h.disk.Names)))
	}
	if h.core == nil {
		return
	}
	for _, from := range slices.Sorted(maps.Keys(h.core.latest[modelPool])) {
		c.b = append(c.b, from...)
		c.number(from, h.core.latest[modelPool][from])
	}
	c.num(c.sent[h.id][h.core.sent])
	for _, r := range h.core.reclaims {
		c.b = append(c.b, strings.Join(r.lost, ",")...)
	}
	c.pool(h)
}

func (c *canonical) pool(h *modelHost) {
	p := h.pool()
	c.flags(p != nil)
	if p == nil {
		return
	}
	c.name(p.Owner)
	c.origin(&p.Origin)
	c.flags(p.Member, p.bootstrapped, p.resyncing, p.leaving, p.question != nil, len(p.opening) > 0)
	c.table(p.Table)
	c.num(uint64(len(p.Names)))
	if p.question != nil {
		c.ask(&p.question.ask)
		c.b = append(c.b, p.question.host...)
	}
	for _, id := range slices.Sorted(maps.Keys(p.peers)) {
		peer := p.peers[id]
		c.b = append(c.b, id...)
		c.name(peer.owner)
		c.flags(peer.member, peer.knows, peer.proposed, peer.fresh, peer.synced, peer.hash == p.hash, peer.answer != nil)
		c.origin(&peer.origin)
		c.origin(&peer.echo)
		c.num(peer.free)
		c.num(c.sent[h.id][peer.invalidated])
		if peer.answer != nil {
			c.id(peer.answered)
			c.table(peer.answer.Spans)
		}
	}
}

func TestModel(t *testing.T) {
	for _, b := range modelBounds {
		t.Run(fmt.Sprintf("%+v", b), func(t *testing.T) {
			m := newModel(t)
			m.explore(b.begin())
			t.Logf("%d states", len(m.visited))
		})
	}
}
