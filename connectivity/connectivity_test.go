package connectivity_test

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/overlane/overlane/connectivity"
	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/hostnet"
	"github.com/overlane/overlane/internal/testns"
	"github.com/overlane/overlane/overlay"
)

// failing gives the pairs that fail, and why.
func failing(r connectivity.Result) map[string]string {
	all := map[string]string{}
	for _, p := range r.Pairs {
		if !p.OK {
			all[p.From+" "+p.To] = p.Reason
		}
	}
	return all
}

// All hosts reach each other by all that is tested, and nothing is left.
func TestAllReachEachOther(t *testing.T) {
	t.Parallel()
	f := newFabric(t, 3)
	var said []string
	r, err := f.hosts[1].Test(t.Context(), connectivity.Spec{}, func(text string) { said = append(said, text) })
	must(t, err)
	if !r.OK || len(r.Pairs) != 6 || len(failing(r)) > 0 || !r.Own {
		t.Fatalf("%+v", r)
	}
	for _, p := range r.Pairs {
		var names []string
		for _, c := range p.Checks {
			if !c.OK {
				t.Errorf("%s to %s: %+v", p.From, p.To, c)
			}
			names = append(names, c.Name)
		}
		if want := []string{"ping", "mtu", "tcp", "udp", "ping6", "mtu6", "tcp6", "udp6", "name"}; !slices.Equal(names, want) {
			t.Errorf("%s to %s: tested %v, want %v", p.From, p.To, names, want)
		}
	}
	if len(said) < 3 || !strings.Contains(said[0], "3 hosts") {
		t.Errorf("progress: %q", said)
	}
	f.empty()

	f.hosts[0].Receive(f.hosts[1].member.ID, f.hosts[0].first) // late: it would keep the host from the next test
	if r := f.test(2, ""); len(r.Pairs) != 6 {
		t.Errorf("the next test: %+v", r)
	}
}

// A network that some hosts have is tested between these.
func TestNetworkOfSomeHosts(t *testing.T) {
	t.Parallel()
	f := newFabric(t, 3)
	for _, n := range f.hosts[:2] {
		n.has["app"], n.has[appKey] = appKey, appKey
	}
	r := f.test(0, "app")
	if !r.OK || r.Network != appKey || r.Own || len(r.Pairs) != 2 || !r.Hosts[2].Absent {
		t.Errorf("%+v", r)
	}
	if _, err := f.hosts[2].Test(t.Context(), connectivity.Spec{Network: "app"}, func(string) {}); err == nil {
		t.Error("a host without the network tests it")
	}
	f.empty()
}

// What is dropped between two hosts in silence is found, with its direction, by what the two have counted.
func TestFirewall(t *testing.T) {
	t.Parallel()
	f := newFabric(t, 3)
	f.hosts[0].counts(1000, f.hosts[1], 50, 0)
	f.hosts[1].counts(1000, f.hosts[0], 60, 40)
	f.isolate(f.hosts[0], f.hosts[1])
	r := f.test(2, "")
	bad := failing(r)
	if r.OK || len(bad) != 2 {
		t.Fatalf("failing: %v", bad)
	}
	for _, pair := range []string{"host1 host2", "host2 host1"} {
		if !strings.Contains(bad[pair], "UDP port 4789 does not pass from host2 to host1: of 60 packets none came") {
			t.Errorf("%s: %q", pair, bad[pair])
		}
	}
	f.empty()
}

// A container whose interface was changed is told of, by its host, though all probes reach each other.
func TestContainerThatIsNotWell(t *testing.T) {
	t.Parallel()
	f := newFabric(t, 2)
	f.hosts[0].unnamed = "no socket"
	f.hosts[1].unwell = []overlay.Problem{{What: "container web\x1b[2J on network=app", Health: overlay.Health{Reason: "its interface is down", Advice: "restart it"}}}
	r := f.test(0, "")
	if r.OK || len(failing(r)) > 0 || len(r.Hosts[0].Unwell) > 0 || len(r.Hosts[1].Unwell) != 1 {
		t.Fatalf("%+v", r)
	}
	if r.Hosts[0].Unnamed != "no socket" || r.Hosts[1].Unnamed != "" {
		t.Errorf("without names: %+v", r.Hosts)
	}
	if u := r.Hosts[1].Unwell[0]; !strings.HasPrefix(u.What, "container web") || strings.Contains(u.What, "\x1b") || u.Reason == "" || u.Advice == "" {
		t.Errorf("%+v", u)
	}
	f.empty()
}

// The way out is tested from a container that has one, and says where it ends. A host without such a container says that.
func TestEgress(t *testing.T) {
	t.Parallel()
	f := newFabric(t, 2)
	for i, n := range f.hosts {
		n.member.VTEP = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, byte(1 + i)}), 4789) // this machine answers to these
	}
	egress := func() (checks []connectivity.Check, reasons []string) {
		r, err := f.hosts[0].Test(t.Context(), connectivity.Spec{Egress: true}, func(string) {})
		must(t, err)
		for _, p := range r.Pairs {
			checks, reasons = append(checks, p.Checks[len(p.Checks)-1]), append(reasons, p.Reason)
		}
		f.empty()
		return checks, reasons
	}
	checks, reasons := egress()
	for i, c := range checks {
		if c.Name != "egress" || c.Skipped != "no container of this host that can be looked into has a way out" || reasons[i] != "" {
			t.Errorf("without containers: %+v, %s", c, reasons[i])
		}
	}
	internal, open, shut := newContainer(t), newContainer(t), newContainer(t)
	must(t, internal.Do(func() error { testns.Run(t, "ip addr flush dev lo"); return nil }))
	must(t, shut.Do(func() error {
		testns.Run(t, "nft add table ip t", "nft 'add chain ip t o { type filter hook output priority 0; policy drop; }'")
		return nil
	}))
	f.hosts[0].containers, f.hosts[1].containers = []string{"/gone", "/dev/null", internal.Path(), shut.Path(), open.Path()}, []string{shut.Path()}
	checks, reasons = egress()
	if !checks[0].OK || reasons[0] != "" {
		t.Errorf("a way out: %+v, %s", checks[0], reasons[0])
	}
	if checks[1].OK || checks[1].Problem == "" || !strings.Contains(reasons[1], "containers of host2 get no answer from 127.0.0.1 through Docker's bridge") {
		t.Errorf("no way out: %+v, %s", checks[1], reasons[1])
	}
}

// newContainer is a namespace like a container's.
func newContainer(t *testing.T) *hostnet.Sandbox {
	t.Helper()
	s, err := hostnet.NewSandbox()
	must(t, err)
	t.Cleanup(s.Close)
	return s
}

// A path that carries less than the interfaces do in silence is named, with what it carries.
func TestMTU(t *testing.T) {
	t.Parallel()
	f := newFabric(t, 2)
	f.shell("nft add table bridge narrow", "nft 'add chain bridge narrow forward { type filter hook forward priority 0; }'", "nft add rule bridge narrow forward meta length gt 1300 drop")
	r := f.test(0, "")
	for pair, reason := range failing(r) {
		if !strings.Contains(reason, "packets of up to 1300 bytes pass, and not those of 1450") {
			t.Errorf("%s: %q", pair, reason)
		}
	}
	if r.OK || len(failing(r)) != 2 {
		t.Errorf("failing: %v", failing(r))
	}
	for _, n := range f.hosts { // also with connections over which nothing comes
		n.mu.Lock()
		if len(n.probes) > 0 {
			t.Errorf("%s has a probe after the test", n.member.Host)
		}
		n.mu.Unlock()
	}
}

// Hosts that can't be tested are listed with the reason, and fail the test.
func TestHostsThatAreNotTested(t *testing.T) {
	t.Parallel()
	f := newFabric(t, 5)
	f.hosts[1].member.State, f.hosts[1].member.Addr = discovery.StateDead, netip.MustParseAddrPort("127.0.0.1:9") // where nothing listens
	f.hosts[4].member.State, f.hosts[4].member.VTEP = discovery.StateDead, f.hosts[3].member.VTEP                 // host 4 was set up anew
	f.hosts[2].member.Tests = false
	f.hosts[2].member.Host = "host3\x1b[2J"
	f.hosts[0].health = overlay.Health{Reason: "last seen yesterday"}
	r := f.test(0, "")
	if r.OK || len(r.Pairs) != 2 || len(r.Hosts) != 4 {
		t.Errorf("%+v", r)
	}
	for i, want := range map[int]string{1: "last seen yesterday: dial tcp 127.0.0.1:9: connect: connection refused", 2: "does not know this test"} {
		if h := r.Hosts[i]; h.Tested || !strings.Contains(h.Reason, want) {
			t.Errorf("%+v, want %s", h, want)
		}
	}
	if called := r.Hosts[2].Host; called != "host3?[2J" {
		t.Errorf("a host is called %q, which a terminal obeys", called)
	}
	f.empty()
}

// A host that does not answer, as one whose daemon hangs, is told of; the others are tested.
func TestSilentHost(t *testing.T) {
	t.Parallel()
	f := newFabric(t, 3)
	f.hosts[1].deaf[f.hosts[0].member.ID] = true
	r := f.test(0, "")
	if r.OK || len(r.Pairs) != 2 || !strings.Contains(r.Hosts[1].Reason, "does not answer") {
		t.Errorf("%+v", r)
	}
	f.empty()
}

// Names that are off are told apart from packets that get lost.
func TestNamesOff(t *testing.T) {
	t.Parallel()
	f := newFabric(t, 2)
	f.hosts[0].noNames = "the kernel is too old"
	r := f.test(0, "")
	if bad := failing(r); len(bad) != 1 || !strings.Contains(bad["host1 host2"], "names are off on host1: the kernel is too old") {
		t.Errorf("failing: %v", bad)
	}
}

// A test that is broken off, and one whose leader goes away, leave nothing; a second test at the same time is refused.
func TestBrokenOff(t *testing.T) {
	t.Parallel()
	f := newFabric(t, 3)
	f.isolate(f.hosts[0], f.hosts[1]) // so that it takes some time
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := f.hosts[0].Test(ctx, connectivity.Spec{}, func(string) {})
		done <- err
	}()
	for _, n := range f.hosts {
		wait(t, n.member.Host+" has a probe", func() bool { n.mu.Lock(); defer n.mu.Unlock(); return len(n.probes) == 1 })
	}
	for _, n := range f.hosts[:2] {
		if _, err := n.Test(t.Context(), connectivity.Spec{}, func(string) {}); err == nil || !strings.Contains(err.Error(), "test of host host1 is under way") {
			t.Errorf("a second test: %v", err)
		}
	}
	cancel()
	f.empty()
	r, err := f.hosts[0].Test(t.Context(), connectivity.Spec{}, func(string) {}) // though the one that was broken off may not be over
	if err != nil || len(r.Pairs) != 6 {
		t.Errorf("the next test of the same host: %v, %+v", err, r)
	}
	if err := <-done; err == nil {
		t.Error("a test that is broken off has a result")
	}
	if r := f.test(2, ""); len(r.Pairs) != 6 {
		t.Errorf("the next test: %+v", r)
	}

	leading, gone := context.WithCancel(t.Context())
	defer gone()
	go f.hosts[0].Test(leading, connectivity.Spec{}, func(string) {})
	wait(t, "a probe", func() bool { n := f.hosts[2]; n.mu.Lock(); defer n.mu.Unlock(); return len(n.probes) == 1 })
	for _, n := range f.hosts[1:] {
		n.mu.Lock()
		n.deaf[f.hosts[0].member.ID] = true // as if it were killed
		n.mu.Unlock()
	}
	began := time.Now()
	f.empty()
	t.Logf("gone after %v", time.Since(began))
}

// A leader whose daemon stops has the others end their part, and waits for no word of theirs, which it would not hear.
func TestLeaderStops(t *testing.T) {
	t.Parallel()
	f := newFabric(t, 3)
	f.isolate(f.hosts[0], f.hosts[1]) // so that it takes some time
	done := make(chan error, 1)
	go func() {
		_, err := f.hosts[0].Test(t.Context(), connectivity.Spec{}, func(string) {})
		done <- err
	}()
	for _, n := range f.hosts {
		wait(t, n.member.Host+" has a probe", func() bool { n.mu.Lock(); defer n.mu.Unlock(); return len(n.probes) == 1 })
	}
	began := time.Now()
	f.hosts[0].Close()
	if took := time.Since(began); took > 3*time.Second { // for so long it would wait for their word
		t.Errorf("it stopped after %v", took)
	}
	if err := <-done; err == nil {
		t.Error("a test that is broken off has a result")
	}
	f.empty()
	if took := time.Since(began); took > 6*time.Second { // by themselves they do so eight after its last word, which comes every two
		t.Errorf("the others ended their part after %v", took)
	}
}

// isolate has two hosts reach the others alone. It counts from when their probes are there.
func (f *fabric) isolate(nodes ...*node) {
	for _, n := range nodes {
		n.isolated = true
	}
}

// counts says what a host has counted after a test: what the workers took from its probe, and packets to and from another host.
func (n *node) counts(probe uint64, other *node, sent, received uint64) {
	n.counted = overlay.ProbeCounts{Sent: probe, Paths: []overlay.HostTraffic{{Host: other.member.Host, VTEP: other.member.VTEP, Traffic: datapath.Traffic{TxPackets: sent, RxPackets: received, TxBytes: 100 * sent, RxBytes: 100 * received}}}}
}
