package discovery

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// copyOf starts a node on a copy of another's data directory, as a clone of its machine does.
func copyOf(t *testing.T, l *lan, n *testNode, options ...nodeOption) *testNode {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(dir, os.DirFS(n.cfg.Dir)); err != nil {
		t.Fatal(err)
	}
	return startNode(t, l.listen, 9, append(options, func(c *Config) { c.Dir = dir })...)
}

// waitFenced waits until a node is told to end on account of another.
func (n *testNode) waitFenced(twin *testNode) {
	n.t.Helper()
	select {
	case err := <-n.Fenced():
		for _, part := range []string{twin.cfg.Host, twin.Self().Addr.String(), n.cfg.Dir, "does not serve", "remove"} {
			if !strings.Contains(err.Error(), part) {
				n.t.Errorf("%q has no word of %q", err, part)
			}
		}
	case <-time.After(longTime):
		n.t.Fatalf("it goes on\nlog:\n%s", n.logged)
	}
}

// Of two daemons on copies of one directory the second ends, and does not start again, not even where the first is away; the first goes on,
// and names the other. With an identity of its own the second is a member.
func TestCopyOfADataDirectoryDoesNotRun(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		a := startWithEndpoint(t, l, 1)
		b := startWithEndpoint(t, l, 2, withJoin(a))
		inOneCluster(a, b)
		time.Sleep(longTime) // what it knows is on disk
		second := copyOf(t, l, b)
		if err := second.Unique(longTime); err == nil || !strings.Contains(err.Error(), b.cfg.Host) {
			t.Errorf("it may serve: %v\nlog:\n%s", err, second.logged)
		}
		if twin, ok := b.Twin(); !ok || twin.Host != second.cfg.Host || twin.Addr != second.Self().Addr {
			t.Errorf("the first knows of %+v, %t", twin, ok)
		}
		second.Close()
		a.waitState(longTime, b, StateAlive)
		if v, m, _ := a.viewSize(); v != 1 || m != 1 || a.mac(testEndpoint(2, 1)) != b.cfg.VTEP.String() {
			t.Errorf("another host uses %d VTEPs and %d MAC addresses", v, m)
		}

		b.restart()
		if err := b.Unique(longTime); err != nil {
			t.Errorf("the first one starts again: %v", err)
		}
		b.Close()
		var twin *TwinError
		if c, err := open(second.cfg, l.listen); !errors.As(err, &twin) || !strings.Contains(twin.Twin, b.cfg.Host) {
			t.Errorf("it starts again: %v, %v", c, err)
		}
		b.open()
		if err := os.RemoveAll(second.cfg.Dir); err != nil {
			t.Fatal(err)
		}
		withJoin(a)(&second.cfg)
		second.open()
		a.waitState(longTime, second, StateAlive)
		second.waitState(longTime, b, StateAlive)
		if err := second.Unique(longTime); err != nil {
			t.Error(err)
		}
	})
}

// Two that could not see each other run both, until they meet: then the one that began later ends.
func TestTwinsThatMeetLater(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		a := startWithEndpoint(t, l, 1)
		inOneCluster(a)
		second := copyOf(t, l, a)
		if err := second.Unique(longTime); err != nil {
			t.Error(err)
		}
		second.joinRequests <- a.Self().Addr
		second.waitFenced(a)
		a.wait(longTime, "it knows of the other", func() bool { twin, _ := a.Twin(); return twin.Addr == second.Self().Addr })
		second.Close()
		a.wait(2*strangerMemory, "it forgets the other", func() bool {
			time.Sleep(time.Minute)
			_, known := a.Twin()
			return !known
		})
	})
}

// A node that starts again elsewhere is known to the others at its old address for a while, and is no twin of itself.
func TestNodeIsNoTwinOfItself(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		a := startWithEndpoint(t, l, 1)
		b := startWithEndpoint(t, l, 2, withJoin(a))
		inOneCluster(a, b)
		was := b.Self().Addr
		b.restartAt(netip.MustParseAddrPort("127.0.0.1:0"))
		b.subscribe(appNet)
		if err := b.Unique(longTime); err != nil {
			t.Error(err)
		}
		c := startNode(t, l.listen, 3, withJoin(a), func(c *Config) { c.Bind = was })
		a.waitState(longTime, c, StateAlive)
		a.waitState(longTime, b, StateAlive)
		time.Sleep(longTime)
		if twin, ok := b.Twin(); ok || len(b.Fenced()) > 0 {
			t.Errorf("it has a twin: %+v", twin)
		}
	})
}

// A node that has moved is no twin of itself; one that then runs on a copy where it was before is.
func TestCopyAtAFormerAddress(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		a := startWithEndpoint(t, l, 1)
		b := startWithEndpoint(t, l, 2, withJoin(a))
		inOneCluster(a, b)
		was := a.Self().Addr
		l.vanishes(a)
		move(t, a)
		time.Sleep(longTime)
		if twin, ok := a.Twin(); ok || len(a.Fenced()) > 0 {
			t.Errorf("it has a twin: %+v", twin)
		}
		second := copyOf(t, l, a, withJoin(b), func(c *Config) { c.Bind = was })
		second.waitFenced(a)
		if twin, _ := a.Twin(); twin.Addr != was {
			t.Errorf("the first knows of %+v", twin)
		}
	})
}

// One that was asked by an earlier one, which membership has not named to it, has membership look there.
func TestTwinThatIsAskedByTheFirst(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		a := startWithEndpoint(t, l, 1)
		inOneCluster(a)
		second := copyOf(t, l, a)
		if err := second.Unique(longTime); err != nil {
			t.Error(err)
		}
		a.gossip.inbox.add(conflict{address: second.Self().Addr})
		second.waitFenced(a)
	})
}

// forgeGreeting has one node send another a greeting as of a twin of that one which ran first.
func forgeGreeting(from, to *testNode, at netip.AddrPort, answers uint64) {
	from.gossip.send(&send{to: []recipient{{to.identity.id, to.address}},
		packet: &packet{from: to.identity.id, address: at, greeting: greeting{instance: 7, started: 1, to: answers, host: "forged"}}})
}

// Anybody may send a message under a node's own identity. It does not end the node, not even by what the node answers.
func TestForgedTwinEndsNobody(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		a := startWithEndpoint(t, l, 1)
		b := startWithEndpoint(t, l, 2, withJoin(a))
		inOneCluster(a, b)
		for _, to := range []uint64{0, 1, a.greeting.instance} {
			forgeGreeting(b, a, b.address, to)
		}
		time.Sleep(longTime)
		if len(a.Fenced()) > 0 {
			t.Errorf("it was ended: %v", <-a.Fenced())
		}
	})
}

// Who sends many greetings makes a node send few, and write one line.
func TestManyForgedGreetings(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		const many = 60
		a := startWithEndpoint(t, l, 1)
		b := startWithEndpoint(t, l, 2, withJoin(a))
		inOneCluster(a, b)
		victim, port, err := l.listen(t.Context(), netip.MustParseAddrPort("127.0.0.9:0"), nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range many {
			b.gossip.send(&send{to: []recipient{{a.identity.id, a.address}}, packet: &packet{from: a.identity.id,
				address: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"), port), greeting: greeting{instance: uint64(i + 1), started: 1 << 41, host: fmt.Sprint("forged", i)}}})
		}
		a.wait(longTime, "what is not answered is counted", func() bool { return a.Rejected()["greeting"] >= many-2*maxGreetings })
		victim.Shutdown() // no stream comes after it
		if n := len(victim.StreamCh()); n > 2*maxGreetings {
			t.Errorf("it opened %d streams for %d messages", n, many)
		}
		for len(victim.StreamCh()) > 0 {
			(<-victim.StreamCh()).Close()
		}
		if n := strings.Count(a.logged.String(), "has the identity of this host"); n != 1 {
			t.Errorf("it wrote %d lines", n)
		}
	})
}
