package discovery

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/sirupsen/logrus"
)

// Cluster is this node's membership of a cluster, and the collector of its
// metrics. All methods are safe for concurrent use.
type Cluster struct {
	cfg         Config
	log         logrus.FieldLogger
	identity    *identity
	address     netip.AddrPort // of the start: its port and family stay, see Move
	gossip      *gossip
	affiliation *affiliation
	limiter     *limiter
	metrics     *metrics

	keysMu   sync.Mutex // before mu
	keys     keyring
	hurry    bool      // a rotation waits for nobody who is down
	asked    bool      // this node's operator said so
	giveAt   time.Time // when this node next gives others the new key
	stepAt   time.Time // when it takes its next step at the earliest
	given    chan keyMessage
	rotating chan struct{} // there may be a step to take

	mu      sync.Mutex
	core    *core
	pending []output            // of steps whose effects are not done yet
	changes []Change            // not yet given to Observe
	seeds   map[netip.Addr]bool // of AddSeed
	twin    Twin

	rejectedMu sync.Mutex
	rejected   map[string]uint64

	greeting          greeting                     // of this process
	greeted           time.Time                    // by the run loop
	named             map[netip.AddrPort]time.Time // where membership has found this node's name: the run loop's
	asking, answering chan struct{}                // have room for the greetings under way
	doubted           atomic.Bool                  // another node was said to have this one's name
	fenced            chan *TwinError
	looked            chan struct{} // closed when all that are to be joined were tried
	reached           sync.Map      // whether the last join of a netip.AddrPort succeeded

	wake         chan struct{}       // the run loop has something to do
	observe      chan struct{}       // the observer has
	memberUp     chan struct{}       // a member is up that the snapshot may lack
	joinRequests chan netip.AddrPort // to whom AddSeed named, and to nodes that are no members but talk to this one
	ctx          context.Context     // until Close
	cancel       context.CancelFunc
	joining      context.Context // until Leave or Close
	stopJoin     context.CancelFunc
	wg           sync.WaitGroup
	closed       sync.Once
	closeErr     error
}

// Open starts the node and joins the cluster in the background. A node that was
// here before announces its records only when they have been quiet for a moment,
// or after three seconds: give it its networks and endpoints right away, and the
// others notice no gap.
func Open(cfg Config) (*Cluster, error) { return open(cfg, listenSockets) }

func open(cfg Config, listen listener) (*Cluster, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	seeds, err := parseSeeds(cfg.Join)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	id, err := openIdentity(cfg.Dir, time.Now())
	if err != nil {
		return nil, err
	}
	cluster, err := openCluster(cfg.Dir)
	if err != nil {
		return nil, err
	}
	ring, err := openKeyring(&cfg, cluster != clusterID{})
	if err != nil {
		return nil, err
	}
	limiter := newLimiter(time.Minute)
	c := &Cluster{
		keys:         ring,
		rotating:     make(chan struct{}, 1),
		given:        make(chan keyMessage, 16),
		cfg:          cfg,
		log:          cfg.Log,
		identity:     id,
		affiliation:  newAffiliation(id.id, cluster, limiter, cfg.Log.Warnf),
		limiter:      limiter,
		metrics:      newMetrics(),
		seeds:        map[netip.Addr]bool{},
		rejected:     map[string]uint64{},
		greeting:     greeting{instance: 1 + rand.Uint64N(math.MaxUint64), started: id.incarnation, host: cfg.Host},
		named:        map[netip.AddrPort]time.Time{},
		asking:       make(chan struct{}, maxGreetings),
		answering:    make(chan struct{}, maxGreetings),
		fenced:       make(chan *TwinError, 1),
		looked:       make(chan struct{}),
		wake:         make(chan struct{}, 1),
		observe:      make(chan struct{}, 1),
		memberUp:     make(chan struct{}, 1),
		joinRequests: make(chan netip.AddrPort, 16),
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.joining, c.stopJoin = context.WithCancel(c.ctx)
	if err := c.start(listen); err != nil {
		c.cancel()
		return nil, err
	}
	c.wg.Go(c.run)
	c.wg.Go(c.runObserver)
	c.wg.Go(c.runSave)
	c.wg.Go(c.runRotation)
	c.wg.Go(func() { c.runJoin(seeds) })
	return c, nil
}

func (c *Cluster) start(listen listener) error {
	m := meta{host: c.cfg.Host, vtep: c.cfg.VTEP, incarnation: c.identity.incarnation, keys: c.keys.fingerprints(), claim: c.affiliation.claim(), whole: c.cfg.Whole, networks: true, tests: true}
	g, err := newGossip(c.ctx, c, m, listen)
	if err != nil {
		return err
	}
	c.gossip, c.address = g, *g.address.Load()
	c.core = newCore(time.Now(), rand.Uint64(), c.identity.id, m, c.address, c.identity.restarted)
	c.core.statics = c.cfg.Static
	c.restore()
	return g.start()
}

// SetMTU tells the others how long a packet of VXLAN this node receives, in bytes of outer IP packet.
func (c *Cluster) SetMTU(mtu int) {
	c.gossip.setMeta(func(m *meta) { m.mtu = uint32(mtu) })
	c.do(mtuEvent{uint32(mtu)})
}

func (cfg *Config) check() error {
	if cfg.Log == nil {
		cfg.Log = logrus.StandardLogger()
	}
	if cfg.Observe == nil {
		cfg.Observe = func([]Change) {}
	}
	if cfg.Used == nil {
		cfg.Used = func() bool { return false }
	}
	if !cfg.Advertise.IsValid() {
		cfg.Advertise = cfg.Bind.Addr()
	}
	switch {
	case !cfg.Bind.IsValid():
		return errors.New("field Bind is not set: give the address and port to listen on for gossip, such as 0.0.0.0:7950")
	case !cfg.Advertise.IsValid() || cfg.Advertise.IsUnspecified() || cfg.Advertise.Zone() != "":
		return fmt.Errorf("field Advertise %s is no address that other nodes can reach: give one of this host's", cfg.Advertise)
	case !cfg.VTEP.IsValid() || cfg.VTEP.Addr().IsUnspecified() || cfg.VTEP.Port() == 0 || cfg.VTEP.Addr().Zone() != "":
		return fmt.Errorf("field VTEP %s is no address and port that other nodes can send VXLAN to", cfg.VTEP)
	case len(cfg.Host) > maxHost || !utf8.ValidString(cfg.Host):
		return fmt.Errorf("field Host %q is not at most %d bytes of UTF-8", cfg.Host, maxHost)
	}
	return cfg.checkStatic()
}

// Subscribe subscribes this node to a network: its peers learn of it, and
// their records of the network come into the view. It fails when the VNI is
// used by another key, the key has another VNI, or one of the two is encrypted,
// on this node or on a member that is up.
func (c *Cluster) Subscribe(n Network) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.core.check(n); err != nil {
		return err
	}
	c.step(subscribeEvent{n})
	return nil
}

// Unsubscribe ends this node's subscription to a network and withdraws its records of it.
// What the view had of it is reported as gone.
func (c *Cluster) Unsubscribe(key string) { c.do(unsubscribeEvent{key}) }

// Put publishes an endpoint of this node in a network it subscribes to,
// replacing the one with the same MAC address.
func (c *Cluster) Put(key string, e Endpoint) {
	if len(e.ID) > maxEndpointID || !utf8.ValidString(e.ID) || len(e.Addrs) > MaxAddrs {
		c.log.Errorf("endpoint %s is not published: its ID %q has more than %d bytes of UTF-8, or it has more than %d addresses",
			e.MAC, e.ID, maxEndpointID, MaxAddrs)
		return
	}
	if len(e.Extras) > MaxExtras {
		c.log.Errorf("endpoint %s is not published: it has %d extra addresses, at most %d", e.MAC, len(e.Extras), MaxExtras)
		return
	}
	if err := checkNames(e.Names); err != nil {
		c.log.Errorf("endpoint %s is not published: %v", e.MAC, err)
		return
	}
	e.Extras = slices.Clone(e.Extras)
	e.Addrs = slices.Clone(e.Addrs)
	for i, a := range e.Addrs {
		if !a.IsValid() {
			c.log.Errorf("endpoint %s is not published: address %d is not valid", e.MAC, i)
			return
		}
		e.Addrs[i] = a.Unmap().WithZone("")
	}
	c.do(putEvent{key, &e})
}

// Delete withdraws an endpoint of this node.
func (c *Cluster) Delete(key string, mac MAC) { c.do(deleteEvent{key, mac}) }

// Resolve gives the VNI to use for a network key: the number in "vni=N", else
// the VNI the cluster already uses for the key, else one from 4096 up, derived
// from the key, that no other key is known to have.
func (c *Cluster) Resolve(key string) uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.core.resolve(key)
}

// Subscribers lists the other members that subscribe to a network, whatever they
// say of it.
func (c *Cluster) Subscribers(key string) []Subscriber {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.core.subscribers(key)
}

// Self is this node.
func (c *Cluster) Self() Member {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.core.member(time.Now(), c.core.self)
}

// Members lists every known node, this one included, by ID.
func (c *Cluster) Members() []Member {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.core.members(time.Now())
}

// Records lists every known record, this node's included, by network, owner and
// MAC address.
func (c *Cluster) Records() []Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.core.records()
}

// Complete says whether this node has the records of all members that share a
// network with it: it has asked for them when it subscribed.
func (c *Cluster) Complete(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.core.complete(key)
}

// Claims lists the records of others that have the MAC address or one of the
// addresses in a network this node subscribes to, hidden ones last.
func (c *Cluster) Claims(key string, mac MAC, addrs []netip.Addr) []Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.core.claims(key, Endpoint{MAC: mac, Addrs: addrs})
}

// Standing says how an extra address of this node stands against what others
// claim in a network this node subscribes to.
func (c *Cluster) Standing(key string, e Extra) Standing {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.core.standing(key, e)
}

// Answers asks a member whether it is there, and waits about a second for a word
// of it. It tells a host that has just died, which membership takes seconds to
// find out. Who cannot be asked is taken to be there: the owner of what is static,
// and who was lost when this node was cut off.
func (c *Cluster) Answers(id string) bool {
	if id == StaticOwner {
		return true
	}
	for _, m := range c.Members() {
		if m.ID == id {
			return m.Self || m.Frozen || m.State != StateDead && m.State != StateLeft && c.gossip.ping(m)
		}
	}
	return false
}

// Withdraw takes the records of a dead node out of use that stayed in use as it went
// down together with many others (Member.Frozen): for when an operator knows that
// this node is not the one that was cut off. Its return puts them into use again.
func (c *Cluster) Withdraw(id string) error {
	node, err := parseNodeID(id)
	if err != nil {
		return err
	}
	c.do(withdrawEvent{node})
	return nil
}

// Conflicts lists the networks that members have set up otherwise than this node.
func (c *Cluster) Conflicts() []Conflict {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.core.allConflicts()
}

// Rejected counts the input that was not taken, by reason.
func (c *Cluster) Rejected() map[string]uint64 {
	c.rejectedMu.Lock()
	defer c.rejectedMu.Unlock()
	return maps.Clone(c.rejected)
}

func (c *Cluster) reject(reason string) { c.rejectTimes(reason, 1) }

func (c *Cluster) rejectTimes(reason string, times uint64) {
	c.rejectedMu.Lock()
	defer c.rejectedMu.Unlock()
	c.rejected[reason] += times
}

// noteRefusals counts and names what only somebody with the token can have said.
func (c *Cluster) noteRefusals(refused refusals) {
	for reason, r := range refused {
		c.rejectTimes(reason, r.times)
		if c.limiter.allow(reason) {
			c.log.Warnf("not taken from gossip (%s): %s", reason, r.detail)
		}
	}
}

// Leave tells the cluster that this node goes for good: its records are
// withdrawn everywhere. Close must follow. The error says that the word may not
// have reached everyone within the timeout; then the others find out as they
// would of a crash.
func (c *Cluster) Leave(timeout time.Duration) error {
	deadline := time.Now().Add(timeout)
	c.stopJoin()
	c.do(leaveEvent{})
	c.mu.Lock()
	alone := len(c.core.peers()) == 0
	c.mu.Unlock()
	if !alone {
		var repeats time.Duration // of the word, against loss
		for _, d := range beaconDelays {
			repeats += d
		}
		select {
		case <-time.After(min(timeout/2, repeats)):
		case <-c.ctx.Done():
		}
	}
	return c.gossip.leave(time.Until(deadline))
}

// Close stops the node. Without Leave before it the others take it for a crash,
// and go on using its records for a few seconds: long enough for a restart. It
// must not be called from Observe.
func (c *Cluster) Close() error {
	c.closed.Do(func() {
		c.cancel()
		c.closeErr = c.gossip.shutdown()
		c.wg.Wait()
	})
	return c.closeErr
}

// do runs one event through the core; the run loop does what follows from it.
func (c *Cluster) do(ev event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.step(ev)
}

// step is do with the lock held.
func (c *Cluster) step(ev event) {
	c.pending = append(c.pending, c.core.step(time.Now(), ev))
	signal(c.wake)
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// run feeds the core with time and with what comes in, and does what it wants
// done, in order.
func (c *Cluster) run() {
	timer := time.NewTimer(0)
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-c.wake:
		case <-timer.C:
		}
		events := c.gossip.events()
		c.mu.Lock()
		now := time.Now()
		for _, ev := range events {
			c.pending = append(c.pending, c.core.step(now, ev))
		}
		c.pending = append(c.pending, c.core.step(now, nil))
		outputs := c.pending
		c.pending = nil
		timer.Reset(c.core.next().Sub(now))
		c.mu.Unlock()
		for i := range outputs {
			c.perform(&outputs[i])
		}
	}
}

func (c *Cluster) perform(out *output) {
	if out.persist != 0 {
		if err := c.identity.advance(out.persist); err != nil {
			c.log.WithError(err).Error("the node's new incarnation is not on disk")
		}
		c.gossip.setMeta(func(m *meta) { m.incarnation = out.persist })
	}
	c.metrics.observe(out)
	c.noteRefusals(out.refused)
	c.affiliation.lose(out.gone)
	for _, n := range out.log {
		logAt(c.log, n.level, n.text)
	}
	for i := range out.sends {
		c.gossip.send(&out.sends[i])
	}
	if out.memberUp {
		signal(c.memberUp)
	}
	for _, address := range out.join {
		select {
		case c.joinRequests <- address:
		default:
		}
	}
	if len(out.changes) > 0 {
		c.mu.Lock()
		c.changes = append(c.changes, out.changes...)
		c.mu.Unlock()
		signal(c.observe)
	}
}

func (c *Cluster) runObserver() {
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-c.observe:
		}
		c.mu.Lock()
		changes := c.changes
		c.changes = nil
		c.mu.Unlock()
		if len(changes) > 0 {
			c.cfg.Observe(changes)
		}
	}
}
