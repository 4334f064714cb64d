package connectivity_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/overlane/overlane/connectivity"
	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/discovery"
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
	if r.Seconds > 10 {
		t.Errorf("it took %v s", r.Seconds)
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
	f.hosts[1].member.State = discovery.StateDead
	f.hosts[4].member.State, f.hosts[4].member.VTEP = discovery.StateDead, f.hosts[3].member.VTEP // host 4 was set up anew
	f.hosts[2].member.Tests = false
	f.hosts[2].member.Host = "host3\x1b[2J"
	f.hosts[0].health = overlay.Health{Reason: "last seen yesterday"}
	r := f.test(0, "")
	if r.OK || len(r.Pairs) != 2 || len(r.Hosts) != 4 {
		t.Errorf("%+v", r)
	}
	for i, want := range map[int]string{1: "last seen yesterday", 2: "does not know this test"} {
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
	if err := <-done; err == nil {
		t.Error("a test that is broken off has a result")
	}
	f.empty()
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
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it stopped after %v", took)
	}
	if err := <-done; err == nil {
		t.Error("a test that is broken off has a result")
	}
	f.empty()
	if took := time.Since(began); took > 5*time.Second { // by themselves they do so after eight
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
