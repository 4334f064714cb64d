package connectivity

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/overlay"
)

const (
	// patience is how long a host waits for a word of the one that leads. That one asks every two seconds at least.
	patience = 8 * time.Second
	// longest is when a test ends that has not ended otherwise.
	longest = time.Minute
	// atOnce is with how many others a host tests at the same time: each has a thread.
	atOnce = everyPair
)

// The subnets of a test's own network. They are of no account beyond the probes' namespaces: those of RFC 2544 and a unique local one.
var (
	ownSubnet4 = netip.MustParsePrefix("198.18.0.0/15")
	ownSubnet6 = netip.MustParsePrefix("fd6f:766c:7465:7374::/64")
)

// part is this host's in a test.
type part struct {
	m            *Manager
	cluster      Cluster
	leader, test string
	spec         order // that began it
	log          logrus.FieldLogger
	ctx          context.Context // until it is to end
	cancel       context.CancelFunc
	patience     *time.Timer
	peers        chan []peer   // with whom to test
	collect      chan struct{} // closed when all hosts have tested
	collecting   sync.Once

	mu     sync.Mutex
	report report
}

// newPart is called with the manager's lock held.
func newPart(m *Manager, leader, test string, spec order) *part {
	p := &part{m: m, cluster: m.cluster, leader: leader, test: test, spec: spec, log: m.log.WithField("test", test), peers: make(chan []peer, 1), collect: make(chan struct{})}
	p.ctx, p.cancel = context.WithTimeout(m.ctx, longest)
	p.patience = time.AfterFunc(patience, p.cancel)
	return p
}

// obey takes an order, and tells how far it is.
func (p *part) obey(o *order) *report {
	p.patience.Reset(patience)
	switch {
	case o.Phase == end:
		p.cancel()
	case o.Phase >= collect:
		p.collecting.Do(func() { close(p.collect) })
	case o.Phase == run:
		select {
		case p.peers <- o.Peers:
		default: // they are known
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.report
	if o.Phase < collect {
		r.Peers, r.Unwell, r.MoreUnwell = nil, nil, 0
	}
	return &r
}

// tell changes the report.
func (p *part) tell(change func(*report)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.report)
}

// take goes through the test to its end.
func (p *part) take() {
	defer p.cancel()
	defer p.patience.Stop()
	if err := p.through(); err != nil && p.ctx.Err() == nil {
		p.log.WithError(err).Info("this host takes no part in a test of connectivity")
		p.tell(func(r *report) { r.Error, r.Absent = err.Error(), errors.Is(err, overlay.ErrNotHere) })
		<-p.ctx.Done()
	}
}

func (p *part) through() (err error) {
	sandbox, err := p.m.cfg.Sandbox()
	if err != nil {
		return err
	}
	defer sandbox.Close()
	probe, err := p.m.cfg.Overlay.AddProbe(p.probeSpec(sandbox))
	if err != nil {
		return err
	}
	defer func() {
		if err := p.m.cfg.Overlay.RemoveProbe(probe); err != nil {
			p.log.WithError(err).Error("what a test of connectivity has made is not removed: overlane tries again")
		}
	}()
	t, err := newTester(sandbox, p.test, probe)
	if err != nil {
		return err
	}
	defer t.close()
	before, names := p.m.cfg.Overlay.CountProbe(probe), p.m.cfg.Overlay.Names()
	p.tell(func(r *report) {
		r.Phase, r.Network, r.MTU, r.NoNames = prepare, probe.Network, probe.MTU, cmp.Or(names.Off, names.Failed[sandbox.Path()])
		for _, a := range probe.Addrs {
			r.Addrs = append(r.Addrs, a.Addr())
		}
	})
	p.work(t, probe, before)
	return nil
}

// work tests when it is told with whom, and counts when all hosts have done so.
func (p *part) work(t *tester, probe *overlay.Probe, before overlay.ProbeCounts) {
	var peers []peer
	select {
	case peers = <-p.peers:
	case <-p.ctx.Done():
		return
	}
	all := make([]found, len(peers))
	var trying sync.WaitGroup
	places := make(chan struct{}, atOnce)
	for i, to := range peers {
		trying.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			all[i] = t.try(p.ctx, to, p.heardOf(probe, to))
			if p.spec.Egress && p.ctx.Err() == nil {
				all[i].Checks = append(all[i].Checks, p.egress(p.ctx, to))
			}
			p.tell(func(r *report) { r.Tested++ })
		})
	}
	trying.Wait()
	p.tell(func(r *report) { r.Phase = run })
	select {
	case <-p.collect:
	case <-p.ctx.Done():
		return
	}
	p.tell(func(r *report) { p.count(r, all, peers, probe, before) })
	<-p.ctx.Done()
}

// heardOf gives those of a peer's addresses that it has announced as its probe's. Others are not tried: who leads could have this host send to any
// container. It waits for gossip.
func (p *part) heardOf(probe *overlay.Probe, to peer) (addrs []netip.Addr) {
	for end := time.Now().Add(settleTime); ; time.Sleep(settleTime / 60) {
		addrs = slices.DeleteFunc(slices.Clone(to.Addrs), func(a netip.Addr) bool { return !p.m.cfg.Overlay.Announced(probe, to.ID, to.Name, a) })
		if len(addrs) == len(to.Addrs) || p.ctx.Err() != nil || time.Now().After(end) {
			return addrs
		}
	}
}

// count adds what is known of the time since before.
func (p *part) count(r *report, all []found, peers []peer, probe *overlay.Probe, before overlay.ProbeCounts) {
	o := p.m.cfg.Overlay
	after := o.CountProbe(probe)
	r.Phase, r.Sent, r.Drops, r.Unapplied = collect, after.Sent, map[string]uint64{}, o.Unapplied(probe)
	r.Unwell = o.ContainerProblems()
	r.Unnamed = o.Unnamed()
	r.MoreUnwell = max(0, len(r.Unwell)-maxUnwell)
	r.Unwell = r.Unwell[:len(r.Unwell)-r.MoreUnwell]
	for name, n := range after.Drops {
		if n > before.Drops[name] {
			r.Drops[name] = n - before.Drops[name]
		}
	}
	keys := map[string]overlay.EncryptionStatus{}
	if probe.Encrypted {
		for _, s := range o.Encryption() {
			keys[s.ID] = s
		}
	}
	otherwise := o.Otherwise(probe)
	was, is := pathsOf(before), pathsOf(after)
	for i, to := range peers {
		f := &all[i]
		b, a := was[to.VTEP], is[to.VTEP]
		f.Sent, f.Received, f.SentBytes, f.ReceivedBytes = a.TxPackets-b.TxPackets, a.RxPackets-b.RxPackets, a.TxBytes-b.TxBytes, a.RxBytes-b.RxBytes
		f.Otherwise = otherwise[to.ID]
		if s := keys[to.ID]; probe.Encrypted && s.Cipher == "" {
			f.NoKey = cmp.Or(s.Reason, "no key is agreed on yet")
		}
	}
	r.Peers = all
}

func pathsOf(c overlay.ProbeCounts) map[netip.AddrPort]datapath.Traffic {
	all := map[netip.AddrPort]datapath.Traffic{}
	for _, path := range c.Paths {
		all[path.VTEP] = path.Traffic
	}
	return all
}

// probeSpec says which probe the test wants.
func (p *part) probeSpec(sandbox Sandbox) overlay.ProbeSpec {
	spec := overlay.ProbeSpec{Network: p.spec.Network, Name: probeName(p.test, p.spec.Number), Sandbox: sandbox}
	if p.spec.Network == "" {
		spec.Own = overlay.OwnNetwork{Name: ownName(p.test), VNI: p.spec.VNI, Addrs: ownAddrs(p.spec.Number, sandbox.HasIPv6()), Encrypted: p.spec.Encrypted}
	}
	return spec
}

// ownName is what the test's own network is called.
func ownName(test string) string { return "overlane-test-" + test }

// probeName is by what the others find a host's probe.
func probeName(test string, number int) string { return ownName(test) + "-" + strconv.Itoa(number) }

// ownAddrs are those of a host in the test's own network.
func ownAddrs(number int, six bool) []netip.Prefix {
	four, sixteen := ownSubnet4.Addr().As4(), ownSubnet6.Addr().As16()
	binary.BigEndian.PutUint16(four[2:], uint16(number))
	binary.BigEndian.PutUint16(sixteen[14:], uint16(number))
	addrs := []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4(four), ownSubnet4.Bits())}
	if six {
		addrs = append(addrs, netip.PrefixFrom(netip.AddrFrom16(sixteen), ownSubnet6.Bits()))
	}
	return addrs
}
