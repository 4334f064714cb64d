package connectivity

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/overlay"
)

// failedPair is one of which nothing passes, though all that is known of it is well.
func failedPair() *evidence {
	at := func(number byte) *host {
		return &host{Member: discovery.Member{ID: fmt.Sprint(number), Host: fmt.Sprint("host", number), State: discovery.StateAlive, VTEP: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, number}), 4789)}}
	}
	silence := []Check{{Name: "ping", Problem: "no answer"}, {Name: "tcp", Problem: "no connection"}, {Name: "udp", Problem: "no answer"}, {Name: "name", OK: true}}
	return &evidence{
		from: at(1), to: at(2),
		there: report{Phase: collect, Sent: 100}, back: report{Phase: collect, Sent: 100},
		found:   found{ID: "2", Announced: true, Sent: 10, Received: 10, SentBytes: 10000, ReceivedBytes: 9200, Checks: silence},
		reverse: found{ID: "1", Announced: true, Sent: 10, Received: 10, SentBytes: 10000, ReceivedBytes: 9200},
	}
}

// partial replaces what has come of the checks.
func (e *evidence) partial(checks ...Check) { e.found.Checks = checks }

// Each kind of black hole is told apart by what the two hosts know.
func TestCauses(t *testing.T) {
	for _, test := range []struct {
		name  string
		is    func(*evidence)
		cause string
	}{
		{"suspect", func(e *evidence) { e.to.State = discovery.StateSuspect }, "host2 is suspect"},
		{"down meanwhile", func(e *evidence) { e.from.State = discovery.StateDead }, "host1 is dead"},
		{"hangs", func(e *evidence) { e.to.Health = overlay.Health{Reason: "it does not answer", Advice: "look there"} }, "host2: it does not answer"},
		{"no record", func(e *evidence) { e.found.Announced = false }, "host1 has not heard of an endpoint on host2"},
		{"no record there", func(e *evidence) { e.reverse.Announced = false }, "host2 has not heard of an endpoint on host1"},
		{"full", func(e *evidence) { e.there.Unapplied = []string{"MAC 02:00:00:00:00:01: the table is full"} }, "on host1 it is not in force: MAC 02:00:00:00:00:01: the table is full"},
		{"unlike", func(e *evidence) {
			e.found.Announced, e.found.Otherwise = false, overlay.Health{Reason: "the network is encrypted on host1, and plain on host2", Advice: "make it anew"}
		}, "the network is encrypted on host1, and plain on host2"},
		{"no key", func(e *evidence) { e.reverse.NoKey = "no key yet" }, "the network is encrypted, and host2 has no key for host1: no key yet"},
		{"dead worker", func(e *evidence) { e.back.Sent = 0 }, "packet workers of host2 take no packets"},
		{"no route", func(e *evidence) { e.found.Sent, e.there.Drops = 0, map[string]uint64{"underlay_unreachable": 9} }, "host1 sends host2 nothing: underlay_unreachable, no route to the VTEP"},
		{"firewall", func(e *evidence) { e.reverse.Received, e.reverse.ReceivedBytes = 0, 0 }, "UDP port 4789 does not pass from host1 to host2: of 10 packets none came"},
		{"firewall back", func(e *evidence) { e.found.Received, e.found.ReceivedBytes = 0, 0 }, "UDP port 4789 does not pass from host2 to host1: of 10 packets none came"},
		{"translation", func(e *evidence) {
			e.reverse.Received, e.reverse.ReceivedBytes, e.back.Drops = 0, 0, map[string]uint64{"vtep_unknown": 10}
		}, "packets of host1 come to host2 from another address than 192.0.2.1, its VTEP"},
		{"firewall beside a stranger", func(e *evidence) {
			e.reverse.Received, e.reverse.ReceivedBytes, e.back.Drops = 0, 0, map[string]uint64{"vtep_unknown": 2}
		}, "UDP port 4789 does not pass from host1 to host2: of 10 packets none came"},
		{"firewall beside a busy stranger", func(e *evidence) {
			e.reverse.Received, e.reverse.ReceivedBytes, e.back.Drops = 0, 0, map[string]uint64{"vtep_unknown": 1000}
		}, "its VTEP, or get lost: of 10 packets 0 came, and host2 dropped 1000 from addresses that are no host's, which may be strangers'"},
		{"some flows translated", func(e *evidence) {
			e.partial(Check{Name: "udp", OK: true}, Check{Name: "tcp", Problem: "no connection"})
			e.reverse.ReceivedBytes, e.back.Drops = 4000, map[string]uint64{"vtep_unknown": 6}
		}, "packets of host1 come to host2 from another address than 192.0.2.1, its VTEP"},
		{"dropped there", func(e *evidence) { e.back.Drops = map[string]uint64{"spoofed_mac": 10, "probe": 99} }, "packets of host1 come to host2, and are dropped there: spoofed_mac"},
		{"sizes", func(e *evidence) {
			e.partial(Check{Name: "udp", OK: true}, Check{Name: "ping", OK: true}, Check{Name: "mtu", Problem: "packets of up to 1372 bytes pass, and not those of 1450"}, Check{Name: "tcp", Problem: "no answer"})
			e.found.Largest = 1372
		}, "packets of up to 1372 bytes pass"},
		{"TCP alone", func(e *evidence) {
			e.partial(Check{Name: "udp", OK: true}, Check{Name: "tcp", Problem: "no connection: refused"})
		}, "tcp: no connection: refused"},
		{"loss", func(e *evidence) {
			e.partial(Check{Name: "udp", OK: true}, Check{Name: "ping", Problem: "no answer"})
			e.reverse.ReceivedBytes = 5000
		}, "ping: no answer; much of what host1 sends host2 gets lost"},
		{"names off", func(e *evidence) {
			e.partial(Check{Name: "udp", OK: true}, Check{Name: "name", Problem: "its name is not known"})
			e.there.NoNames = "Linux 5.9 is the first that can"
		}, "names are off on host1: Linux 5.9 is the first that can"},
		{"no name", func(e *evidence) {
			e.partial(Check{Name: "udp", OK: true}, Check{Name: "name", Problem: "its name is not known"})
		}, "host1 does not answer for names: its name is not known"},
		{"unknown", func(*evidence) {}, "the cause is not known"},
	} {
		e := failedPair()
		test.is(e)
		if h := e.cause(); !strings.Contains(h.Reason, test.cause) || h.Advice == "" {
			t.Errorf("%s: %+v, want %s", test.name, h, test.cause)
		}
	}
}

// Of many hosts each is tested with some others, and none with more than a message holds.
func TestPairs(t *testing.T) {
	for _, n := range []int{2, everyPair, everyPair + 1, 1000} {
		l := &lead{said: map[string]report{}}
		for i := range n {
			l.hosts = append(l.hosts, &host{Member: discovery.Member{ID: fmt.Sprint(i)}, number: i + 1})
		}
		pairs, peers := l.pair(), 0
		for _, h := range l.hosts {
			peers += len(h.order.Peers)
			if len(h.order.Peers) == 0 || len(h.order.Peers) > maxPeers {
				t.Errorf("of %d hosts one is tested with %d", n, len(h.order.Peers))
			}
			if err := h.order.check(""); err != nil {
				t.Error(err)
			}
		}
		want := n * (n - 1)
		if n > everyPair {
			want = 2 * n * (some + 1)
		}
		if peers != 2*pairs || peers > want || n <= everyPair && peers != want {
			t.Errorf("of %d hosts %d pairs, %d from host to host: want %d", n, pairs, peers, want)
		}
	}
}

// A host that is slow, and answers, is told apart from one that is silent.
func TestSlowHost(t *testing.T) {
	l := &lead{said: map[string]report{}, reports: make(chan told, 1), m: Open(Config{Overlay: noOverlay{}})}
	slow := &host{Member: discovery.Member{ID: "1"}, order: order{Phase: run}, others: 3}
	l.c = deafCluster{}
	l.reports <- told{"1", report{Phase: prepare, Tested: 2}}
	if err := l.ask(t.Context(), []*host{slow}, time.Minute, func(r report) bool { return r.Tested == 2 }, nil); err != nil {
		t.Fatal(err)
	}
	if l.late(slow); !strings.Contains(slow.Reason, "it answers, and had not finished after 20s: 2 of 3 others tested") || slow.Advice == "" {
		t.Errorf("%+v", slow.Health)
	}
}

// deafCluster sends nothing.
type deafCluster struct{ Cluster }

func (deafCluster) Self() discovery.Member    { return discovery.Member{} }
func (deafCluster) Send(string, []byte) error { return nil }

// noOverlay knows nobody.
type noOverlay struct{ Overlay }

func (noOverlay) Members() []overlay.MemberStatus { return nil }

// What no host says is not taken.
func TestDecode(t *testing.T) {
	good := &message{Test: "0123abcd", Order: &order{Phase: prepare, Number: 1, VNI: 5000}}
	text, err := good.encode()
	if err != nil {
		t.Fatal(err)
	}
	if m, err := decode(text); err != nil || m.Order.VNI != 5000 {
		t.Errorf("%+v, %v", m, err)
	}
	for _, bad := range []string{
		"", "x", "C", `C{}`, `C{"test":"0123abcd"}`, `C{"test":"../etc","order":{"phase":2}}`, `C{"test":"0123abcd","order":{"phase":9}}`,
		`C{"test":"0123abcd","order":{"phase":1,"vni":5000}}`, `C{"test":"0123abcd","order":{"phase":1,"vni":0,"number":1}}`, `C{"test":"0123abcd","order":{"phase":1,"vni":16777216,"number":1}}`,
		`C{"test":"0123abcd","order":{"phase":4},"report":{"phase":4}}`, `C{"test":"0123abcd","order":{"phase":2,"peers":[{"addrs":["10.0.0.1","10.0.0.2","10.0.0.3"]}]}}`,
		`C{"test":"0123abcd","order":{"phase":2,"peers":[{"name":"db","addrs":["10.0.0.1"]}]}}`, `C{"test":"0123abcd","order":{"phase":2,"peers":[{"name":"overlane-test-4567abcd-1"}]}}`,
		`C{"test":"0123abcd","report":{"phase":1,"addrs":["10.0.0.1","10.0.0.2","10.0.0.3"]}}`,
		`C{"test":"0123abcd","order":{"phase":2,"peers":[` + strings.Repeat("{},", maxPeers) + `{}]}}`, "C" + strings.Repeat(" ", maxMessage),
	} {
		if m, err := decode([]byte(bad)); err == nil {
			t.Errorf("%.80q is taken as %+v", bad, m)
		}
	}
}

// No text of another host's commands the terminal on which it is shown.
func TestReportsArePlain(t *testing.T) {
	const bad = "a\x1b[2J\u009b\u202eb\nc"
	text, err := (&message{Test: "0123abcd", Report: &report{
		Busy: bad, Error: bad, Network: bad, NoNames: bad, Unapplied: []string{bad}, Drops: map[string]uint64{bad: 1},
		Peers: []found{{ID: bad, NoKey: bad, Otherwise: overlay.Health{Reason: bad, Advice: bad}, Checks: []Check{{Name: bad, Skipped: bad, Problem: bad}}}},
	}}).encode()
	if err != nil {
		t.Fatal(err)
	}
	m, err := decode(text)
	if err != nil {
		t.Fatal(err)
	}
	shown := fmt.Sprintf("%+v", *m.Report)
	if i := strings.IndexFunc(shown, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 || strings.Count(shown, "a?[2J??b c") != 13 {
		t.Errorf("%d: %q", i, shown)
	}
}
