package discovery

import (
	"net/netip"
	"testing"
	"time"
)

// way gives what a node says of the ways to and from another that is up.
func (n *testNode) way(of *testNode) (deaf, mute, up bool) {
	id := of.Self().ID
	for _, m := range n.Members() {
		if m.ID == id && m.State != StateDead {
			return m.Deaf, m.Mute, true
		}
	}
	return false, false, false
}

func (n *testNode) waitWay(of *testNode, deaf, mute bool) {
	n.t.Helper()
	n.wait(longTime, "it says which way is blocked", func() bool {
		d, m, up := n.way(of)
		return up && d == deaf && m == mute
	})
}

// Datagrams of one host get lost, all of them, from the start or later on, where streams get through: its records travel over streams,
// both ways, nobody takes it for dead, and both say which way is blocked. Once datagrams arrive all is as it was.
func TestRecordsTravelWhereDatagramsDoNot(t *testing.T) {
	for name, blocked := range map[string]struct{ early, all, own bool }{
		"one way from the start": {early: true}, "one way later": {}, "all later": {all: true}, "all from the start": {early: true, all: true}, "by its own firewall": {own: true},
	} {
		t.Run(name, func(t *testing.T) {
			onLAN(t, func(t *testing.T, l *lan) {
				a := startWithEndpoint(t, l, 1)
				block := func(b netip.AddrPort) {
					l.set(func() {
						l.mute, l.own = b, blocked.own
						if blocked.all {
							l.loss = 1
						}
					})
				}
				bind := netip.MustParseAddrPort("127.0.0.2:7950")
				if blocked.early {
					block(bind)
				}
				b := startWithEndpoint(t, l, 2, withJoin(a), func(c *Config) { c.Bind = bind })
				c := startWithEndpoint(t, l, 3, withJoin(a))
				if !blocked.early {
					a.waitView(longTime, 2, 2, 4)
					b.waitView(longTime, 2, 2, 4)
					block(bind)
				}
				a.waitWay(b, blocked.all, true)
				b.waitWay(a, true, blocked.all)
				for _, n := range []*testNode{a, b, c} {
					n.waitView(longTime, 2, 2, 4)
				}
				for i := 2; i < 5; i++ {
					b.Put(appKey, testEndpoint(2, i))
					a.wait(longTime, "the record of the host that is not heard", func() bool { return a.mac(testEndpoint(2, i)) != "" })
					c.wait(longTime, "the same on a third host", func() bool { return c.mac(testEndpoint(2, i)) != "" })
					a.Put(appKey, testEndpoint(1, i))
					b.wait(longTime, "the record of the other", func() bool { return b.mac(testEndpoint(1, i)) != "" })
				}
				if !a.Answers(b.Self().ID) || !b.Answers(a.Self().ID) {
					t.Error("a host that is up does not answer: its addresses would be taken over")
				}
				time.Sleep(longTime)
				a.waitState(longTime, b, StateAlive)
				if gone := a.gone(); len(gone) > 0 {
					t.Errorf("withdrawn: %+v", gone)
				}

				l.set(func() { l.mute, l.loss = netip.AddrPort{}, 0 })
				for _, n := range []*testNode{a, c} {
					n.waitWay(b, false, false)
					b.waitWay(n, false, false)
				}
			})
		})
	}
}

// A lossy network is none that is blocked.
func TestLossIsNoBlockade(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		l.loss = 0.2
		a := startWithEndpoint(t, l, 1)
		b := startWithEndpoint(t, l, 2, withJoin(a))
		a.waitState(longTime, b, StateAlive)
		wrong := 0
		for range 600 {
			time.Sleep(100 * time.Millisecond)
			if deaf, mute, up := a.way(b); deaf || mute || !up {
				wrong++
			}
		}
		if wrong > 60 {
			t.Errorf("a way was called blocked for %d tenths of a second of 600", wrong)
		}
	})
}

// What is asked of another host arrives too.
func TestUserMessagesTravelWhereDatagramsDoNot(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		received := make(chan string, 1)
		a := startWithEndpoint(t, l, 1, func(c *Config) { c.Receive = func(from string, _ []byte) { received <- from } })
		b := startWithEndpoint(t, l, 2, withJoin(a))
		b.waitState(longTime, a, StateAlive)
		l.set(func() { l.mute = b.Self().Addr })
		b.waitWay(a, true, false)
		if err := b.Send(a.Self().ID, []byte("give me addresses")); err != nil {
			t.Fatal(err)
		}
		if from := <-received; from != b.Self().ID {
			t.Errorf("it is from %s", from)
		}
	})
}
