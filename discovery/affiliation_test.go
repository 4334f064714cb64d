package discovery

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// longTime is many times what two nodes take to find each other.
const longTime = time.Minute

// apart demands that neither node knows the other, after a time in which they would have met.
func apart(t *testing.T, a, b *testNode) {
	t.Helper()
	time.Sleep(longTime)
	for _, n := range []*testNode{a, b} {
		other := a
		if n == a {
			other = b
		}
		if slices.ContainsFunc(n.Members(), func(m Member) bool { return m.ID == other.Self().ID }) {
			t.Errorf("%s has taken in %s: %+v", n.cfg.Host, other.cfg.Host, n.Members())
		}
		if slices.ContainsFunc(n.Records(), func(r Record) bool { return r.Owner == other.Self().ID }) {
			t.Errorf("%s has records of %s", n.cfg.Host, other.cfg.Host)
		}
	}
}

// inOneCluster waits until the nodes have one identity of their cluster.
func inOneCluster(nodes ...*testNode) {
	first := nodes[0]
	first.t.Helper()
	for _, n := range nodes {
		n.wait(longTime, "it has the identity of the first one's cluster", func() bool {
			return n.Self().Cluster != "" && n.Self().Cluster == first.Self().Cluster
		})
	}
}

func (n *testNode) knock(of *testNode) bool {
	return slices.ContainsFunc(n.Strangers(), func(s Stranger) bool {
		return s.Addr == of.Self().Addr && s.Host == of.cfg.Host && s.Cluster == of.Self().Cluster && s.Cluster != n.Self().Cluster
	})
}

// startWith starts a node with the network and an endpoint.
func startWithEndpoint(t *testing.T, l *lan, number int, options ...nodeOption) *testNode {
	t.Helper()
	n := startNode(t, l.listen, number, options...)
	n.subscribe(appNet)
	n.Put(appKey, testEndpoint(number, 1))
	return n
}

// The address of a host is given to a host of another cluster, of the same key or of none: the clusters stay apart, and each says
// who knocked.
func TestStrangersNeverMerge(t *testing.T) {
	for name, option := range map[string]nodeOption{"key": withKey(secret), "no key": func(*Config) {}} {
		t.Run(name, func(t *testing.T) {
			onLAN(t, func(t *testing.T, l *lan) {
				a1 := startWithEndpoint(t, l, 1, option)
				a2 := startWithEndpoint(t, l, 2, option, withJoin(a1))
				a3 := startWithEndpoint(t, l, 3, option, withJoin(a1))
				inOneCluster(a1, a2, a3)
				b := startWithEndpoint(t, l, 4, option)
				inOneCluster(b)

				address := a3.Self().Addr
				if err := a3.Close(); err != nil {
					t.Fatal(err)
				}
				b.restartAt(address)
				b.subscribe(appNet)
				b.Put(appKey, testEndpoint(4, 1))
				apart(t, a1, b)
				apart(t, a2, b)
				a1.wait(longTime, "it says who knocked", func() bool { return a1.knock(b) })
				b.wait(longTime, "it says who knocked", func() bool { return b.knock(a1) || b.knock(a2) })
				if v, m, _ := a1.viewSize(); v != 1 || m != 1 {
					t.Errorf("%d VTEPs and %d MAC addresses are in use, want those of the one host that is left", v, m)
				}
			})
		})
	}
}

// A host that is set up anew has the address of one of another cluster, and no cluster of its own yet.
func TestNewHostIsNoPrey(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		a1 := startWithEndpoint(t, l, 1)
		a2 := startWithEndpoint(t, l, 2, withJoin(a1))
		inOneCluster(a1, a2)
		address := a2.Self().Addr
		if err := a2.Close(); err != nil {
			t.Fatal(err)
		}
		b := startNode(t, l.listen, 3, func(c *Config) { c.Bind = address })
		apart(t, a1, b)
		a1.wait(longTime, "it says who knocked", func() bool { return a1.knock(b) })
		b.subscribe(appNet)
		inOneCluster(b)
		apart(t, a1, b)
	})
}

// A cluster of many hosts that is refused again and again is one stranger, at the address that was joined, and one line in the log.
func TestLargeClusterIsOneStranger(t *testing.T) {
	for name, dial := range map[string]func(*affiliation, netip.AddrPort){
		"told to join":   func(a *affiliation, to netip.AddrPort) { a.tell(to, true) },
		"a lost member":  func(a *affiliation, to netip.AddrPort) { a.dial(to, true) },
		"whoever knocks": func(*affiliation, netip.AddrPort) {},
	} {
		t.Run(name, func(t *testing.T) {
			lines := 0
			a := newAffiliation(nodeID{1}, clusterID{1}, newLimiter(time.Minute), func(string, ...any) { lines++ })
			var members []memberUpEvent
			for i := range byte(40) {
				members = append(members, memberUpEvent{nodeID{9, i}, meta{host: fmt.Sprint("h", i), claim: claim{true, clusterID{2}}}, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, i}), 7950)})
			}
			joined := members[0].address
			dial(a, joined)
			for range 10 {
				if a.merge(members) == nil {
					t.Fatal("it was taken in")
				}
				members = append(members[1:], members[0])
			}
			s, known := a.stranger(joined)
			if lines != 1 || len(a.strangers) != 1 || !known || s.Cluster != (clusterID{2}).String() {
				t.Errorf("%d lines; strangers %+v", lines, a.strangers)
			}
		})
	}
}

// Whoever says in a message that it is of another cluster, or talks without being known, is not heard.
func TestStrangersMessagesAreNotTaken(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		received := make(chan string, 16)
		a := startWithEndpoint(t, l, 1, func(c *Config) { c.Receive = func(from string, _ []byte) { received <- from } })
		b := startWithEndpoint(t, l, 2)
		inOneCluster(a)
		inOneCluster(b)
		toA := &send{to: []recipient{{a.identity.id, a.address}}}
		toA.packet = &packet{from: b.identity.id, address: b.address, announces: []announce{{owner: b.identity.id, incarnation: 1, version: 1}}}
		b.gossip.send(toA)
		b.do(memberUpEvent{a.identity.id, a.core.self.meta, a.address})
		if err := b.Send(a.Self().ID, []byte("give me addresses")); err != nil {
			t.Fatal(err)
		}
		a.wait(longTime, "both are counted", func() bool { return a.Rejected()["cluster"] >= 2 })
		if len(received) > 0 || a.core.owners[b.identity.id] != nil {
			t.Errorf("%d messages were taken, and the announcement: %t", len(received), a.core.owners[b.identity.id] != nil)
		}
	})
}

// Two hosts that started apart, each with networks, are told to join: the refusal names the way out. One without networks takes the
// other's cluster over, though it had one of its own.
func TestJoinOfAnotherCluster(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		a := startWithEndpoint(t, l, 1)
		b := startWithEndpoint(t, l, 2)
		inOneCluster(a)
		inOneCluster(b)
		used := true
		b.cfg.Used = func() bool { return used }
		withJoin(a)(&b.cfg)
		b.restart()
		apart(t, a, b)
		for _, part := range []string{"host1", a.Self().Cluster, b.Self().Cluster, "overlane leave", b.cfg.Dir, "--join"} {
			if !strings.Contains(b.logged.String(), part) {
				t.Errorf("the log has no word of %q:\n%s", part, b.logged)
			}
		}

		used = false
		b.restart()
		b.waitState(longTime, a, StateAlive)
		a.waitState(longTime, b, StateAlive)
		inOneCluster(a, b)
	})
}

// In a swarm Docker names the other hosts, to some of which it has made networks already.
func TestSeedTakesInAHostThatWasAlone(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		at := func(address string) nodeOption {
			return func(c *Config) { c.Bind = netip.AddrPortFrom(netip.MustParseAddr(address), 7950) }
		}
		a := startWithEndpoint(t, l, 1, at("127.0.0.1"))
		b := startNode(t, l.listen, 2, at("127.0.0.2"))
		b.subscribe(appNet)
		inOneCluster(a)
		inOneCluster(b)
		b.Unsubscribe(appKey)
		b.AddSeed(a.Self().Addr.Addr())
		a.AddSeed(b.Self().Addr.Addr())
		inOneCluster(a, b)
		a.waitState(longTime, b, StateAlive)
	})
}

// All hosts of a cluster are told to join all: they agree on an identity once all are there, and keep it when they start again.
func TestListOfHostsMakesOneCluster(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		var nodes []*testNode
		var addresses []string
		for i := range 3 {
			addresses = append(addresses, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 1, byte(i)}), 7950).String())
		}
		for i, address := range addresses {
			if i == 2 {
				time.Sleep(longTime)
				if nodes[0].Self().Cluster != "" {
					t.Error("there is an identity before all hosts were seen: the last one may have another")
				}
				if log := nodes[0].logged.String(); !strings.Contains(log, "no identity yet: it waits for "+address) {
					t.Errorf("it does not say that it waits for the last one, %s, alone:\n%s", address, log)
				}
			}
			nodes = append(nodes, startWithEndpoint(t, l, i+1, func(c *Config) { c.Bind, c.Join = netip.MustParseAddrPort(address), addresses }))
		}
		inOneCluster(nodes...)
		was := nodes[0].Self().Cluster
		for _, n := range nodes {
			n.restart()
			n.subscribe(appNet)
			n.waitState(longTime, nodes[0], StateAlive)
		}
		inOneCluster(nodes...)
		if now := nodes[0].Self().Cluster; now != was {
			t.Errorf("the cluster was %s and is %s", was, now)
		}
	})
}

// Behind network address translation hosts are joined by addresses that they do not advertise, as a host by its own in a list that all have.
func TestHostsJoinedByInsideAddresses(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		inside := []string{"127.0.0.5:7950", "127.0.0.6:7950"}
		outside := []string{"127.0.1.5", "127.0.1.6"}
		var nodes []*testNode
		for i, address := range inside {
			nodes = append(nodes, startWithEndpoint(t, l, i+1, func(c *Config) {
				c.Bind, c.Advertise, c.Join = netip.MustParseAddrPort(address), netip.MustParseAddr(outside[i]), inside
			}))
			l.set(func() { l.nodes[nodes[i].Self().Addr.String()] = l.nodes[address] })
			defer l.set(func() { delete(l.nodes, nodes[i].Self().Addr.String()) })
		}
		inOneCluster(nodes...)
		nodes[0].waitState(longTime, nodes[1], StateAlive)
	})
}

// A host whose clusterFile is gone, as after an upgrade from a version that knew none, finds it with those that it knew.
func TestIdentityComesBackFromMembers(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		a := startWithEndpoint(t, l, 1)
		b := startWithEndpoint(t, l, 2, withJoin(a))
		inOneCluster(a, b)
		b.cfg.Join = nil
		b.Close()
		if err := os.Remove(filepath.Join(b.cfg.Dir, clusterFile)); err != nil {
			t.Fatal(err)
		}
		b.restart()
		b.subscribe(appNet)
		inOneCluster(a, b)
		a.waitState(longTime, b, StateAlive)
	})
}

// A host whose disk is full when its cluster gets its identity writes it once there is room.
func TestIdentityIsWrittenLater(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		a := startWithEndpoint(t, l, 1)
		full := a.cfg.Dir + ".full"
		if err := os.Rename(a.cfg.Dir, full); err != nil {
			t.Fatal(err)
		}
		inOneCluster(a)
		if err := os.Rename(full, a.cfg.Dir); err != nil {
			t.Fatal(err)
		}
		a.wait(longTime, "its identity is on disk", func() bool {
			id, err := openCluster(a.cfg.Dir)
			return err == nil && id.String() == a.Self().Cluster
		})
	})
}

// oldNode is a node of the version before, as far as membership goes: it says nothing of its cluster, and takes in whoever comes.
type oldNode struct {
	*gossip // its delegate, for what it does not say itself
	id      nodeID
}

func (o *oldNode) NotifyMsg([]byte) {}

func (o *oldNode) NodeMeta(int) []byte {
	b, _ := encodeMeta(meta{host: "old", vtep: netip.MustParseAddrPort("192.0.2.99:4789"), incarnation: 1})
	return b
}

// startOld starts a node of the version before that joins another, and gives its address.
func startOld(t *testing.T, l *lan, join *testNode) netip.AddrPort {
	t.Helper()
	transport, port, err := l.listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"), nil)
	if err != nil {
		t.Fatal(err)
	}
	old := &oldNode{&gossip{cluster: join.Cluster}, nodeID{1}}
	conf := memberlist.DefaultLANConfig()
	conf.Name, conf.Transport, conf.AdvertiseAddr, conf.AdvertisePort = old.id.String(), transport, "127.0.0.1", int(port)
	conf.Delegate, conf.LogOutput = old, io.Discard
	list, err := memberlist.Create(conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { list.Shutdown() })
	if _, err := list.Join([]string{join.Self().Addr.String()}); err != nil {
		t.Fatal(err)
	}
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
}

// Hosts of the version before go on working with those that have an identity, whoever comes first, and with those that come later.
func TestVersionBeforeStaysMember(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		a := startWithEndpoint(t, l, 1)
		inOneCluster(a)
		startOld(t, l, a)
		b := startWithEndpoint(t, l, 2, withJoin(a))
		inOneCluster(a, b)
		time.Sleep(longTime)
		for _, n := range []*testNode{a, b} {
			if !slices.ContainsFunc(n.Members(), func(m Member) bool { return m.Host == "old" && m.State != StateDead }) {
				t.Errorf("%s has %+v", n.cfg.Host, n.Members())
			}
			if len(n.Strangers()) > 0 {
				t.Errorf("%s takes for strangers %+v", n.cfg.Host, n.Strangers())
			}
		}
	})
}

// A new host is told to join one of the version before, which says no identity but names a host that has one: then, or when that is back.
func TestNewHostJoinsByVersionBefore(t *testing.T) {
	for name, away := range map[string]bool{"the other is up": false, "the other is away": true} {
		t.Run(name, func(t *testing.T) {
			onLAN(t, func(t *testing.T, l *lan) {
				a := startWithEndpoint(t, l, 1)
				inOneCluster(a)
				old := startOld(t, l, a)
				a.wait(longTime, "it has the old one", func() bool { return len(a.Members()) == 2 })
				if away {
					time.Sleep(longTime) // what it knows is on disk
					a.Close()
					time.Sleep(longTime)
				}
				b := startWithEndpoint(t, l, 2, func(c *Config) { c.Join = []string{old.String()} })
				if away {
					time.Sleep(longTime)
					if id := b.Self().Cluster; id != "" {
						t.Errorf("it has made the identity %s beside a host that cannot say its cluster's", id)
					}
					a.restart()
				}
				inOneCluster(a, b)
				a.waitState(longTime, b, StateAlive)
				b.waitState(longTime, a, StateAlive)
			})
		})
	}
}

// What the hosts of a cluster of the version before do as they are upgraded, one after the other: each knows the others from before, and one
// of them makes the identity when all are up.
func TestUpgradedHostsAgreeOnAnIdentity(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		nodes := []*testNode{startWithEndpoint(t, l, 1)}
		for i := range 2 {
			nodes = append(nodes, startWithEndpoint(t, l, i+2, withJoin(nodes[0])))
		}
		inOneCluster(nodes...)
		for _, n := range nodes {
			n.Close()
			if err := os.Remove(filepath.Join(n.cfg.Dir, clusterFile)); err != nil {
				t.Fatal(err)
			}
		}
		for _, n := range nodes {
			n.cfg.Join = nil
			n.restart()
			n.subscribe(appNet)
			n.Put(appKey, testEndpoint(slices.Index(nodes, n)+1, 1))
		}
		inOneCluster(nodes...)
		for _, n := range nodes {
			n.waitView(longTime, 2, 2, 4)
		}
	})
}
