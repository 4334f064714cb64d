package connectivity

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/internal/check"
	"github.com/overlane/overlane/overlay"
)

const (
	// How long each phase may take. All of them together are half a minute.
	prepareTime = 6 * time.Second
	runTime     = 16 * time.Second
	collectTime = 4 * time.Second
	endTime     = 3 * time.Second
	// askPace is between two questions to a host that has not done what it was told, and wordPace to one that has: it goes on as long as it hears. Beyond
	// manyHosts all are asked at wordPace.
	askPace   = 250 * time.Millisecond
	wordPace  = 2 * time.Second
	manyHosts = 64
	// maxReports bounds those that wait to be read. More are lost, and asked for again.
	maxReports = 4096
	// everyPair is up to how many hosts each is tested with each; of more, each with some others.
	everyPair = 32
	some      = 4
)

// Spec is an operator's wish for a test.
type Spec struct {
	Network string `json:"network"` // name, key, subnet or ID; empty: one that is made for the test
	Egress  bool   `json:"egress"`  // a container of each host pings the other hosts, too
}

// lead is a test that this host leads.
type lead struct {
	m       *Manager
	c       Cluster
	test    string
	hosts   []*host
	said    map[string]report // by member ID
	heard   map[string]bool   // since the hosts were last given something else to do
	say     func(string)      // tells the operator how far it is
	reports chan told
}

// host is one of the cluster's.
type host struct {
	discovery.Member
	overlay.Health // why it is not tested; empty: it is
	number         int
	absent         bool // it has no part in the network
	order          order
	others         int // with so many it tests
}

func (h *host) tested() bool { return h.Reason == "" && !h.absent }

// Test tests between all hosts, and tells of its progress.
func (m *Manager) Test(ctx context.Context, spec Spec, say func(string)) (Result, error) {
	if err := m.awaitEnd(ctx); err != nil {
		return Result{}, err
	}
	l, err := m.begin(say)
	if err != nil {
		return Result{}, err
	}
	defer m.over()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(m.ctx, cancel)()
	began := time.Now()
	network := order{Phase: prepare, Encrypted: m.cfg.Encrypt, Egress: spec.Egress}
	if spec.Network != "" {
		if network.Network, err = m.cfg.Overlay.NetworkNamed(spec.Network); err != nil {
			return Result{}, err
		}
	} else {
		network.VNI = l.c.Resolve(overlay.OwnKey(ownName(l.test)))
	}
	l.findHosts()
	why := l.askDown()
	defer m.end(l) // also when ctx ends
	if err := l.prepare(ctx, network); err != nil {
		return Result{}, err
	}
	pairs := l.pair()
	if err := l.run(ctx, pairs); err != nil {
		return Result{}, err
	}
	why()
	if spec.Egress {
		l.withoutEgress()
	}
	return l.result(time.Since(began)), nil
}

// begin makes it the one test that this host leads.
func (m *Manager) begin(say func(string)) (*lead, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.cluster == nil:
		return nil, errors.New("overlane is stopping")
	case m.leads != "":
		return nil, errBusy(m.cluster.Self().Host)
	}
	var id [4]byte
	rand.Read(id[:]) // never fails (crypto/rand)
	m.leads, m.reports = hex.EncodeToString(id[:]), make(chan told, maxReports)
	m.running.Add(1)
	return &lead{m: m, c: m.cluster, test: m.leads, said: map[string]report{}, say: say, reports: m.reports}, nil
}

// awaitEnd waits while a test of this host's is broken off, as by an operator who then begins another.
func (m *Manager) awaitEnd(ctx context.Context) error {
	m.mu.Lock()
	ending := m.ending
	m.mu.Unlock()
	if ending == nil {
		return nil
	}
	select {
	case <-ending:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m *Manager) end(l *lead) {
	m.mu.Lock()
	m.ending = make(chan struct{})
	m.mu.Unlock()
	l.end()
}

func (m *Manager) over() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ending != nil {
		close(m.ending)
	}
	m.leads, m.reports, m.ending = "", nil, nil
	m.running.Done()
}

// findHosts lists the hosts, and says of those that can't be tested why.
func (l *lead) findHosts() {
	health := map[string]overlay.Health{}
	for _, s := range l.m.cfg.Overlay.Members() {
		health[s.ID] = s.Health
	}
	members := l.c.Members()
	up := map[netip.AddrPort]bool{}
	for _, member := range members {
		up[member.VTEP] = up[member.VTEP] || member.State == discovery.StateAlive || member.State == discovery.StateSuspect
	}
	for _, member := range members {
		h := &host{Member: member, number: len(l.hosts) + 1}
		plainly(&h.Host)
		switch {
		case member.State == discovery.StateLeft:
			continue
		case member.State == discovery.StateDead && up[member.VTEP]: // it was set up anew
			continue
		case member.State == discovery.StateDead:
			h.Health = health[member.ID]
			h.Reason = cmp.Or(h.Reason, "it is down")
		case !member.Tests:
			h.Health = overlay.Health{Reason: "its version of overlane does not know this test", Advice: "upgrade overlane there"}
		case h.number >= maxHosts:
			h.Health = overlay.Health{Reason: fmt.Sprintf("more than %d hosts are not tested", maxHosts-1)}
		}
		l.hosts = append(l.hosts, h)
	}
	slices.SortFunc(l.hosts, func(a, b *host) int { return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.ID, b.ID)) })
}

// askDown looks whether hosts that are down refuse gossip's connections or are silent. The function that it gives waits for that, and tells the hosts.
func (l *lead) askDown() (tell func()) {
	var asking sync.WaitGroup
	var down []*host
	for _, h := range l.hosts {
		if h.State == discovery.StateDead && len(down) < manyHosts {
			down = append(down, h)
		}
	}
	found := make([]check.Result, len(down))
	for i, h := range down {
		asking.Go(func() { found[i] = check.Gossip(l.c.Self().Addr.Addr(), check.Peer{Name: h.Host, Gossip: h.Addr}) })
	}
	return func() {
		asking.Wait()
		for i, h := range down {
			if found[i].State != check.OK {
				advice := found[i].Cure
				if h.Frozen {
					advice = h.Advice
				}
				h.Health = overlay.Health{Reason: h.Reason + ": " + found[i].Seen, Advice: advice}
			}
		}
	}
}

// inTest are the hosts that are tested.
func (l *lead) inTest() []*host {
	return slices.DeleteFunc(slices.Clone(l.hosts), func(h *host) bool { return !h.tested() })
}

// prepare has each host make its probe.
func (l *lead) prepare(ctx context.Context, o order) error {
	hosts := l.inTest()
	l.say(fmt.Sprintf("making probes on %d hosts", len(hosts)))
	for _, h := range hosts {
		h.order = o
		h.order.Number = h.number
	}
	settled := func(r report) bool { return r.Phase >= prepare || r.Error != "" || r.Busy != "" }
	if err := l.ask(ctx, hosts, prepareTime, settled, nil); err != nil {
		return err
	}
	for _, h := range hosts {
		r, heard := l.said[h.ID]
		switch {
		case r.Busy != "":
			return errBusy(r.Busy)
		case r.Absent:
			h.absent = true
		case r.Error != "":
			h.Health = overlay.Health{Reason: r.Error, Advice: "see overlane's log there"}
		case !heard:
			h.Health = l.silence(h)
		case r.Phase < prepare:
			h.Health = overlay.Health{Reason: fmt.Sprintf("it has no probe after %v", prepareTime), Advice: "look at that host's load, and at overlane's log there"}
		}
	}
	return nil
}

// silence says what may be with a host that does not answer.
func (l *lead) silence(h *host) overlay.Health {
	for _, s := range l.m.cfg.Overlay.Members() {
		if s.ID == h.ID && s.Reason != "" {
			return overlay.Health{Reason: fmt.Sprintf("it does not answer: %s is %s: %s", h.Host, s.State, s.Reason), Advice: s.Advice}
		}
	}
	return overlay.Health{Reason: "it does not answer, though gossip takes it for alive", Advice: "look whether overlane hangs there: `overlane status` on that host"}
}

// pair chooses who is tested with whom, and gives how many pairs these are, each in both directions.
func (l *lead) pair() int {
	hosts := l.inTest()
	chosen := map[[2]int]bool{}
	for i := range hosts {
		others := mathrand.Perm(len(hosts))
		if len(hosts) > everyPair {
			others = others[:some+1]
		}
		for _, j := range others {
			if i != j {
				chosen[[2]int{min(i, j), max(i, j)}] = true
			}
		}
	}
	for _, h := range hosts {
		h.order = order{Phase: run}
	}
	pairs := 0
	for pair := range chosen {
		a, b := hosts[pair[0]], hosts[pair[1]]
		if len(a.order.Peers) == maxPeers || len(b.order.Peers) == maxPeers {
			continue
		}
		a.order.Peers, b.order.Peers = append(a.order.Peers, l.peer(b)), append(b.order.Peers, l.peer(a))
		a.others++
		b.others++
		pairs++
	}
	return pairs
}

func (l *lead) peer(h *host) peer {
	r := l.said[h.ID]
	return peer{ID: h.ID, Name: probeName(l.test, h.number), Addrs: r.Addrs, MTU: r.MTU, VTEP: h.VTEP}
}

// run has the hosts test, and tell what they have found.
func (l *lead) run(ctx context.Context, pairs int) error {
	hosts := l.inTest()
	l.say(fmt.Sprintf("testing %d pairs of hosts, both ways", pairs))
	before := -1
	progress := func() {
		done := 0
		for _, h := range hosts {
			done += l.said[h.ID].Tested
		}
		if done != before {
			l.say(fmt.Sprintf("%d of %d tested", done, 2*pairs))
			before = done
		}
	}
	if err := l.ask(ctx, hosts, runTime, func(r report) bool { return r.Phase >= run || r.Error != "" }, progress); err != nil {
		return err
	}
	l.say("collecting what the hosts have found")
	for _, h := range hosts {
		h.order = order{Phase: collect}
	}
	return l.ask(ctx, hosts, collectTime, func(r report) bool { return r.Phase >= collect || r.Error != "" }, nil)
}

// withoutEgress says so of the hosts that did not test it.
func (l *lead) withoutEgress() {
	for _, r := range l.said {
		for i := range r.Peers {
			f := &r.Peers[i]
			if !slices.ContainsFunc(f.Checks, func(c Check) bool { return c.Name == "egress" }) {
				f.Checks = append(f.Checks, Check{Name: "egress", Skipped: "its version of overlane does not know this test"})
			}
		}
	}
}

// end has all hosts take away what they have made, and waits for that unless this daemon stops, which hears nothing more. Those that do not hear of
// it do so by themselves.
func (l *lead) end() {
	var waited []*host
	for _, h := range l.hosts {
		if h.order.Phase == 0 {
			continue
		}
		h.order = order{Phase: end}
		if _, heard := l.said[h.ID]; heard {
			waited = append(waited, h)
		} else {
			l.send(h)
		}
	}
	l.ask(l.m.ctx, waited, endTime, func(r report) bool { return r.Phase >= end }, nil)
}

// ask tells hosts what to do until each has done it, or time is up. It fails when ctx ends.
func (l *lead) ask(ctx context.Context, hosts []*host, limit time.Duration, done func(report) bool, progress func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	pace := askPace
	if len(hosts) > manyHosts {
		pace = wordPace
	}
	l.heard = map[string]bool{}
	again := time.NewTicker(askPace / 5)
	defer again.Stop()
	asked := map[string]time.Time{}
	for {
		left := 0
		for _, h := range hosts {
			wait := wordPace
			if r, heard := l.said[h.ID]; !heard || !done(r) {
				left++
				wait = pace
			}
			if now := time.Now(); now.Sub(asked[h.ID]) >= wait {
				asked[h.ID] = now
				l.send(h)
			}
		}
		if progress != nil {
			progress()
		}
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.New("the test was broken off")
		case <-deadline.C:
			return nil
		case <-again.C:
		case t := <-l.reports:
			l.said[t.from], l.heard[t.from] = t.report, true
		}
	}
}

// send tells one host, which may take its time over a stream.
func (l *lead) send(h *host) {
	o := h.order
	l.m.running.Go(func() { l.m.send(l.c, h.ID, &message{Test: l.test, Order: &o}) })
}
