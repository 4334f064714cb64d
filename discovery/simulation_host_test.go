package discovery

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// simHost is a host: its disk, what its daemon wants published, and its core
// while it runs.
type simHost struct {
	sim         *simulation
	number      int
	id          nodeID
	address     netip.AddrPort
	side        int             // of a partition
	component   int             // of the graph of who knows whom: hosts of one hear of each other by membership
	isClone     bool            // runs on a copy of another's disk
	incarnation uint64          // on disk
	disk        []ownerSnapshot // of the others
	saved       time.Time       // when
	clock       time.Duration   // what the host's clock is off by
	networks    map[string]Network
	endpoints   map[string]map[MAC]Endpoint
	unobserved  bool  // keeps no view
	core        *core // nil: down
	left        bool
	downSince   time.Time
	timer       time.Time // the earliest one queued
	generation  int
	slow        time.Duration // from the daemon's start until it publishes
	view        map[string]Change
	gone        int             // things it was told are gone
	notes       []string        // for the log
	memberships []simMembership // by number of the other
	watermarks  map[pullKey][2]uint64
}

// simMembership is what one host knows of another by membership.
type simMembership struct {
	id       nodeID    // under which it was told
	reported uint64    // incarnation told to the core; 0: no member
	missing  time.Time // unreachable since
}

func (h *simHost) membership(other *simHost) *simMembership {
	for len(h.memberships) <= other.number {
		h.memberships = append(h.memberships, simMembership{})
	}
	return &h.memberships[other.number]
}

// pollMember brings one host's membership of another up to date. It reports
// whether nothing more is to come without another event.
func (h *simHost) pollMember(other *simHost) bool {
	m := h.membership(other)
	member := m.reported != 0
	if member && m.id != other.id {
		h.lose(other)
		member = false
	}
	switch {
	case other.isClone: // memberlist refuses a known name at another address
	case h.sim.reachable(h, other):
		m.missing = time.Time{}
		if member {
			h.sim.connect(h, other)
		}
		if m.reported != other.incarnation && (member || h.component == other.component) {
			m.id, m.reported = other.id, other.incarnation
			h.step(memberUpEvent{other.id, other.core.self.meta, other.address})
		}
	case !member:
	case other.left:
		h.lose(other)
	case m.missing.IsZero():
		m.missing = h.sim.now
		return false
	case h.sim.now.Sub(m.missing) < h.sim.detection():
		return false
	default:
		h.lose(other)
	}
	return true
}

func (h *simHost) lose(other *simHost) {
	m := h.membership(other)
	m.reported = 0
	h.step(memberDownEvent{m.id})
}

// start runs the daemon: as the real one does, it says right after the start
// what it had stored.
func (h *simHost) start() {
	restarted := h.incarnation != 0
	h.incarnation = max(h.incarnation+1, uint64(h.sim.now.Add(h.clock).UnixMilli()))
	h.generation++
	h.left = false
	h.view = map[string]Change{}
	h.memberships = nil
	h.watermarks = map[pullKey][2]uint64{}
	h.timer = time.Time{}
	m := meta{
		host:        h.String(),
		vtep:        netip.AddrPortFrom(h.address.Addr(), 4789),
		incarnation: h.incarnation,
	}
	h.core = newCore(h.sim.now, h.sim.rand.Uint64(), h.id, m, h.address, restarted)
	if h.unobserved {
		h.core.view = nil
	}
	h.step(restoreEvent{h.disk, h.sim.now.Sub(h.saved)})
	for i := range h.disk {
		h.markSnapshot(&h.disk[i])
	}
	h.join()
	if h.slow == 0 {
		h.publish()
	} else {
		h.later(h.slow, h.publish)
	}
}

// later does something unless the daemon stops before.
func (h *simHost) later(d time.Duration, do func()) {
	generation := h.generation
	h.sim.after(d, func() {
		if h.generation == generation && h.core != nil {
			do()
		}
	})
}

// join makes the host find others, and after a partition find them again.
func (h *simHost) join() {
	h.component = -1 - h.number
	h.sim.unsettled = true
	for _, other := range h.sim.hosts {
		if other != h && h.sim.reachable(h, other) {
			h.sim.connect(other, h)
			break
		}
	}
	h.later(time.Duration(h.sim.rand.Int64N(int64(rejoinInterval))), h.rejoin)
}

func (h *simHost) rejoin() {
	var lost []*simHost
	for _, other := range h.sim.hosts {
		if other != h && !other.isClone && h.membership(other).reported == 0 {
			lost = append(lost, other)
		}
	}
	for range min(rejoinNodes, len(lost)) {
		h.sim.connect(h, lost[h.sim.rand.IntN(len(lost))])
	}
	h.later(rejoinInterval, h.rejoin)
}

// move puts the host on a side of a partition. Whom it meets there it must find.
func (h *simHost) move(side int) {
	if side != h.side {
		h.sim.unsettled = true
		h.side = side
		h.component = -1 - h.number
	}
}

func (h *simHost) publish() {
	for _, key := range slices.Sorted(maps.Keys(h.networks)) {
		h.step(subscribeEvent{h.networks[key]})
		for _, mac := range slices.SortedFunc(maps.Keys(h.endpoints[key]), compareMACs) {
			e := h.endpoints[key][mac]
			h.step(putEvent{key, &e})
		}
	}
}

func compareMACs(a, b MAC) int { return bytes.Compare(a[:], b[:]) }

// save puts on disk what is known of the others.
func (h *simHost) save() { h.disk, h.saved = h.core.snapshot(), h.sim.now }

func (h *simHost) crash() {
	h.core = nil
	h.sim.unsettled = true
	h.downSince = h.sim.now
}

// rewind puts the disk back to an earlier state, and the clock with it.
func (h *simHost) rewind() {
	h.incarnation -= min(h.incarnation, uint64(h.sim.rand.IntN(1e6)))
	h.clock -= time.Hour
	h.sim.rewound = true
}

// wipe makes the disk empty: the host comes back as another node.
func (h *simHost) wipe() {
	binary.LittleEndian.PutUint64(h.id[1:], h.sim.rand.Uint64())
	h.incarnation = 0
	h.disk = nil
	clear(h.networks)
	clear(h.endpoints)
}

// clone starts another host on a copy of the disk.
func (h *simHost) clone() {
	clone := h.sim.add(h.id)
	clone.isClone = true
	clone.incarnation, clone.disk, clone.saved, clone.side = h.incarnation, h.disk, h.saved, h.side
	for key, n := range h.networks {
		clone.networks[key] = n
		clone.endpoints[key] = maps.Clone(h.endpoints[key])
	}
	clone.start()
	h.sim.rewound, h.sim.cloned = true, true
}

func (h *simHost) leave() {
	h.step(leaveEvent{})
	clear(h.networks)
	clear(h.endpoints)
	h.later(500*time.Millisecond, func() {
		h.left = true
		h.crash()
	})
}

func (h *simHost) subscribe(n Network) {
	if h.core.check(n) != nil {
		return
	}
	h.networks[n.Key] = n
	if h.endpoints[n.Key] == nil {
		h.endpoints[n.Key] = map[MAC]Endpoint{}
	}
	h.step(subscribeEvent{n})
}

// remake has a network made anew, encrypted or not, without a look at what the others have: they may be cut off.
func (h *simHost) remake(n Network) {
	h.unsubscribe(n.Key)
	h.networks[n.Key] = n
	h.endpoints[n.Key] = map[MAC]Endpoint{}
	h.step(subscribeEvent{n})
}

func (h *simHost) unsubscribe(key string) {
	delete(h.networks, key)
	delete(h.endpoints, key)
	clear(h.watermarks) // what is pulled anew may come from one who lags
	h.step(unsubscribeEvent{key})
}

func (h *simHost) put(key string, e Endpoint) {
	if _, ok := h.networks[key]; ok {
		h.endpoints[key][e.MAC] = e
		h.step(putEvent{key, &e})
	}
}

func (h *simHost) remove(key string, mac MAC) {
	delete(h.endpoints[key], mac)
	h.step(deleteEvent{key, mac})
}

func (h *simHost) step(ev event) {
	h.after(h.core.step(h.sim.now, ev))
}

// after does what a step wants done.
func (h *simHost) after(out output) {
	if out.persist != 0 {
		h.incarnation = out.persist
		h.sim.unsettled = true
	}
	for i := range out.sends {
		h.sim.transmit(h, &out.sends[i])
	}
	for _, address := range out.join {
		h.sim.connect(h, h.sim.at[address])
	}
	for _, ch := range out.changes {
		h.take(ch)
	}
	for _, n := range out.log {
		if !h.unobserved {
			h.notes = append(h.notes, n.text)
		}
	}
	next := h.core.next()
	if !next.After(h.sim.now) {
		h.sim.fail("%s: a timer at %s did not run at %s", h, next, h.sim.now)
	}
	if h.timer.IsZero() || next.Before(h.timer) || !h.timer.After(h.sim.now) {
		h.timer = next
		h.later(next.Sub(h.sim.now), func() {
			if h.timer.Equal(next) {
				h.timer = time.Time{}
				h.step(nil)
			}
		})
	}
}

// take follows the observer's changes and checks that each makes sense.
func (h *simHost) take(ch Change) {
	about := ch.about()
	old, known := h.view[about]
	if ch.Gone {
		h.gone++
		gone := ch
		gone.Gone = false
		if !known || old != gone {
			h.sim.fail("%s: told that %+v is gone; it had %+v", h, ch, old)
		}
		delete(h.view, about)
		return
	}
	if known && old == ch {
		h.sim.fail("%s: told %+v twice", h, ch)
	}
	h.view[about] = ch
}

// about is what the change is about, as text.
func (ch Change) about() string {
	what := ch.VTEP.String()
	switch ch.Kind {
	case KindMAC:
		what = ch.MAC.String()
	case KindAddr:
		what = ch.Addr.String()
	case KindNames:
		what += ch.MAC.String()
	}
	return fmt.Sprint(ch.Network, ch.Kind, what)
}
