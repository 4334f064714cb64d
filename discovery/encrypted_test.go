package discovery

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// appEncrypted is appNet made with encryption.
var appEncrypted = Network{Key: appKey, VNI: appNet.VNI, Encrypted: true}

// wantApart waits until two nodes have told of their conflict, and sees that neither has anything of the other.
func wantApart(t *testing.T, nodes ...*testNode) {
	t.Helper()
	for _, n := range nodes {
		n.wait(5*time.Second, "a conflict", func() bool { return len(n.Conflicts()) == len(nodes)-1 })
		if v, m, a := n.viewSize(); v+m+a != 0 || len(n.Records()) != 1 {
			t.Errorf("%s has records of another: %+v", n.cfg.Host, n.Records())
		}
	}
}

// Two that were apart and meet, of which one has the network encrypted, exchange no records and say so, until one makes it anew.
func TestEncryptedAndPlainAreNotMerged(t *testing.T) {
	for name, healed := range map[string]Network{"with encryption": appEncrypted, "without": appNet} {
		t.Run(name, func(t *testing.T) {
			onLAN(t, func(t *testing.T, l *lan) {
				a, b := startNode(t, l.listen, 1), startNode(t, l.listen, 2)
				a.subscribe(appEncrypted)
				a.Put(appKey, testEndpoint(1, 1))
				b.subscribe(appNet)
				b.Put(appKey, testEndpoint(2, 1))
				b.joinRequests <- a.Self().Addr
				wantApart(t, a, b)
				for n, words := range map[*testNode][]string{
					a: {"is encrypted here, and plain on member host2", "records are not taken", "there with -o encrypted or here without"},
					b: {"is plain here, and encrypted on member host1", "records are not taken", "here with -o encrypted or there without"},
				} {
					for _, part := range words {
						n.wait(5*time.Second, part, func() bool { return strings.Contains(n.logged.String(), part) })
					}
				}
				// What is said later does not cross either.
				a.Put(appKey, testEndpoint(1, 1))
				b.Delete(appKey, testEndpoint(2, 1).MAC)
				b.Put(appKey, testEndpoint(2, 2))
				time.Sleep(10 * time.Second)
				wantApart(t, a, b)

				anew, other := a, b
				if healed.Encrypted {
					anew, other = b, a
				}
				anew.Unsubscribe(appKey)
				other.wait(time.Second, "no conflict", func() bool { return len(other.Conflicts()) == 0 })
				if got := anew.Subscribers(appKey); len(got) != 1 || got[0] != (Subscriber{other.cfg.Host, healed}) {
					t.Errorf("subscribers: %+v", got)
				}
				anew.subscribe(healed)
				anew.Put(appKey, testEndpoint(7, 1))
				for _, n := range []*testNode{a, b} {
					n.waitView(time.Second, 1, 1, 2)
					if len(n.Conflicts()) > 0 {
						t.Errorf("conflicts left: %v", n.Conflicts())
					}
				}
			})
		})
	}
}

// A network that a member has is not made otherwise, and the error says what to do.
func TestEncryptionConflictIsRefused(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		a := startNode(t, l.listen, 1)
		b := startNode(t, l.listen, 2, withJoin(a))
		refused := func(n *testNode, network Network, want ...string) {
			t.Helper()
			err := n.Subscribe(network)
			for _, part := range append(want, appKey) {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("%v does not say %q", err, part)
				}
			}
		}
		known := func(as Network) func() bool {
			return func() bool { return slices.Contains(b.Subscribers(appKey), Subscriber{"host1", as}) }
		}
		a.subscribe(appEncrypted)
		refused(a, appNet, "cannot be plain here", "on this node it is encrypted", "make it with -o encrypted")
		b.wait(5*time.Second, "the network is known", known(appEncrypted))
		refused(b, appNet, "cannot be plain here", "member host1", "make it with -o encrypted, or anew there")
		a.Unsubscribe(appKey)
		a.subscribe(appNet)
		b.wait(5*time.Second, "the network is known", known(appNet))
		refused(b, appEncrypted, "cannot be encrypted here", "member host1", "make it without -o encrypted, or anew there")
		b.subscribe(appNet)
		b.waitView(time.Second, 1, 0, 0)
	})
}

// Hosts make the network anew with encryption one after the other, while others have it without: each has the records of its kind alone.
func TestMadeAnewWithEncryption(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		nodes := startThree(t, l.listen)
		for _, n := range nodes {
			n.Unsubscribe(appKey)
		}
		a, b, c := nodes[0], nodes[1], nodes[2]
		a.wait(5*time.Second, "no other has it", func() bool { return len(a.Subscribers(appKey)) == 0 })
		l.set(func() { l.mute = b.Self().Addr }) // its announcements arrive late, by others
		b.subscribe(appNet)
		b.Put(appKey, testEndpoint(2, 1))
		a.subscribe(appEncrypted)
		a.Put(appKey, testEndpoint(1, 1))
		c.wait(20*time.Second, "both are known", func() bool { return len(c.Subscribers(appKey)) == 2 })
		a.wait(20*time.Second, "a conflict", func() bool { return len(a.Conflicts()) == 1 })
		for _, n := range []*testNode{a, b} {
			if v, m, ad := n.viewSize(); v+m+ad != 0 {
				t.Errorf("%s took records of the other", n.cfg.Host)
			}
		}
		if err := c.Subscribe(appEncrypted); err == nil {
			t.Error("a third host has it though the others do not agree")
		}
		b.Unsubscribe(appKey)
		b.subscribe(appEncrypted)
		b.Put(appKey, testEndpoint(2, 2))
		c.wait(20*time.Second, "they agree", func() bool { return c.Subscribe(appEncrypted) == nil })
		for n, macs := range map[*testNode]int{a: 1, b: 1, c: 2} {
			n.waitView(20*time.Second, 2, macs, 2*macs)
		}
	})
}

// The conflict outlives a restart: what is on disk of the others says whether they encrypt.
func TestEncryptionConflictAfterARestart(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		a, b := startNode(t, l.listen, 1), startNode(t, l.listen, 2)
		a.subscribe(appEncrypted)
		a.Put(appKey, testEndpoint(1, 1))
		b.joinRequests <- a.Self().Addr
		b.waitState(5*time.Second, a, StateAlive)
		b.wait(5*time.Second, "the network is known", func() bool { return len(b.Subscribers(appKey)) == 1 })
		b.restart()
		b.subscribe(appNet) // it has met nobody yet
		b.Put(appKey, testEndpoint(2, 1))
		wantApart(t, a, b)
	})
}

// A set may overtake the announcement of its network, or come after that of the next one with its key.
func TestSetOfANetworkMadeAnewIsNotTaken(t *testing.T) {
	for name, ours := range map[string]Network{"we are plain": appNet, "we encrypt": appEncrypted} {
		t.Run(name, func(t *testing.T) {
			c, receive := twoNodes()
			c.step(c.now, unsubscribeEvent{appKey})
			c.step(c.now, subscribeEvent{ours})
			said := func(n Network, version uint64) announce {
				a := announced(version, version)
				a.networks[0].Network = n
				return a
			}
			set := func(n Network, to uint64) delta {
				d, e := setDelta(7, 0, to), testEndpoint(2, int(to))
				d.encrypted, d.upserts = n.Encrypted, []*Endpoint{&e}
				return d
			}
			holds := func(what string, want uint64) {
				t.Helper()
				if have := c.owners[nodeID{2}].have(appKey); have != want {
					t.Errorf("after %s it holds version %d, want %d", what, have, want)
				}
				for _, r := range c.records() {
					if r.Owner == (nodeID{2}).String() && r.Network != ours {
						t.Errorf("after %s it has a record of %+v", what, r.Network)
					}
				}
			}
			theirs := ours
			theirs.Encrypted = !ours.Encrypted
			receive(packet{announces: []announce{said(ours, 10)}, deltas: []delta{set(ours, 11)}})
			holds("a set of the same network", 11)
			sends := receive(packet{deltas: []delta{set(theirs, 21)}})
			holds("a set that overtook the announcement of the other", 11)
			if len(sends) != 1 || len(sends[0].packet.wants) != 1 || sends[0].packet.wants[0].key != "" {
				t.Errorf("the announcement was not asked for: %+v", sends)
			}
			receive(packet{announces: []announce{said(theirs, 20)}})
			holds("that announcement", 0)
			receive(packet{deltas: []delta{set(theirs, 22)}})
			holds("a set of the other network", 0)
			receive(packet{deltas: []delta{set(ours, 31)}})
			holds("a set that overtook the announcement of the next", 0)
			receive(packet{announces: []announce{said(ours, 30)}, deltas: []delta{set(theirs, 32), set(ours, 12)}})
			holds("late sets of those before", 0)
			receive(packet{deltas: []delta{set(ours, 33)}})
			holds("the set", 33)
			receive(packet{announces: []announce{said(theirs, 25)}})
			holds("an announcement of before", 33)
			receive(packet{announces: []announce{{owner: nodeID{2}, incarnation: 7, version: 32, networks: []announcedNetwork{{theirs, 32}}}}})
			holds("one that the set has overtaken", 33)
		})
	}
}

// Heads pass on what they have no part in themselves.
func TestRelayedRecordsStayApart(t *testing.T) {
	s := newSimulation(relayAbove+10, 7, t.Fatalf)
	s.watch = checkInvariants
	for i, h := range s.hosts {
		h.start()
		h.remake(Network{appKey, appNet.VNI, i%2 == 0})
		h.put(appKey, testEndpoint(h.number, 1))
	}
	s.run(5 * time.Second)
	s.checkAgreement()
	if half := len(s.hosts) / 2; len(s.hosts[0].core.allConflicts()) != half || len(s.hosts[0].view) != 4*(half-1) {
		t.Errorf("%d conflicts, %d changes seen", len(s.hosts[0].core.allConflicts()), len(s.hosts[0].view))
	}
	s.jitter = 100 * time.Millisecond
	for _, h := range s.hosts[:10] {
		h.remake(Network{appKey, appNet.VNI, h.number%2 != 0})
		h.put(appKey, testEndpoint(h.number, 2))
	}
	s.run(20 * time.Second)
	s.checkAgreement()
}

// What speaks no gossip has no keys, and no part in a network that is encrypted.
func TestEncryptedNetworkHasNoStaticEndpoints(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		a := startNode(t, l.listen, 1, func(c *Config) { c.Static = []Static{someStatic()} })
		a.subscribe(appEncrypted)
		a.wait(time.Second, "a warning", func() bool {
			return strings.Contains(a.logged.String(), `is encrypted, and has none of the static endpoints with VNI 5000`)
		})
		if v, m, ad := a.viewSize(); v+m+ad != 0 || len(a.Records()) > 0 {
			t.Errorf("it has them: %+v", a.Records())
		}
		a.Unsubscribe(appKey)
		a.subscribe(appNet)
		a.waitView(time.Second, 1, 1, 2)
	})
}
