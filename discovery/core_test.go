package discovery

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var simNetworks = []Network{{"network=app", 5000, false}, {"vni=6000", 6000, false}, {"subnet=10.20.0.0/16", 7000, false}, {"network=app", 5000, true}}

// simEndpoint has few MAC and IP addresses, so that hosts claim the same ones, and
// one host the same IP address for two MAC addresses.
func simEndpoint(t *rapid.T) Endpoint {
	e := testEndpoint(9, rapid.IntRange(0, 7).Draw(t, "address"))
	e.Addrs = testEndpoint(9, rapid.IntRange(0, 7).Draw(t, "addresses")).Addrs
	e.ID = fmt.Sprint("endpoint", rapid.IntRange(0, 3).Draw(t, "id"))
	e.Seq = uint32(rapid.IntRange(0, 2).Draw(t, "seq"))
	e.Names = rapid.SampledFrom([]string{"", "db", "db store"}).Draw(t, "names")
	// Extra addresses and MAC addresses are others' own ones as well.
	for i := range rapid.IntRange(0, 2).Draw(t, "extras") {
		x := testEndpoint(9, rapid.IntRange(0, 7).Draw(t, "extra"))
		e.Extras = append(e.Extras, Extra{Addr: x.Addrs[i], Seq: uint32(rapid.IntRange(0, 2).Draw(t, "extra seq"))})
		if rapid.Bool().Draw(t, "behind") {
			e.Extras[i].MAC = x.MAC
		}
	}
	return e
}

// Random schedules of everything that can happen to a cluster. Whatever
// happened, once it has been quiet for a while all agree on what is there.
func TestRandomSchedulesAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const hosts = 5
		s := newSimulation(hosts, rapid.Uint64().Draw(t, "seed"), t.Fatalf)
		s.keepHistory, s.watch = true, checkInvariants
		for _, h := range s.hosts {
			h.start()
			h.subscribe(simNetworks[0])
			for range 4 {
				h.put(simNetworks[0].Key, simEndpoint(t))
			}
		}
		host := func() *simHost { return s.hosts[rapid.IntRange(0, len(s.hosts)-1).Draw(t, "host")] }
		network := func() Network { return rapid.SampledFrom(simNetworks).Draw(t, "network") }
		running := func(do func(h *simHost)) func(*rapid.T) {
			return func(*rapid.T) {
				if h := host(); h.core != nil && !h.core.self.left {
					do(h)
				}
			}
		}
		put := running(func(h *simHost) { h.put(network().Key, simEndpoint(t)) })
		remove := running(func(h *simHost) { h.remove(network().Key, simEndpoint(t).MAC) })
		wait := func(*rapid.T) {
			s.run(time.Duration(rapid.SampledFrom([]int{1, 3, 10, 40, 200, 1000, 4000}).Draw(t, "ms")) * time.Millisecond)
		}
		t.Repeat(map[string]func(*rapid.T){
			"put": put, "put too": put, "put more": put,
			"remove": remove, "remove too": remove,
			"burst": running(func(h *simHost) {
				for i := range 60 {
					h.put(simNetworks[0].Key, testEndpoint(h.number+20, i))
				}
			}),
			"clear": running(func(h *simHost) {
				for i := range 60 {
					h.remove(simNetworks[0].Key, testEndpoint(h.number+20, i).MAC)
				}
			}),
			"subscribe":   running(func(h *simHost) { h.subscribe(network()) }),
			"unsubscribe": running(func(h *simHost) { h.unsubscribe(network().Key) }),
			"remake": running(func(h *simHost) {
				n := network()
				h.remake(n)
				h.put(n.Key, simEndpoint(t))
			}),
			"wait": wait, "wait too": wait, "wait more": wait,
			"crash": running(func(h *simHost) { h.crash() }),
			"restart": running(func(h *simHost) {
				h.crash()
				h.start()
			}),
			"leave": running(func(h *simHost) { h.leave() }),
			"start": func(*rapid.T) {
				if h := host(); h.core == nil {
					h.start()
				}
			},
			"rewind": func(*rapid.T) {
				if h := host(); h.core == nil {
					h.rewind()
				}
			},
			"save": running(func(h *simHost) { h.save() }),
			"wipe": func(*rapid.T) {
				if h := host(); h.core == nil {
					h.wipe()
				}
			},
			"clone": running(func(h *simHost) {
				if len(s.hosts) < hosts+2 {
					h.clone()
				}
			}),
			"clock":     func(*rapid.T) { host().clock += time.Duration(rapid.IntRange(-2, 2).Draw(t, "hours")) * time.Hour },
			"cut":       func(*rapid.T) { s.cut = [2]*simHost{host(), host()} },
			"partition": func(*rapid.T) { host().move(rapid.IntRange(0, 1).Draw(t, "side")) },
			"replay":    func(*rapid.T) { s.replay(0.2) },
			"heal": func(*rapid.T) {
				s.heal()
				s.cut = [2]*simHost{}
			},
			"weather": func(*rapid.T) {
				s.loss = rapid.SampledFrom([]float64{0, 0.01, 0.3}).Draw(t, "loss")
				s.dup = rapid.SampledFrom([]float64{0, 0.1}).Draw(t, "duplicates")
				s.jitter = time.Duration(rapid.SampledFrom([]int{0, 1, 30, 2500}).Draw(t, "jitter")) * time.Millisecond
			},
		})
		s.heal()
		s.cut = [2]*simHost{}
		for _, h := range s.hosts[hosts:] {
			h.crash()
		}
		s.loss, s.dup, s.jitter = 0.05, 0.05, 5*time.Millisecond
		s.run(25 * time.Second)
		if slices.ContainsFunc(s.hosts, func(h *simHost) bool { return h.core != nil && len(h.core.view.frozen) > 0 }) {
			s.run(moveWindow)
		}
		s.checkAgreement()
		if !s.rewound { // else what was said once may outrank what is said now, until its owner hears of it
			s.replay(1)
			s.checkAgreement() // nothing comes back
		}

		s.loss, s.dup = 0, 0
		s.run(3 * time.Second)
		before, streams, bytes := s.datagrams, s.streams, s.bytes
		s.run(10 * time.Second)
		up := 0
		for _, h := range s.hosts {
			if h.core != nil {
				up++
			}
		}
		// A digest and its short answer have 150 bytes on average.
		if sent := s.datagrams - before; sent > up*11*2 || s.bytes-bytes > 240*sent || s.streams != streams {
			t.Fatalf("%d hosts with nothing to say sent %d datagrams and %d streams of %d bytes in 10 s", up, sent, s.streams-streams, s.bytes-bytes)
		}
	})
}

// startSim is a settled cluster of hosts in one network, each with endpoints.
func startSim(t *testing.T, hosts, endpoints int) *simulation {
	s := newSimulation(hosts, 7, t.Fatalf)
	s.watch = checkInvariants
	for _, h := range s.hosts {
		h.start()
		h.subscribe(appNet)
		for i := range endpoints {
			h.put(appKey, testEndpoint(h.number, i))
		}
	}
	s.run(5 * time.Second)
	s.checkAgreement()
	return s
}

// Who asks for an owner's announcement, and has an older one, gets it at once: after a restart nothing else can be asked for.
func TestOlderAnnouncementIsMadeUp(t *testing.T) {
	s := startSim(t, 2, 1)
	asker, c := s.hosts[0].id, s.hosts[1].core
	given := func(behind uint64) int {
		c.handleWant(want{owner: c.self.id, incarnation: c.self.incarnation, have: c.self.version - behind}, asker)
		n := len(c.packetTo(asker).announces)
		clear(c.outbox)
		return n
	}
	if now, older := given(0), given(1); now != 0 || older != 1 {
		t.Errorf("an asker with the announcement gets %d, one with the version before it %d; want 0 and 1", now, older)
	}
}

func TestHigherOwnIncarnationIsRefuted(t *testing.T) {
	s := startSim(t, 3, 100)
	h := s.hosts[0]
	old := h.incarnation
	h.crash()
	h.rewind()
	delete(h.endpoints[appKey], testEndpoint(0, 1).MAC)
	h.start()
	if h.incarnation >= old {
		t.Fatalf("incarnation %d after %d", h.incarnation, old)
	}
	s.run(10 * time.Second)
	s.checkAgreement()
	if h.core.self.incarnation <= old || h.incarnation != h.core.self.incarnation {
		t.Errorf("incarnation %d, on disk %d, after %d was known", h.core.self.incarnation, h.incarnation, old)
	}
}

func TestLostPushesAreFoundByBeacons(t *testing.T) {
	s := startSim(t, 3, 3)
	s.loss = 1
	h := s.hosts[0]
	h.remove(appKey, testEndpoint(0, 1).MAC)
	s.run(20 * time.Millisecond)
	s.loss = 0
	s.run(60 * time.Millisecond)
	s.checkAgreement()
}

func TestLostPullsAreRepeated(t *testing.T) {
	s := startSim(t, 3, 3)
	s.loss = 1
	s.hosts[0].remove(appKey, testEndpoint(0, 1).MAC)
	s.run(20 * time.Millisecond)
	s.loss = 0
	s.run(25 * time.Millisecond) // the beacon at 45 ms comes through, what it asks for does not
	s.loss = 1
	s.run(15 * time.Millisecond)
	s.loss = 0
	s.run(95 * time.Millisecond) // before the next beacon
	s.checkAgreement()
}

func TestNewcomersAndNewSubscriptionsAreCompleteAtOnce(t *testing.T) {
	s := startSim(t, 4, 100)
	h := s.hosts[3]
	other := Network{Key: "vni=6000", VNI: 6000}
	for _, o := range s.hosts[:3] {
		o.subscribe(other)
		o.put(other.Key, testEndpoint(o.number, 1))
	}
	h.crash()
	s.run(time.Minute)
	clear(h.endpoints)
	delete(h.networks, appKey)
	h.start()
	s.run(simPoll + 10*time.Millisecond)
	h.subscribe(appNet)
	s.run(5 * time.Millisecond)
	h.checkAgreement()
	h.subscribe(other)
	s.run(5 * time.Millisecond)
	h.checkAgreement()

	h.crash()
	s.run(time.Minute)
	h.start()
	s.run(simPoll + 10*time.Millisecond)
	h.checkAgreement()
}

// checkNoGap checks that the hosts were told of nothing that is gone.
func checkNoGap(t *testing.T, hosts []*simHost) {
	t.Helper()
	for _, h := range hosts {
		if h.gone > 0 {
			t.Errorf("host %d was told of %d things gone", h.number, h.gone)
		}
	}
}

func TestSlowRestartIsNoGapForOthers(t *testing.T) {
	s := startSim(t, 3, 10)
	h := s.hosts[0]
	h.crash()
	s.run(100 * time.Millisecond)
	for _, other := range s.hosts[1:] {
		other.gone = 0
	}
	h.slow = 2 * time.Second
	h.start()
	s.run(10 * time.Second)
	s.checkAgreement()
	checkNoGap(t, s.hosts[1:])
}

// A host that lost its disk says under another ID what its former self said, at
// the same VTEP: that the former one is gone withdraws nothing.
func TestHostWithoutItsDiskIsNoGapForOthers(t *testing.T) {
	s := startSim(t, 3, 3)
	h := s.hosts[0]
	networks, endpoints := maps.Clone(h.networks), maps.Clone(h.endpoints)
	h.crash()
	h.wipe()
	h.networks, h.endpoints = networks, endpoints
	h.start()
	s.run(10 * time.Second)
	s.checkAgreement()
	checkNoGap(t, s.hosts[1:])
}

func TestHealedPartitionAgreesAtOnce(t *testing.T) {
	s := startSim(t, 4, 50)
	s.hosts[0].move(1)
	s.hosts[1].move(1)
	s.run(time.Minute)
	for i := range 25 {
		s.hosts[0].remove(appKey, testEndpoint(0, i).MAC)
		s.hosts[2].put(appKey, testEndpoint(2, 100+i))
	}
	s.run(time.Minute)
	s.heal()
	s.run(rejoinInterval + simPoll + 10*time.Millisecond)
	s.checkAgreement()
}

// twoNodes is a core in one network, and a way to make another node speak to it.
func twoNodes() (c *core, receive func(packet) []send) {
	now := time.Unix(1, 0)
	vtep := netip.MustParseAddrPort("192.0.2.1:4789")
	c = newCore(now, 1, nodeID{1}, meta{vtep: vtep, incarnation: 5}, vtep, false)
	c.step(now, subscribeEvent{appNet})
	c.step(now, memberUpEvent{nodeID{2}, meta{vtep: vtep, incarnation: 7}, vtep})
	return c, func(p packet) []send {
		p.from, p.address = nodeID{2}, vtep
		return c.step(now, packetEvent{&p}).sends
	}
}

// announced is the announcement of the other of two nodes.
func announced(version, since uint64) announce {
	return announce{owner: nodeID{2}, incarnation: 7, version: version, networks: []announcedNetwork{{appNet, since}}}
}

func setDelta(incarnation, from, to uint64) delta {
	return delta{owner: nodeID{2}, incarnation: incarnation, key: appKey, from: from, to: to}
}

// What comes in while a pull is under way and is still missing when it has been
// answered is asked for at once.
func TestRestOfAPullIsAskedForAtOnce(t *testing.T) {
	c, receive := twoNodes()
	for i, step := range []struct {
		packet packet
		asked  []uint64
	}{
		{packet{announces: []announce{announced(2, 2)}, deltas: []delta{setDelta(7, 0, 2)}}, nil},
		{packet{deltas: []delta{setDelta(7, 2, 3)}}, nil},
		{packet{deltas: []delta{setDelta(7, 5, 6)}}, []uint64{3}},
		{packet{deltas: []delta{setDelta(7, 8, 9)}}, nil},
		{packet{deltas: []delta{setDelta(7, 3, 6)}}, []uint64{6}},
		{packet{deltas: []delta{setDelta(7, 6, 9)}}, nil},
	} {
		var asked []uint64
		for _, s := range receive(step.packet) {
			for _, w := range s.packet.wants {
				asked = append(asked, w.have)
			}
		}
		if !slices.Equal(asked, step.asked) {
			t.Errorf("step %d: asked for what is after %v, not %v", i, asked, step.asked)
		}
	}
	if len(c.pulls) != 0 {
		t.Errorf("%d pulls are left", len(c.pulls))
	}
}

func TestWhatIsOverIsNotTaken(t *testing.T) {
	c, receive := twoNodes()
	expect := func(what string, want uint64) {
		t.Helper()
		var version uint64
		if s := c.owners[nodeID{2}].set(appKey); s != nil {
			version = s.version
		}
		if version != want {
			t.Errorf("after %s the set is at version %d, not %d", what, version, want)
		}
	}
	receive(packet{announces: []announce{announced(2, 2)}, deltas: []delta{setDelta(7, 0, 5)}})
	expect("a full set", 5)
	receive(packet{deltas: []delta{setDelta(6, 0, 9)}})
	expect("one of an older incarnation", 5)
	receive(packet{announces: []announce{announced(11, 10)}})
	expect("a new subscription", 0)
	receive(packet{deltas: []delta{setDelta(7, 0, 6)}})
	expect("a set of the subscription that ended", 0)
	receive(packet{announces: []announce{announced(2, 2)}, deltas: []delta{setDelta(7, 0, 5)}})
	expect("the first announcement and set once more", 0)
	receive(packet{deltas: []delta{setDelta(7, 0, 10)}})
	expect("the new subscription's set", 10)

	withdrawal := announce{owner: nodeID{2}, incarnation: 7, version: 12}
	receive(packet{deltas: []delta{setDelta(7, 0, 20)}})
	receive(packet{announces: []announce{withdrawal}})
	expect("the end of a subscription that a set of the next one has overtaken", 20)
	receive(packet{announces: []announce{announced(13, 13)}, deltas: []delta{setDelta(7, 0, 15)}})
	expect("the next subscription's beginning", 20)
	withdrawal.version = 21
	receive(packet{announces: []announce{withdrawal}})
	expect("its end", 0)
}

// A withdrawal that was outrun is the last word of an owner that then died.
func TestOutrunWithdrawalOfTheDeadIsTaken(t *testing.T) {
	c, receive := twoNodes()
	receive(packet{announces: []announce{announced(2, 2)}, deltas: []delta{setDelta(7, 0, 20)}})
	c.step(time.Unix(1, 0), memberDownEvent{nodeID{2}})
	receive(packet{announces: []announce{{owner: nodeID{2}, incarnation: 7, version: 11}}})
	if o := c.owners[nodeID{2}]; o.version != 11 {
		t.Errorf("the announcement known is at version %d, not 11", o.version)
	}
}

func TestVersionsAreAnsweredWithWhatIsMissing(t *testing.T) {
	c, receive := twoNodes()
	receive(packet{announces: []announce{announced(2, 2)}, deltas: []delta{setDelta(7, 0, 2)}})
	e := testEndpoint(1, 1)
	c.step(time.Unix(1, 0), putEvent{appKey, &e})
	sends := receive(packet{versions: &versions{complete: slices.Repeat([]bool{true}, minBuckets), owners: []ownerVersions{
		{nodeID{1}, 5, c.self.version, []setVersion{{appKey, c.clock - 1}}},
		{nodeID{2}, 7, 2, []setVersion{{appKey, 4}}},
	}}})
	if len(sends) != 1 || len(sends[0].packet.deltas) != 1 || len(sends[0].packet.wants) != 1 {
		t.Fatalf("sent %+v", sends)
	}
	p := sends[0].packet
	if d := p.deltas[0]; d.from != c.clock-1 || d.to != c.clock || len(d.upserts) != 1 {
		t.Errorf("sent %+v", d)
	}
	if w := p.wants[0]; w.owner != (nodeID{2}) || w.have != 2 {
		t.Errorf("asked for %+v", w)
	}
}

func TestSetKnowsWhatItForgot(t *testing.T) {
	s := newSet(1, 10)
	s.put(&Endpoint{MAC: MAC{1}}, 11)
	s.put(&Endpoint{MAC: MAC{2}}, 12)
	s.remove(MAC{1}, 13)
	for version, want := range map[uint64]string{
		0:  "full [2]",
		9:  "full [2]", // before the set began: who knows what was removed since
		10: "[2] -[1]",
		12: "-[1]",
		13: "",
	} {
		changes, full := s.since(version)
		var got []string
		if full {
			got = append(got, "full")
		}
		for _, ch := range changes {
			if ch.endpoint == nil {
				got = append(got, fmt.Sprint("-", ch.mac[:1]))
			} else {
				got = append(got, fmt.Sprint(ch.mac[:1]))
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("since %d: %q, not %q", version, got, want)
		}
	}
}

func TestAntiEntropyRepairsWhatNothingElseDid(t *testing.T) {
	s := startSim(t, 2, 3)
	for i, rested := range []time.Duration{0, time.Minute} {
		s.run(rested)
		s.loss = 1
		s.hosts[0].remove(appKey, testEndpoint(0, i).MAC)
		s.run(800 * time.Millisecond)
		s.loss = 0
		s.run(2 * syncInterval)
		s.checkAgreement()
	}
}

// Every message wakes two daemons. Two that have told each other all say nothing but a digest and its answer, seldom.
func TestAtRest(t *testing.T) {
	s := startSim(t, 2, 3)
	s.run(2 * idleAfter)
	before := s.datagrams
	s.run(time.Minute)
	if said, most := s.datagrams-before, 2*2*int(time.Minute/idleInterval); said == 0 || said > most {
		t.Errorf("%d datagrams in a minute of rest, want 1 to %d", said, most)
	}
	s.loss = 1
	waiting := func() bool {
		return slices.ContainsFunc(s.hosts[0].core.members(s.now), func(m Member) bool { return m.State == StateSuspect })
	}
	for began := s.now; !waiting(); s.run(100 * time.Millisecond) {
		if s.now.Sub(began) > idleInterval+2*syncInterval {
			t.Fatalf("a silent host is not suspected after %v", s.now.Sub(began))
		}
	}
}

func TestThirdPartyHealsACutBetweenTwo(t *testing.T) {
	s := startSim(t, 3, 3)
	s.cut = [2]*simHost{s.hosts[0], s.hosts[2]}
	s.hosts[0].put(appKey, testEndpoint(0, 77))
	s.run(6 * time.Second)
	s.checkAgreement()
}

func TestAwayForADayIsForgotten(t *testing.T) {
	c, receive := twoNodes()
	known := func(id nodeID) bool { return c.owners[id] != nil }
	receive(packet{announces: []announce{
		announced(2, 2),
		{owner: nodeID{3}, incarnation: 1, version: 1, down: forgetAfter},
		{owner: nodeID{4}, incarnation: 1, version: 1, down: forgetAfter - time.Hour},
	}})
	if known(nodeID{3}) || !known(nodeID{4}) {
		t.Errorf("known of those away for 24 and 23 hours: %t, %t", known(nodeID{3}), known(nodeID{4}))
	}
	at := time.Unix(1, 0)
	c.step(at, memberDownEvent{nodeID{2}})
	c.step(at.Add(time.Hour), nil)
	if known(nodeID{4}) || !known(nodeID{2}) {
		t.Errorf("an hour later: %t, %t", known(nodeID{4}), known(nodeID{2}))
	}
	c.step(at.Add(forgetAfter), nil)
	if known(nodeID{2}) {
		t.Error("a day later it is still known")
	}
}

func TestBigSetsTravelWhole(t *testing.T) {
	s := startSim(t, 2, 0)
	for i := range 3000 {
		s.hosts[0].put(appKey, testEndpoint(0, i))
	}
	s.run(time.Second)
	s.checkAgreement()
	s.hosts[1].crash()
	for i := range 3000 {
		s.hosts[0].remove(appKey, testEndpoint(0, i).MAC)
	}
	s.hosts[1].start()
	s.run(4 * time.Second)
	s.checkAgreement()
	for i := range 3 * maxRemoved { // beyond the removals a set remembers
		s.hosts[0].put(appKey, testEndpoint(0, i))
		s.hosts[0].remove(appKey, testEndpoint(0, i).MAC)
	}
	s.run(time.Second)
	s.checkAgreement()
	if n := len(s.hosts[0].core.self.set(appKey).removed); n > maxRemoved {
		t.Errorf("%d removals are kept", n)
	}
}

func TestResolveIsTheSameEverywhereAndAvoidsOthers(t *testing.T) {
	s := startSim(t, 2, 0)
	a, b := s.hosts[0], s.hosts[1]
	if got := a.core.resolve("vni=4711"); got != 4711 {
		t.Errorf("vni=4711 is %d", got)
	}
	vni := a.core.resolve("network=web")
	if vni < derivedVNIs || vni > maxVNI || b.core.resolve("network=web") != vni {
		t.Errorf("network=web is %d and %d", vni, b.core.resolve("network=web"))
	}
	a.subscribe(Network{Key: fmt.Sprint("vni=", vni), VNI: vni})
	s.run(time.Second)
	other := b.core.resolve("network=web")
	if other == vni {
		t.Errorf("VNI %d is taken", vni)
	}
	b.subscribe(Network{Key: "network=web", VNI: other})
	s.run(time.Second)
	if got := a.core.resolve("network=web"); got != other {
		t.Errorf("the cluster uses %d, not %d", other, got)
	}
}

func TestBestPathIsHighestSequenceThenLowestVTEP(t *testing.T) {
	s := startSim(t, 4, 0)
	e := testEndpoint(50, 1)
	at := func() int {
		for n, h := range s.hosts[:3] {
			if slices.ContainsFunc(slices.Collect(maps.Values(s.hosts[3].view)), func(ch Change) bool {
				return ch.Kind == KindMAC && ch.MAC == e.MAC && ch.VTEP == h.core.self.meta.vtep
			}) {
				return n
			}
		}
		return -1
	}
	expect := func(want int) {
		t.Helper()
		s.run(50 * time.Millisecond)
		if got := at(); got != want {
			t.Fatalf("the best path is to host %d, not %d", got, want)
		}
	}
	s.hosts[1].put(appKey, e)
	expect(1)
	s.hosts[2].put(appKey, e)
	expect(1)
	s.hosts[0].put(appKey, e)
	expect(0)
	e.Seq = 1
	s.hosts[2].put(appKey, e)
	expect(2)
	s.hosts[2].remove(appKey, e.MAC)
	expect(0)
	s.hosts[0].remove(appKey, e.MAC)
	expect(1)
	s.hosts[1].remove(appKey, e.MAC)
	expect(-1)
}
