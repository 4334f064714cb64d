package discovery

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/sirupsen/logrus"
)

// The core's timers and budgets.
const (
	flushDelay     = 5 * time.Millisecond // local changes collect this long before they are pushed
	syncInterval   = time.Second          // between digests to a random peer
	idleInterval   = 3 * time.Second      // when nothing has changed for idleAfter, and all digests are answered: less than half of an idle daemon's wakes are left
	idleAfter      = 10 * time.Second
	hideAfter      = 2 * time.Second       // a dead member's records stay in use this long
	forgetAfter    = 24 * time.Hour        // a dead or left member's records and watermark are kept this long
	pullRetry      = 60 * time.Millisecond // doubling: the last of pullTries is given up 1.86 s after the first
	pullTries      = 5                     // then the next digest finds it again
	refuteInterval = time.Second

	// A restarted node says nothing of itself until its own records have been
	// quiet for deferQuiet, or until deferMax after its start. Meanwhile the
	// others go on using what its last incarnation said.
	deferQuiet = 300 * time.Millisecond
	deferMax   = 3 * time.Second

	// Budgets a second, against storms when many nodes meet.
	maxDigests = 4
	maxAnswers = 8
)

// beaconDelays are the times after a push, and after each other, at which a
// node repeats its versions, so that a lost push is noticed soon: 40, 90, 180 and
// 320 ms after it.
var beaconDelays = [...]time.Duration{40 * time.Millisecond, 50 * time.Millisecond, 90 * time.Millisecond, 140 * time.Millisecond}

// core is the replicated state of one node and its protocol: a step function
// from time and event to output, without goroutines, clocks or I/O. It is not
// safe for concurrent use.
type core struct {
	now     time.Time // of the current step
	rand    *rand.Rand
	address netip.AddrPort // own gossip address
	self    *owner
	clock   uint64            // the last version given to a change of this node
	pushed  map[string]uint64 // by network: version up to which the own set was pushed
	owners  map[nodeID]*owner // self too
	order   []*owner          // by ID
	view    *view
	statics []Static
	pulls   map[pullKey]*pull

	announcing  bool           // the own announcement changed since the last flush
	beaconsLeft map[string]int // by network; "" is the announcement
	deferring   bool           // this node says nothing of itself yet
	deferEnd    time.Time
	deferLimit  time.Time
	flushAt     time.Time // zero: nothing to push
	beaconAt    time.Time // zero: no beacon due
	syncAt      time.Time
	syncedAt    time.Time // last digest
	changedAt   time.Time // last change of anything that digests are of
	refutedAt   time.Time
	up          int      // peers that are members
	failures    []*owner // peers that went down lately
	partitioned bool     // so many that this node is more likely cut off
	digests     int      // sent since the last sync
	answers     int      // full answers to digests since the last sync

	groupsCache map[string][]*group // by networks; see groups
	sumsCache   map[string][]uint64 // by networks, while nothing changes; see sums
	relays      map[relayKey]*relayBatch
	relayAt     time.Time // zero: nothing to pass on

	outbox map[nodeID]*packet // of this step, by recipient
	sender recipient          // of the message in this step
	out    output
}

// owner is what this node knows of a node: its membership, its announcement and
// its sets of the networks both subscribe to.
type owner struct {
	id         nodeID
	meta       meta
	address    netip.AddrPort
	member     bool      // memberlist holds it for alive
	seen       bool      // it has been a member
	downSince  time.Time // when it ceased to be one
	frozen     bool      // it went down together with too many others
	unanswered time.Time // the first digest since its last message

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

// output is what a step wants done, in this order.
type output struct {
	persist  uint64 // put this incarnation on disk and in the node's meta before anything is sent
	log      []logEntry
	sends    []send
	join     []netip.AddrPort // nodes that talk to us but are not members: join them
	memberUp bool             // a node became a member
	changes  []Change
	delays   []time.Duration // of the changes taken, since their owners made them
}

// logEntry is a line for the log.
type logEntry struct {
	level logrus.Level
	text  string
}

type send struct {
	to       []recipient
	packet   *packet
	reliable bool
}

type recipient struct {
	id      nodeID
	address netip.AddrPort
}

// Sizes of what is sent.
const (
	maxDatagram = 1300    // bytes; with encryption and headers below 1400
	maxPushed   = 16      // datagrams of one set's changes, 21 kB; beyond it others pull
	maxReliable = 1 << 20 // bytes after which another message begins
)

func newCore(now time.Time, seed uint64, id nodeID, m meta, address netip.AddrPort, restarted bool) *core {
	self := newOwner(id)
	self.meta, self.address, self.member, self.seen = m, address, true, true
	self.incarnation = m.incarnation
	c := &core{
		now:         now,
		rand:        rand.New(rand.NewPCG(seed, m.incarnation)),
		address:     address,
		self:        self,
		pushed:      map[string]uint64{},
		owners:      map[nodeID]*owner{id: self},
		order:       []*owner{self},
		view:        newView(),
		pulls:       map[pullKey]*pull{},
		beaconsLeft: map[string]int{},
		deferring:   restarted,
		deferEnd:    now.Add(deferMax),
		deferLimit:  now.Add(deferMax),
		syncAt:      now.Add(syncInterval),
		groupsCache: map[string][]*group{},
		sumsCache:   map[string][]uint64{},
		relays:      map[relayKey]*relayBatch{},
		outbox:      map[nodeID]*packet{},
	}
	// Of two nodes that run on copies of one disk, neither is to say something
	// else than the other under the same incarnation and version.
	c.clock = 1 + c.rand.Uint64N(1<<20)
	self.version = c.clock
	return c
}

// event is something that happened to the node.
type event interface{ apply(c *core) }

// step takes one event (nil: only time has passed) and says what to do.
func (c *core) step(now time.Time, ev event) output {
	c.now = now
	if ev != nil {
		ev.apply(c)
	}
	c.runTimers()
	c.sendOutbox()
	c.sender = recipient{}
	c.out.changes = append(c.out.changes, c.view.flush(c.now)...)
	c.out.log = append(c.out.log, c.view.takeWarnings()...)
	out := c.out
	c.out = output{}
	return out
}

// next is when step must run again at the latest.
func (c *core) next() time.Time {
	at := c.syncAt
	earlier := func(t time.Time) {
		if !t.IsZero() && t.Before(at) {
			at = t
		}
	}
	if c.deferring {
		earlier(c.deferEnd)
	}
	earlier(c.flushAt)
	earlier(c.beaconAt)
	earlier(c.relayAt)
	for _, p := range c.pulls {
		earlier(p.retryAt)
	}
	return at
}

func (c *core) due(at time.Time) bool { return !at.IsZero() && !at.After(c.now) }

func (c *core) runTimers() {
	if c.deferring && c.due(c.deferEnd) {
		c.deferring = false
		c.invalidateSums()
		c.announcing = true
		c.flushAt = c.now
	}
	c.retryPulls()
	if c.due(c.flushAt) {
		c.flushAt = time.Time{}
		c.flush()
	}
	if c.due(c.beaconAt) {
		c.beaconAt = time.Time{}
		c.beacon()
	}
	if c.due(c.relayAt) {
		c.relayAt = time.Time{}
		c.sendRelays()
	}
	if c.due(c.syncAt) {
		c.syncAt = c.now.Add(syncInterval)
		c.housekeep()
		c.sync()
	}
}

// housekeep hides who has been dead for a while and forgets who has been away
// for long.
func (c *core) housekeep() {
	c.view.unfreeze(c.now)
	c.order = slices.DeleteFunc(c.order, func(o *owner) bool {
		if o.member {
			return false
		}
		c.refresh(o)
		if c.now.Sub(o.downSince) < forgetAfter {
			return false
		}
		c.hide(o)
		delete(c.owners, o.id)
		c.invalidateSums()
		return true
	})
}

// indexOf is where in order an owner is or would be.
func (c *core) indexOf(id nodeID) int {
	at, _ := slices.BinarySearchFunc(c.order, id, func(o *owner, id nodeID) int { return bytes.Compare(o.id[:], id[:]) })
	return at
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

// shares says whether this node and the owner subscribe to the same network
// with the same VNI. Records are taken from nobody else.
func (c *core) shares(o *owner, key string) bool {
	ours, theirs := c.self.subscription(key), o.subscription(key)
	return ours != nil && theirs != nil && ours.VNI == theirs.VNI
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

func (c *core) infof(format string, args ...any) {
	c.out.log = append(c.out.log, logEntry{logrus.InfoLevel, fmt.Sprintf(format, args...)})
}

func (c *core) warnf(format string, args ...any) {
	c.out.log = append(c.out.log, logEntry{logrus.WarnLevel, fmt.Sprintf(format, args...)})
}

// visible says whether the owner's claims count.
func (c *core) visible(o *owner) bool {
	return o != c.self && (o.member || o.seen && (o.frozen && !o.left || c.now.Sub(o.downSince) < hideAfter))
}

// refresh brings the view in line with the owner's visibility and VTEP.
func (c *core) refresh(o *owner) {
	visible := c.visible(o)
	if !visible || o.shownVTEP != o.meta.vtep {
		c.hide(o)
	}
	if visible && !o.shown {
		c.show(o)
	}
}

// hide takes the owner's claims out of the view. What the same step puts in
// their place makes the observer see only the difference.
func (c *core) hide(o *owner) {
	if !o.shown {
		return
	}
	for _, key := range c.shared(o) {
		c.view.removeVTEP(key, o.id, o.shownVTEP)
		c.hideSet(o, key)
	}
	o.shown = false
}

func (c *core) show(o *owner) {
	o.shown, o.shownVTEP = true, o.meta.vtep
	for _, key := range c.shared(o) {
		c.view.addVTEP(key, o.id, o.shownVTEP)
		c.showSet(o, key)
	}
}

func (c *core) hideSet(o *owner, key string) {
	if s := o.set(key); s != nil && o.shown {
		for _, it := range s.live {
			c.view.removeEndpoint(key, o.id, o.shownVTEP, it.endpoint)
		}
	}
}

func (c *core) showSet(o *owner, key string) {
	if s := o.set(key); s != nil && o.shown {
		for _, it := range s.live {
			c.view.addEndpoint(key, o.id, o.shownVTEP, it.endpoint)
		}
	}
}
