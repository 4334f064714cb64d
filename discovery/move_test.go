package discovery

import (
	"context"
	"log"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// moved is what others are to know of the node that moves.
const moved = "127.0.0.9:4789"

// vanishes takes a node's address away: nothing reaches it there, nor leaves from there.
func (l *lan) vanishes(n *testNode) {
	l.set(func() { l.nodes[n.Self().Addr.String()].gone = true; delete(l.nodes, n.Self().Addr.String()) })
}

func move(t *testing.T, n *testNode) {
	t.Helper()
	to := netip.MustParseAddr("127.0.0.9")
	if err := n.Move(to, to); err != nil {
		t.Fatal(err)
	}
}

// A node's address changes under way: its peers send to the new one within three seconds, and nothing was withdrawn meanwhile.
func TestMoveToAnotherAddress(t *testing.T) {
	for name, loss := range map[string]float64{"without loss": 0, "a third of the datagrams lost": 0.33} {
		t.Run(name, func(t *testing.T) {
			onLAN(t, func(t *testing.T, l *lan) {
				nodes := startThree(t, l.listen)
				a := nodes[0]
				for _, n := range nodes {
					n.forget()
				}
				l.set(func() { l.loss = loss })
				l.vanishes(a)
				time.Sleep(500 * time.Millisecond) // what it takes to get the next one
				move(t, a)
				for _, n := range nodes[1:] {
					took := n.wait(3*time.Second, "the new VTEP is used", func() bool { return n.mac(testEndpoint(1, 1)) == moved })
					t.Logf("%s after %s", n.cfg.Host, took)
				}
				l.set(func() { l.loss = 0 })
				a.Put(appKey, testEndpoint(1, 2))
				time.Sleep(time.Minute)
				for _, n := range nodes {
					n.waitState(0, a, StateAlive)
					for _, ch := range n.gone() {
						if ch.Kind != KindVTEP || n == a {
							t.Errorf("%s withdrew %+v", n.cfg.Host, ch)
						}
					}
					if twin, ok := n.Twin(); ok || len(n.Fenced()) > 0 {
						t.Errorf("%s takes the node for a copy of itself: %+v\n%s", n.cfg.Host, twin, n.logged)
					}
				}
				nodes[1].wait(0, "what changes after the move", func() bool { return nodes[1].mac(testEndpoint(1, 2)) == moved })
				if at := a.Self(); at.Addr.Addr().String() != "127.0.0.9" || at.VTEP.String() != moved {
					t.Errorf("the node is at %+v", at)
				}
			})
		})
	}
}

// Each peer hears of a move at first hand, however many they are: by gossip they would in 17 to 36 seconds.
func TestMoveAmongMany(t *testing.T) {
	const peerCount = 32
	onLAN(t, func(t *testing.T, l *lan) {
		a := startNode(t, l.listen, 1)
		a.subscribe(appNet)
		a.Put(appKey, testEndpoint(1, 1))
		var peers []*testNode
		for i := range peerCount {
			n := startNode(t, l.listen, i+2, withJoin(a))
			n.subscribe(appNet)
			peers = append(peers, n)
		}
		for _, n := range peers {
			n.wait(patience, "the endpoint is known", func() bool { return n.mac(testEndpoint(1, 1)) != "" })
		}
		a.wait(patience, "all are up", func() bool { return len(a.Members()) == 1+peerCount })
		l.vanishes(a)
		move(t, a)
		for _, n := range peers {
			n.wait(3*time.Second, "the new VTEP is used", func() bool { return n.mac(testEndpoint(1, 1)) == moved })
		}
	})
}

// behindNAT listens as a node does whose own address is translated to another one (--bind).
func (l *lan) behindNAT(outside netip.Addr) listener {
	return func(ctx context.Context, bind netip.AddrPort, log *log.Logger) (memberlist.NodeAwareTransport, uint16, error) {
		transport, port, err := l.listen(ctx, bind, log)
		if err == nil {
			l.set(func() { l.nodes[netip.AddrPortFrom(outside, port).String()] = transport.(*lanNode) })
		}
		return transport, port, err
	}
}

// Only the address that the others do not know changes. To them nothing has, but the node hears them again.
func TestMoveBehindNAT(t *testing.T) {
	outside := netip.MustParseAddr("203.0.113.1")
	onLAN(t, func(t *testing.T, l *lan) {
		a := startNode(t, l.behindNAT(outside), 1, func(c *Config) { c.Advertise, c.VTEP = outside, netip.AddrPortFrom(outside, 4789) })
		b := startNode(t, l.listen, 2, withJoin(a))
		for i, n := range []*testNode{a, b} {
			n.subscribe(appNet)
			n.Put(appKey, testEndpoint(i+1, 1))
		}
		a.waitView(patience, 1, 1, 2)
		b.waitView(patience, 1, 1, 2)
		a.forget()
		b.forget()
		l.set(func() { l.nodes[a.Self().Addr.String()].gone = true; delete(l.nodes, a.Self().Addr.String()) })
		if err := a.Move(netip.MustParseAddr("127.0.0.9"), outside); err != nil {
			t.Fatal(err)
		}
		a.Put(appKey, testEndpoint(1, 2))
		b.wait(3*time.Second, "what changes after the move", func() bool { return b.mac(testEndpoint(1, 2)) == "203.0.113.1:4789" })
		b.Put(appKey, testEndpoint(2, 2))
		a.wait(3*time.Second, "what the other changes", func() bool { return a.mac(testEndpoint(2, 2)) != "" })
		time.Sleep(time.Minute)
		for _, n := range []*testNode{a, b} {
			n.waitState(0, a, StateAlive)
			n.waitState(0, b, StateAlive)
			if gone := n.gone(); len(gone) > 0 {
				t.Errorf("%s withdrew %+v", n.cfg.Host, gone)
			}
			if strings.Contains(n.logged.String(), "copy of the data directory") {
				t.Errorf("%s takes the node for a copy of itself:\n%s", n.cfg.Host, n.logged)
			}
		}
	})
}

// The address was away for so long that the others took the node for dead, and it them. One of them died for good meanwhile.
func TestMoveAfterAnOutage(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		nodes := startThree(t, l.listen)
		a, b, c := nodes[0], nodes[1], nodes[2]
		l.vanishes(a)
		b.waitState(time.Minute, a, StateDead)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		move(t, a)
		took := b.wait(10*time.Second, "the new VTEP is used", func() bool { return b.mac(testEndpoint(1, 1)) == moved })
		t.Logf("after %s", took)
		a.wait(time.Minute, "the other's records", func() bool { return a.mac(testEndpoint(2, 1)) != "" })
		a.waitState(time.Minute, c, StateDead)
		a.waitState(time.Minute, b, StateAlive)
	})
}

// Of an address that can't be had nothing follows: the node stays where it is.
func TestMoveToATakenAddress(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		nodes := startThree(t, l.listen)
		a, b := nodes[0], nodes[1]
		l.set(func() {
			l.nodes[netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"), a.Self().Addr.Port()).String()] = &lanNode{}
		})
		to := netip.MustParseAddr("127.0.0.9")
		if err := a.Move(to, to); err == nil || !strings.Contains(err.Error(), "in use") {
			t.Errorf("move to a taken address: %v", err)
		}
		six := netip.MustParseAddr("::1")
		if err := a.Move(six, six); err == nil || !strings.Contains(err.Error(), "family") {
			t.Errorf("move to another family: %v", err)
		}
		a.Put(appKey, testEndpoint(1, 2))
		b.wait(time.Second, "the node goes on", func() bool { return b.mac(testEndpoint(1, 2)) == "192.0.2.1:4789" })
	})
}
