package ipam

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"go.etcd.io/bbolt"

	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/overlay/ipam/prefix"
)

// Messages that wait to be looked at. Beyond them they are dropped, and come again.
const inboxSize = 1024

// Cluster is what the address management needs of discovery.
type Cluster interface {
	Self() discovery.Member
	Members() []discovery.Member
	Records() []discovery.Record
	Send(member string, text []byte) error
}

// InUse lists what this host's endpoints have: the subnets of its networks to the addresses in them.
type InUse map[netip.Prefix]map[netip.Addr]bool

// Config says how to open a Manager.
type Config struct {
	DB       *bbolt.DB
	Defaults []prefix.DefaultPool
	Seeded   bool                                    // the daemon was told of hosts to join
	Taken    func() (func(netip.Prefix) bool, error) // says whether a route or an interface of this host uses a subnet
	InUse    func() InUse
	Lost     func(map[netip.Addr]string) // gets the addresses in use here that other hosts took over, and those hosts' names, when that changes
	Log      logrus.FieldLogger
}

// Manager hands out addresses on this host.
type Manager struct {
	cfg     Config
	loaded  disk // until Attach
	cluster Cluster
	inbox   chan userMessage
	paced   chan struct{}   // the pace has changed
	ctx     context.Context // until Close
	cancel  context.CancelFunc
	done    sync.WaitGroup

	mu        sync.Mutex // held until what a step changed is on disk
	core      *core      // nil before Attach
	unwritten output     // what could not be written
	taken     map[netip.Addr]string
}

type userMessage struct {
	from string
	text []byte
}

var errNotReady = errors.New("overlane is still starting: try again")

// Open reads what is stored. Nothing is handed out before Attach.
func Open(cfg Config) (*Manager, error) {
	loaded, err := load(cfg.DB)
	if err != nil {
		return nil, fmt.Errorf("addresses in %s: %w", cfg.DB.Path(), err)
	}
	m := &Manager{cfg: cfg, loaded: loaded, inbox: make(chan userMessage, inboxSize), paced: make(chan struct{}, 1)}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	return m, nil
}

// Attach goes among the others. It is called once.
func (m *Manager) Attach(c Cluster) {
	self := c.Self()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cluster = c
	m.core = newCore(time.Now(), self.Incarnation, self.ID, self.Host, m.loaded.pools, m.loaded.leases)
	m.core.peerPools = m.loaded.peerPools
	m.core.suspects = m.suspects()
	m.core.seeded = m.cfg.Seeded
	m.core.lastUsed = m.lastUsed
	m.done.Go(m.run)
}

// suspects are the hosts that were known, to discovery or to the store that was lost, when this one had forgotten its pools.
func (m *Manager) suspects() map[string]string {
	if !m.loaded.pending {
		return m.loaded.suspects
	}
	suspects := m.loaded.suspects
	delete(suspects, m.cluster.Self().ID)
	up, absent, _ := m.members()
	maps.Copy(suspects, absent)
	maps.Copy(suspects, up)
	if err := saveSuspects(m.cfg.DB, suspects); err != nil {
		m.cfg.Log.WithError(err).Error("which hosts may have pools that this one has forgotten is not on disk")
	}
	return suspects
}

// Close ends what Attach began. Calls under way fail.
func (m *Manager) Close() {
	m.cancel()
	m.done.Wait()
}

// Receive takes a message from another host's Manager. It never waits.
func (m *Manager) Receive(from string, text []byte) {
	select {
	case m.inbox <- userMessage{from, text}:
	default:
	}
}

func (m *Manager) run() {
	beat := time.NewTicker(m.pace())
	defer beat.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.paced:
			beat.Reset(m.pace())
		case <-beat.C:
			m.informed(func(c *core) { c.collect() })
			m.tellTaken()
		case l := <-m.inbox:
			message, err := decode(l.text)
			if err != nil {
				m.cfg.Log.WithError(err).WithField("from", l.from).Warn("dropped a message about addresses")
				continue
			}
			m.receive(l.from, message)
		}
	}
}

// tellTaken is only called by run.
func (m *Manager) tellTaken() {
	m.mu.Lock()
	taken := m.core.taken()
	m.mu.Unlock()
	if !maps.Equal(taken, m.taken) {
		m.taken = taken
		m.cfg.Lost(taken)
	}
}

// receive looks who is up when the sender is not known to be: it may have come a moment ago.
func (m *Manager) receive(from string, message *message) {
	event := func(c *core) { c.receive(from, message) }
	m.mu.Lock()
	up := m.core.up(from)
	m.mu.Unlock()
	if up {
		m.step(event)
	} else {
		m.informed(event)
	}
}

// informed runs an event when the core knows how things stand, in the cluster and on this host.
func (m *Manager) informed(event func(c *core)) {
	up, absent, away := m.members()
	inUse, incarnation := m.cfg.InUse(), m.cluster.Self().Incarnation
	m.step(func(c *core) {
		c.renew(incarnation)
		c.meet(up, absent)
		c.away = away
		c.lives, c.inUse = inUse.lives, inUse.has
		c.closeReleased()
		event(c)
	})
}

// lives says whether an endpoint has the address. Of a pool that no network of this host uses nothing is known.
func (u InUse) lives(id poolID, addr netip.Addr) bool {
	addrs, known := u[id.Subnet]
	return !known || addrs[addr]
}

func (u InUse) has(id poolID) bool {
	_, has := u[id.Subnet]
	return has
}

// members are the other hosts that are up, and those that are down without having left: names by ID; and how those went that are not up.
func (m *Manager) members() (up, absent map[string]string, away map[string]absence) {
	up, absent, away = map[string]string{}, map[string]string{}, map[string]absence{}
	for _, member := range m.cluster.Members() {
		if !member.LastSeen.IsZero() {
			away[member.ID] = absence{member.LastSeen, member.Frozen}
		}
		switch {
		case member.Self || member.State == discovery.StateLeft:
		case member.State == discovery.StateDead:
			absent[member.ID] = member.Host
		default:
			up[member.ID] = member.Host
		}
	}
	return up, absent, away
}

// lastUsed lists the addresses that a host's endpoints had when it was last heard of.
func (m *Manager) lastUsed(id poolID, node string) []uint64 {
	var all []uint64
	for _, r := range m.cluster.Records() {
		for _, addr := range r.Endpoint.Addrs {
			if at, err := prefix.Offset(id.Subnet, addr); err == nil && r.Owner == node {
				all = append(all, at)
			}
		}
	}
	return all
}

func (m *Manager) pace() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.core.pace()
}

// step runs the core, and does what it wants done: what it decided is on disk before anybody hears of it.
func (m *Manager) step(event func(*core)) {
	m.mu.Lock()
	pace := m.core.pace()
	out := m.core.step(time.Now(), func() { event(m.core) })
	if m.core.pace() != pace {
		select {
		case m.paced <- struct{}{}:
		default:
		}
	}
	out.after(&m.unwritten)
	failed := save(m.cfg.DB, &out, m.core.peerPools)
	if out.suspects {
		failed = errors.Join(failed, saveSuspects(m.cfg.DB, m.core.suspects))
	}
	m.unwritten = output{}
	if failed != nil {
		m.unwritten = output{pools: out.pools, gone: out.gone, leases: out.leases, peerPools: out.peerPools, suspects: out.suspects}
	}
	m.mu.Unlock()
	for _, n := range out.notes {
		m.cfg.Log.WithFields(nil).Log(n.level, n.text)
	}
	if failed != nil {
		failed = fmt.Errorf("write to %s: %w", m.cfg.DB.Path(), failed)
		m.cfg.Log.WithError(failed).Error("addresses are not on disk: nothing is said of them")
		out.sends = nil
	}
	for _, s := range out.sends {
		m.send(s)
	}
	for _, done := range out.done {
		done(failed)
	}
}

func (m *Manager) send(s send) {
	log := m.cfg.Log.WithField("to", s.to)
	text, err := s.message.encode()
	if err != nil {
		log.WithError(err).Error("a message about addresses is too long to be sent")
		return
	}
	if err := m.cluster.Send(s.to, text); err != nil {
		log.WithError(err).Debug("a message about addresses was not sent")
	}
}

// wait runs an event whose answer may come later, and waits for it.
func wait[T any](m *Manager, event func(c *core, done func(T, error))) (T, error) {
	type result struct {
		value T
		err   error
	}
	var none T
	m.mu.Lock()
	ready := m.core != nil
	m.mu.Unlock()
	if !ready {
		return none, errNotReady
	}
	answer := make(chan result, 1)
	m.informed(func(c *core) { event(c, func(value T, err error) { answer <- result{value, err} }) })
	select {
	case r := <-answer:
		return r.value, r.err
	case <-m.ctx.Done():
		return none, errors.New("overlane is stopping: try again when it runs")
	}
}

// RequestPool makes this host use a pool, and gives its ID for the other calls. A zero subnet asks for that which the
// network has on other hosts, or else for a free one. A valid range restricts what this host hands out. The same wish
// again succeeds.
func (m *Manager) RequestPool(key string, subnet, within netip.Prefix, v6 bool) (id string, chosen netip.Prefix, err error) {
	if !subnet.IsValid() {
		if subnet, err = m.findSubnet(key, v6); err != nil {
			return "", netip.Prefix{}, err
		}
		if key == "" {
			key = SubnetKey(subnet)
		}
	}
	if err := prefix.Check(subnet, within); err != nil {
		return "", netip.Prefix{}, err
	}
	pool := poolID{key, subnet}
	var known bool
	_, err = wait(m, func(c *core, done func(struct{}, error)) {
		if other := c.overlapping(pool); other != nil {
			done(struct{}{}, fmt.Errorf("subnet %s: overlaps with subnet %s of %s, which this host has: give another --subnet%s", subnet, other.Subnet, other.Key, c.orGiveUp(other)))
			return
		}
		known = c.pools[pool] != nil && c.pools[pool].Member
		c.openPool(pool, within, func(err error) { done(struct{}{}, err) })
	})
	if err != nil && !known {
		m.step(func(c *core) { c.dropPool(pool) }) // who is refused a pool does not give it back
	}
	return pool.String(), subnet, err
}

// SubnetKey is the key of a network that its hosts agree on by its subnet alone.
func SubnetKey(subnet netip.Prefix) string { return "subnet=" + subnet.String() }

func (m *Manager) findSubnet(key string, v6 bool) (netip.Prefix, error) {
	if key != "" {
		subnet, err := wait(m, func(c *core, done func(netip.Prefix, error)) { c.search(key, v6, done) })
		if subnet.IsValid() || err != nil {
			return subnet, err
		}
	}
	taken, err := m.cfg.Taken()
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("subnet: which ones this host uses is not known: %w: give --subnet", err)
	}
	return wait(m, func(c *core, done func(netip.Prefix, error)) {
		done(prefix.Choose(m.cfg.Defaults, key, v6, func(subnet netip.Prefix) bool {
			return taken(subnet) || c.overlapping(poolID{"", subnet}) != nil
		}))
	})
}

// Find asks all hosts which subnet of an IP version a network has, whose addresses are handed out here; invalid: none.
func (m *Manager) Find(key string, v6 bool) (netip.Prefix, error) {
	return wait(m, func(c *core, done func(netip.Prefix, error)) { c.search(key, v6, done) })
}

// Around lists the subnets with an address in them whose addresses are handed out, as far as this host has heard of them.
func (m *Manager) Around(addr netip.Addr) (subnets []netip.Prefix) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.core == nil {
		return nil
	}
	for id := range m.core.peerPools {
		if id.Subnet.Contains(addr) {
			subnets = append(subnets, id.Subnet)
		}
	}
	for _, p := range m.core.sorted() {
		if p.Subnet.Contains(addr) {
			subnets = append(subnets, p.Subnet)
		}
	}
	slices.SortFunc(subnets, netip.Prefix.Compare)
	return slices.Compact(subnets)
}

// PoolID is the ID of a pool for the calls that want one.
func PoolID(key string, subnet netip.Prefix) string { return poolID{key, subnet}.String() }

// ClosePool ends the use of a pool and of its addresses, unless a network of this host has it. One that is not known is no error.
func (m *Manager) ClosePool(text string) error {
	return m.endPool(text, (*core).dropPool)
}

// ReleasePool ends the use of a pool, when no network of this host has it any more. One that is not known is no error.
func (m *Manager) ReleasePool(text string) error {
	return m.endPool(text, (*core).releasePool)
}

func (m *Manager) endPool(text string, end func(*core, poolID)) error {
	id, err := parsePoolID(text)
	if err != nil {
		return nil
	}
	_, err = wait(m, func(c *core, done func(struct{}, error)) {
		end(c, id)
		c.out.done = append(c.out.done, func(failed error) { done(struct{}{}, failed) })
	})
	return err
}

// RequestAddress hands out an address of a pool, with the subnet's prefix length.
func (m *Manager) RequestAddress(pool string, r Request) (netip.Prefix, error) {
	id, err := parsePoolID(pool)
	if err != nil {
		return netip.Prefix{}, err
	}
	addr, err := wait(m, func(c *core, done func(netip.Addr, error)) { c.request(id, r, done) })
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(addr, id.Subnet.Bits()), nil
}

// ReleaseAddress gives an address back. One that is not in use is no error.
func (m *Manager) ReleaseAddress(pool string, addr netip.Addr) error {
	id, err := parsePoolID(pool)
	if err != nil {
		return nil
	}
	_, err = wait(m, func(c *core, done func(struct{}, error)) {
		c.release(id, addr)
		c.out.done = append(c.out.done, func(failed error) { done(struct{}{}, failed) })
	})
	return err
}

// Used says whether a network of this host uses a pool.
func (m *Manager) Used() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.core == nil {
		return slices.ContainsFunc(m.loaded.pools, func(p stored) bool { return p.Member })
	}
	return slices.ContainsFunc(m.core.sorted(), func(p *pool) bool { return p.Member })
}

// KeyOf is the network's key for which this host has a pool with the subnet; empty: it has none.
func (m *Manager) KeyOf(subnet netip.Prefix) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.core == nil {
		return ""
	}
	for _, p := range m.core.sorted() {
		if p.Member && p.Subnet == subnet {
			return p.Key
		}
	}
	return ""
}

// NameOf is what the container is called that an address of this host was asked for; empty: the engine did not say, or it is not in use.
func (m *Manager) NameOf(addr netip.Addr) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.core == nil {
		return ""
	}
	for _, p := range m.core.sorted() {
		if at, err := prefix.Offset(p.Subnet, addr); p.Member && err == nil && p.used[at].Name != "" {
			return p.used[at].Name
		}
	}
	return ""
}

// Take makes an address this host's whose owner is down, on an operator's word that its container there does not run any more.
func (m *Manager) Take(addr netip.Addr) error {
	_, err := wait(m, func(c *core, done func(netip.Addr, error)) {
		for _, p := range c.sorted() {
			if p.Member && p.Subnet.Contains(addr) {
				c.request(p.id, Request{Addr: addr, Ordered: true}, done)
				return
			}
		}
		done(netip.Addr{}, fmt.Errorf("address %s: no network of this host has it: `overlane ipam` lists their subnets", addr))
	})
	return err
}

// Reclaim has the others take the addresses of hosts that are lost for good: by name or ID; without any named, those of all that are down.
func (m *Manager) Reclaim(hosts []string) (Reclaimed, error) {
	return wait(m, func(c *core, done func(Reclaimed, error)) {
		lost, err := c.lostOnes(hosts)
		if err != nil || len(lost) == 0 {
			done(Reclaimed{}, err)
			return
		}
		from := c.described(lost)
		c.reclaim(lost, func(taken uint64, err error) { done(Reclaimed{taken, from}, err) })
	})
}

// Reclaimed says how many addresses were taken.
type Reclaimed struct {
	Addresses uint64
	From      string // the hosts, for people; empty: none is down
}

// How long the others may take to hear of what a host gives them when it leaves.
const leavePatience = 10 * time.Second

// Leave gives this host's addresses to the others, for good. It fails while endpoints have some, and when nobody takes them.
func (m *Manager) Leave() error {
	closed, err := wait(m, func(c *core, done func([]poolID, error)) { done(c.leave()) })
	for end := time.Now().Add(leavePatience); err == nil; time.Sleep(tick) {
		var left string
		left, err = wait(m, func(c *core, done func(string, error)) { done(c.owning(), nil) })
		if left == "" {
			return err
		}
		if time.Now().After(end) {
			_, err = wait(m, func(c *core, done func(struct{}, error)) {
				c.stay(closed)
				done(struct{}{}, nil)
			})
			return cmp.Or(err, fmt.Errorf("no other host that is up took what this one has of %s: it stays this host's, and in use", left))
		}
	}
	return err
}
