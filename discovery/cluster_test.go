package discovery

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// The tests here run real nodes.

const secret = "0123456789abcdef"

func startThree(t *testing.T, listen listener) []*testNode {
	t.Helper()
	a := startNode(t, listen, 1, withKey(secret))
	b := startNode(t, listen, 2, withKey(secret), withJoin(a))
	c := startNode(t, listen, 3, withKey(secret), withJoin(b))
	nodes := []*testNode{a, b, c}
	for i, n := range nodes {
		n.subscribe(appNet)
		n.Put(appKey, testEndpoint(i+1, 1))
	}
	for _, n := range nodes {
		n.waitView(10*time.Second, 2, 2, 4)
	}
	return nodes
}

func TestPutAndDeleteReachOthersAtOnce(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		nodes := startThree(t, l.listen)
		a, b, c := nodes[0], nodes[1], nodes[2]
		var slowest time.Duration
		for i := 2; i < 22; i++ {
			e := testEndpoint(1, i)
			a.Put(appKey, e)
			for _, n := range []*testNode{b, c} {
				slowest = max(slowest, n.wait(time.Second, "the MAC is known", func() bool { return n.mac(e) == "192.0.2.1:4789" }))
			}
		}
		for i := 2; i < 22; i++ {
			e := testEndpoint(1, i)
			a.Delete(appKey, e.MAC)
			for _, n := range []*testNode{b, c} {
				slowest = max(slowest, n.wait(time.Second, "the MAC is forgotten", func() bool { return n.mac(e) == "" }))
			}
		}
		t.Logf("slowest change: %s", slowest)
		if v, m, ad := a.viewSize(); v != 2 || m != 2 || ad != 4 {
			t.Errorf("own records are in the own view: %d VTEPs, %d MACs, %d addresses", v, m, ad)
		}
	})
}

func TestMTUReachesOthers(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		nodes := startThree(t, l.listen)
		for _, mtu := range []int{9000, 1500} {
			nodes[0].SetMTU(mtu)
			for _, n := range nodes {
				n.wait(10*time.Second, "the MTU is known", func() bool {
					return slices.ContainsFunc(n.Members(), func(m Member) bool { return m.Host == "host1" && m.MTU == mtu })
				})
			}
		}
	})
}

// A crash is known to whoever asks, before membership has found out.
func TestCrashedMemberDoesNotAnswer(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		nodes := startThree(t, l.listen)
		a, c := nodes[0], nodes[2]
		if !a.Answers(c.Self().ID) || !a.Answers(a.Self().ID) || a.Answers("nobody") {
			t.Errorf("answers of a member, of the node itself, and of nobody: %t, %t, %t", a.Answers(c.Self().ID), a.Answers(a.Self().ID), a.Answers("nobody"))
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if a.Answers(c.Self().ID) {
			t.Error("one that has crashed answers")
		}
		if state := a.Members()[slices.IndexFunc(a.Members(), func(m Member) bool { return m.ID == c.Self().ID })].State; state == StateDead {
			t.Error("membership was first: nothing was tested")
		}
	})
}

func TestLeaveWithdrawsAtOnce(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		nodes := startThree(t, l.listen)
		a, b, c := nodes[0], nodes[1], nodes[2]
		left := make(chan error)
		go func() { left <- c.Leave(5 * time.Second) }()
		took := max(a.waitView(time.Second, 1, 1, 2), b.waitView(time.Second, 1, 1, 2))
		t.Logf("forgotten after %s", took)
		if err := <-left; err != nil {
			t.Fatal(err)
		}
		a.waitState(time.Second, c, StateLeft)
		if records := a.Records(); len(records) != 2 {
			t.Errorf("records after the leave: %+v", records)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}

		c.restart()
		c.subscribe(appNet)
		c.Put(appKey, testEndpoint(3, 1))
		a.waitView(5*time.Second, 2, 2, 4)
		a.waitState(time.Second, c, StateAlive)
	})
}

func TestCrashHidesAndReturnRestores(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		nodes := startThree(t, l.listen)
		a, c := nodes[0], nodes[2]
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		took := a.waitView(20*time.Second, 1, 1, 2)
		t.Logf("hidden after %s", took)
		if took < hideAfter {
			t.Errorf("hidden after %s: a restart would be noticed", took)
		}
		a.waitState(time.Second, c, StateDead)
		hidden := slices.DeleteFunc(a.Records(), func(r Record) bool { return !r.Hidden })
		if len(hidden) != 1 || hidden[0].Owner != c.Self().ID {
			t.Errorf("hidden records: %+v", hidden)
		}
		c.restart()
		c.subscribe(appNet)
		c.Put(appKey, testEndpoint(3, 1))
		a.waitView(10*time.Second, 2, 2, 4)
	})
}

func TestRestartIsNoGapForOthers(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		nodes := startThree(t, l.listen)
		a, b := nodes[0], nodes[1]
		for i := 2; i < 40; i++ {
			b.Put(appKey, testEndpoint(2, i))
		}
		a.waitView(time.Second, 2, 40, 80)
		before := b.Self().Incarnation
		a.forget()

		b.restart()
		b.subscribe(appNet)
		for i := 1; i < 39; i++ { // one fewer: it was removed while the node was down
			b.Put(appKey, testEndpoint(2, i))
		}
		b.waitView(5*time.Second, 2, 2, 4)
		took := a.waitView(5*time.Second, 2, 39, 78)
		t.Logf("taken over after %s", took)
		if after := b.Self().Incarnation; after <= before {
			t.Errorf("incarnation %d after %d", after, before)
		}
		last := testEndpoint(2, 39)
		for _, ch := range a.gone() {
			if ch.MAC != last.MAC {
				t.Errorf("the restart took away %+v", ch)
			}
		}
	})
}

// A restarted node without seeds has forgotten the others, but they find it.
func TestRestartedSeedIsFound(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		nodes := startThree(t, l.listen)
		a, b := nodes[0], nodes[1]
		b.forget()
		a.restart()
		a.subscribe(appNet)
		a.Put(appKey, testEndpoint(1, 1))
		took := a.waitView(5*time.Second, 2, 2, 4)
		t.Logf("found after %s", took)
		b.waitView(5*time.Second, 2, 2, 4)
		if gone := b.gone(); len(gone) > 0 {
			t.Errorf("the restart took away %+v", gone)
		}
	})
}

// A node may come back at another address. The others believe it once its old
// address is dead.
func TestRestartAtAnotherAddress(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		nodes := startThree(t, l.listen)
		a, c := nodes[0], nodes[2]
		c.restartAt(netip.MustParseAddrPort("127.0.0.1:0"))
		c.subscribe(appNet)
		c.Put(appKey, testEndpoint(3, 2))
		took := a.wait(25*time.Second, "the endpoint behind the new address", func() bool { return a.mac(testEndpoint(3, 2)) != "" })
		t.Logf("taken over after %s", took)
		a.waitView(time.Second, 2, 2, 4)
	})
}

func TestWrongKeyJoinsNothing(t *testing.T) {
	for name, option := range map[string]nodeOption{
		"other key": withKey("fedcba9876543210"),
		"no key":    func(*Config) {},
	} {
		t.Run(name, func(t *testing.T) {
			onLAN(t, func(t *testing.T, l *lan) {
				a := startNode(t, l.listen, 1, withKey(secret))
				b := startNode(t, l.listen, 2, withKey(secret), withJoin(a))
				a.waitState(5*time.Second, b, StateAlive)
				n := startNode(t, l.listen, 3, option, withJoin(a, b))
				n.subscribe(appNet)
				n.Put(appKey, testEndpoint(3, 1))
				n.wait(5*time.Second, "an error about the key", func() bool { return strings.Contains(n.logged.String(), "another token") })
				tries := func() int { return strings.Count(n.logged.String(), "failed to join") }
				n.wait(5*time.Second, "more tries", func() bool { return tries() > 3 })
				if lines := strings.Count(n.logged.String(), "level=error"); lines != 1 {
					t.Errorf("%d error lines, not 1:\n%s", lines, n.logged)
				}
				if len(n.Members()) != 1 || len(a.Members()) != 2 {
					t.Errorf("it joined: %+v, %+v", n.Members(), a.Members())
				}
				if a.Rejected()["key"] == 0 {
					t.Errorf("not counted: %v", a.Rejected())
				}
				if all := n.Strangers(); len(all) == 0 || !all[0].Key || all[0].Addr.Addr() != a.Self().Addr.Addr() {
					t.Errorf("it names as strangers %+v", all)
				}
			})
		})
	}
}

func TestHundredRemovalsAreForgotten(t *testing.T) {
	for loss, within := range map[float64]time.Duration{0: 50 * time.Millisecond, 0.2: 5 * time.Second} {
		t.Run(fmt.Sprint("loss ", loss), func(t *testing.T) {
			onLAN(t, func(t *testing.T, l *lan) {
				l.loss = loss
				a := startNode(t, l.listen, 1)
				b := startNode(t, l.listen, 2, withJoin(a))
				a.subscribe(appNet)
				b.subscribe(appNet)
				a.waitView(5*time.Second, 1, 0, 0)
				for range removalRounds {
					for i := range 100 {
						b.Put(appKey, testEndpoint(2, i))
					}
					a.waitView(within, 1, 100, 200)
					for i := range 100 {
						b.Delete(appKey, testEndpoint(2, i).MAC)
					}
					a.waitView(within, 1, 0, 0)
				}
				if n := len(a.Records()) + len(b.Records()); n != 0 {
					t.Errorf("%d records are left", n)
				}
			})
		})
	}
}

func TestMovedEndpointFollowsTheHigherSequence(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		nodes := startThree(t, l.listen)
		a, b, c := nodes[0], nodes[1], nodes[2]
		e := testEndpoint(2, 7)
		b.Put(appKey, e)
		c.wait(time.Second, "the first place", func() bool { return c.mac(e) == "192.0.2.2:4789" })
		e.Seq = 1
		a.Put(appKey, e)
		c.wait(time.Second, "the second place", func() bool { return c.mac(e) == "192.0.2.1:4789" })
		a.Delete(appKey, e.MAC)
		c.wait(time.Second, "the first place again", func() bool { return c.mac(e) == "192.0.2.2:4789" })
	})
}

func TestLateSubscriptionAndItsEnd(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		a := startNode(t, l.listen, 1)
		b := startNode(t, l.listen, 2, withJoin(a))
		other := Network{Key: "vni=6000", VNI: 6000}
		a.subscribe(appNet, other)
		for i := range 300 { // more than fits into a datagram
			a.Put(appKey, testEndpoint(1, i))
		}
		a.Put(other.Key, testEndpoint(1, 1))
		b.waitState(5*time.Second, a, StateAlive)
		b.subscribe(other)
		b.waitView(time.Second, 1, 1, 2)
		b.subscribe(appNet)
		b.waitView(time.Second, 2, 301, 602)
		b.Unsubscribe(appKey)
		b.waitView(time.Second, 1, 1, 2)
		a.Unsubscribe(other.Key)
		b.waitView(time.Second, 0, 0, 0)
		a.subscribe(other)
		b.waitView(time.Second, 1, 0, 0)
	})
}

func TestVNIConflictNamesBothKeys(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		a := startNode(t, l.listen, 1)
		b := startNode(t, l.listen, 2, withJoin(a))
		a.subscribe(appNet)
		b.waitState(5*time.Second, a, StateAlive)
		b.wait(5*time.Second, "the network is known", func() bool { return b.Resolve(appKey) == 5000 })
		for _, n := range []Network{{Key: "vni=5000", VNI: 5000}, {Key: appKey, VNI: 5001}} {
			err := b.Subscribe(n)
			if err == nil {
				t.Fatalf("%+v was accepted", n)
			}
			for _, part := range []string{n.Key, appKey, "5000", "host1", "use another VNI, or the same key on all hosts"} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q does not name %q", err, part)
				}
			}
		}
		b.subscribe(appNet)
		if err := b.Subscribe(Network{Key: "vni=5000", VNI: 5000}); err == nil || !strings.Contains(err.Error(), appKey) {
			t.Errorf("own conflict: %v", err)
		}
	})
}

func TestOneNetworkTooMany(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		a := startNode(t, l.listen, 1)
		for vni := range uint32(maxNetworks) {
			a.subscribe(Network{Key: fmt.Sprintf("vni=%d", vni+1), VNI: vni + 1})
		}
		err := a.Subscribe(appNet)
		if want := `network "` + appKey + `" is one too many: a node subscribes to 4096 at most; remove one of its networks`; err == nil || err.Error() != want {
			t.Errorf("the 4097th network: %v, want %q", err, want)
		}
	})
}

func TestConflictsThatMeetAreNotMerged(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		a := startNode(t, l.listen, 1)
		a.subscribe(appNet)
		a.Put(appKey, testEndpoint(1, 1))
		b := startNode(t, l.listen, 2)
		b.subscribe(Network{Key: appKey, VNI: 7000})
		b.Put(appKey, testEndpoint(2, 1))
		b.joinRequests <- a.Self().Addr
		for _, n := range []*testNode{a, b} {
			n.wait(5*time.Second, "a conflict", func() bool { return len(n.Conflicts()) == 1 })
			if v, m, ad := n.viewSize(); v+m+ad != 0 {
				t.Errorf("%s merged the other's records", n.cfg.Host)
			}
		}
		warnings := func() int { return strings.Count(a.logged.String(), "their records are not taken") }
		a.wait(5*time.Second, "a warning", func() bool { return warnings() > 0 })
		if got := warnings(); got != 1 {
			t.Errorf("warned %d times", got)
		}
	})
}

func TestMuteMemberIsSuspect(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		a := startNode(t, l.listen, 1)
		b := startNode(t, l.listen, 2, withJoin(a))
		a.waitState(5*time.Second, b, StateAlive)
		l.set(func() { l.mute = b.Self().Addr })
		a.waitState(5*time.Second, b, StateSuspect)
		l.set(func() { l.mute = netip.AddrPort{} })
		a.waitState(5*time.Second, b, StateAlive)
	})
}

func TestGarbageIsCountedAndHarmless(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		a := startNode(t, l.listen, 1)
		stranger, _, err := l.listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"), nil)
		if err != nil {
			t.Fatal(err)
		}
		const userMessage = 8 // memberlist's message type
		for _, payload := range [][]byte{{}, {99}, {protocolVersion, 0xff}, {protocolVersion, 10, 1, 1}} {
			if _, err := stranger.WriteTo(append([]byte{userMessage}, payload...), a.Self().Addr.String()); err != nil {
				t.Fatal(err)
			}
		}
		a.wait(5*time.Second, "counts", func() bool {
			r := a.Rejected()
			return r["protocol"] == 2 && r["malformed"] == 1 && r["node_id"] == 1
		})
	})
}

func TestOpenNamesWhatIsWrong(t *testing.T) {
	good := Config{
		Dir:  t.TempDir(),
		Bind: netip.MustParseAddrPort("127.0.0.1:0"),
		VTEP: netip.MustParseAddrPort("192.0.2.1:4789"),

		Insecure: true,
	}
	for want, spoil := range map[string]func(*Config){
		"Bind":             func(c *Config) { c.Bind = netip.AddrPort{} },
		"Advertise":        func(c *Config) { c.Bind = netip.MustParseAddrPort("0.0.0.0:0") },
		"VTEP":             func(c *Config) { c.VTEP = netip.AddrPort{} },
		"Host":             func(c *Config) { c.Host = strings.Repeat("h", 300) },
		`"10.0.0.1:http"`:  func(c *Config) { c.Join = []string{"10.0.0.1:http"} },
		`"a:b:c"`:          func(c *Config) { c.Join = []string{"a:b:c"} },
		"cannot listen on": func(c *Config) { c.Bind = netip.MustParseAddrPort("198.51.100.1:7950") },
	} {
		cfg := good
		spoil(&cfg)
		c, err := Open(cfg)
		if err == nil {
			c.Close()
			t.Errorf("%s: accepted", want)
		} else if want != "cannot listen on" && !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), strings.Fields(want)[0]) {
			t.Errorf("error %q does not name %s", err, want)
		}
	}
}

// A node that begins to take part in a network is told when it has what the others have there.
func TestComplete(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		a := startNode(t, l.listen, 1, withKey(secret))
		b := startNode(t, l.listen, 2, withKey(secret), withJoin(a))
		e := testEndpoint(1, 1)
		a.subscribe(appNet)
		a.Put(appKey, e)
		b.wait(10*time.Second, "the others' networks are known", func() bool { return !slices.Contains(subscribers(b, appKey), false) })
		b.subscribe(appNet)
		if b.Complete(appKey) && len(b.Claims(appKey, e.MAC, nil)) == 0 {
			t.Error("complete without the record of another")
		}
		b.wait(time.Second, "the records are here", func() bool { return b.Complete(appKey) })
		if claims := b.Claims(appKey, e.MAC, nil); len(claims) != 1 {
			t.Errorf("complete with %v", claims)
		}
	})
}

// subscribers says of each other member whether it is known to take part in a network.
func subscribers(n *testNode, key string) (all []bool) {
	n.Cluster.mu.Lock()
	defer n.Cluster.mu.Unlock()
	for _, o := range n.core.owners {
		if o != n.core.self {
			all = append(all, o.subscription(key) != nil)
		}
	}
	return append(all, len(all) > 0)
}
