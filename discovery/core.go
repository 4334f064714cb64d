package discovery

import (
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
	rejoinTime     = time.Hour             // a node that was off looks so long for those that were up before, however long it was
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
	held        int      // endpoints of others, about: see roomForRecords
	failures    []*owner // peers that went down lately
	partitioned bool     // so many that this node is more likely cut off
	digests     int      // sent since the last sync
	answers     int      // full answers to digests since the last sync

	groupsCache map[string][]*group // by networks; see groups
	sumsCache   map[string][]uint64 // by networks, while nothing changes; see sums
	relays      map[relayKey]*relayBatch
	relayAt     time.Time // zero: nothing to pass on

	outbox   map[nodeID]*packet // of this step, by recipient
	sender   recipient          // of the message in this step
	streamed bool               // that came over a stream
	out      output
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
	refused  refusals
	gone     []nodeID // of whom nothing is known any more
}

// logEntry is a line for the log.
type logEntry struct {
	level logrus.Level
	text  string
}

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
	c.sender, c.streamed = recipient{}, false
	c.out.changes = append(c.out.changes, c.view.flush(c.now)...)
	c.out.log = append(c.out.log, c.view.takeWarnings()...)
	c.view.takeRefusals(&c.out.refused)
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
	c.countRecords()
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
		c.out.gone = append(c.out.gone, o.id)
		c.invalidateSums()
		return true
	})
}

func (c *core) infof(format string, args ...any) {
	c.out.log = append(c.out.log, logEntry{logrus.InfoLevel, fmt.Sprintf(format, args...)})
}

func (c *core) warnf(format string, args ...any) {
	c.out.log = append(c.out.log, logEntry{logrus.WarnLevel, fmt.Sprintf(format, args...)})
}
