package discovery

import (
	"bytes"
	"encoding/binary"
	"io"
	"log"
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// liar is a node that is no member, and has the token.
var liar = nodeID{99}

// lie has a host hear what the liar says.
func (h *simHost) lie(p packet) map[string]uint64 {
	p.from, p.address = liar, netip.MustParseAddrPort("10.9.9.9:7950")
	before := h.sim.at[p.address]
	h.sim.at[p.address] = h // whoever answers him answers nobody
	defer func() { h.sim.at[p.address] = before }()
	out := h.core.step(h.sim.now, packetEvent{&p})
	h.after(out)
	counted := map[string]uint64{}
	for reason, r := range out.refused {
		counted[reason] = r.times
	}
	return counted
}

// lies are claims that a node has gone, and that a set of it is empty.
func lies(of *simHost, incarnation uint64) packet {
	return packet{
		announces: []announce{{owner: of.id, incarnation: incarnation, version: 9, left: true}},
		deltas:    []delta{{owner: of.id, incarnation: incarnation, key: appKey, to: maxVersion}},
		versions:  &versions{owners: []ownerVersions{{owner: of.id, incarnation: incarnation, version: maxVersion}}},
	}
}

// An incarnation that its owner can't have come to changes nothing anywhere, and is counted and named.
func TestAbsurdIncarnationsAreRefused(t *testing.T) {
	for _, incarnation := range []uint64{maxIncarnation, maxIncarnation - 1, 1 << 53, 1_700_000_000_000 + 2*maxLead} {
		s := startSim(t, 3, 3)
		victim, before := s.hosts[0], s.hosts[0].incarnation
		for _, h := range s.hosts {
			if got := h.lie(lies(victim, incarnation)); got[reasonAhead] != 3 {
				t.Errorf("host %d counts %v, not 3 of %s", h.number, got, reasonAhead)
			}
			if h.gone > 0 {
				t.Errorf("something is gone at host %d", h.number)
			}
		}
		s.run(5 * time.Second)
		s.checkAgreement()
		if victim.incarnation != before {
			t.Errorf("incarnation %d after a claim of %d: it was %d", victim.incarnation, incarnation, before)
		}
	}
}

// Who is told something that a host may say is told otherwise by that host: the lie lasts for as long as it is repeated, and no longer.
func TestPossibleLiesAreRefuted(t *testing.T) {
	for _, lead := range []uint64{1, 1e6, maxLead - 1, maxLead} {
		s := startSim(t, 3, 3)
		victim := s.hosts[0]
		for range 20 {
			claimed := victim.incarnation + lead
			for _, h := range s.hosts[1:] {
				h.lie(lies(victim, claimed))
			}
			s.run(1500 * time.Millisecond)
		}
		s.run(5 * time.Second)
		s.checkAgreement()
		if victim.core.self.incarnation != victim.incarnation || victim.incarnation < 1_700_000_000_000+lead {
			t.Errorf("incarnation %d, on disk %d", victim.core.self.incarnation, victim.incarnation)
		}
	}
}

// Of a host that is down a node can be told much which has never met it. It is dropped when the host comes back.
func TestLiesAboutTheAbsentEndWithTheirReturn(t *testing.T) {
	s := newSimulation(3, 7, t.Fatalf)
	for _, h := range s.hosts[1:] {
		h.start()
		h.subscribe(appNet)
		h.put(appKey, testEndpoint(h.number, 1))
	}
	victim := s.hosts[0]
	for _, h := range s.hosts[1:] {
		h.lie(lies(victim, maxIncarnation))
	}
	s.run(3 * time.Second)
	victim.start()
	victim.subscribe(appNet)
	victim.put(appKey, testEndpoint(0, 1))
	s.run(5 * time.Second)
	s.checkAgreement()
}

// A disk may be put back by years while the clock is wrong: its host is heard all the same.
func TestHostWithAnOldDiskAndNoClockIsHeard(t *testing.T) {
	s := startSim(t, 3, 3)
	victim := s.hosts[0]
	victim.crash()
	s.run(20 * time.Second)
	s.rewound = true
	victim.incarnation, victim.clock = 12, time.Unix(100, 0).Sub(s.now)
	s.watch = nil // what was known of it counts no more
	victim.start()
	s.run(10 * time.Second)
	s.checkAgreement()
}

// No host is refused for its clock, nor refuses others for it, whatever either is, and however it is set.
func TestWrongClocksLockNobodyOut(t *testing.T) {
	at := func(s *simulation, year int) time.Duration {
		return time.Date(year, 2, 3, 4, 5, 6, 0, time.UTC).Sub(s.now)
	}
	for _, years := range [][2]int{{1970, 2023}, {2023, 2200}, {1970, 2200}, {2023, 1970}, {2200, 2023}, {2200, 1970}} {
		s := newSimulation(3, 7, t.Fatalf)
		h := s.hosts[0]
		h.clock = at(s, years[0])
		for _, h := range s.hosts {
			h.start()
			h.subscribe(appNet)
			h.put(appKey, testEndpoint(h.number, 1))
		}
		s.run(5 * time.Second)
		s.checkAgreement()
		h.clock = at(s, years[1])
		h.crash()
		s.run(time.Second)
		h.start() // before anybody has found out
		s.run(5 * time.Second)
		s.checkAgreement()
		h.put(appKey, testEndpoint(h.number, 2))
		s.run(time.Second)
		s.checkAgreement()
	}
}

// A sequence number that no moves have made wins nothing; one above all is the next in line.
func TestAbsurdSequenceNumbersWinNothing(t *testing.T) {
	for _, extra := range []bool{false, true} {
		s := startSim(t, 4, 0)
		claim := func(host, endpoint int, seq uint32) {
			e := testEndpoint(50, 1)
			if e.Seq = seq; extra {
				e = testEndpoint(60+host, endpoint)
				e.Extras = []Extra{{MAC: testEndpoint(50, 1).MAC, Addr: testEndpoint(50, 1).Addrs[0], Seq: seq}}
			}
			s.hosts[host].put(appKey, e)
			s.run(50 * time.Millisecond)
		}
		expect := func(want int) {
			t.Helper()
			e := testEndpoint(50, 1)
			for _, kind := range []Kind{KindMAC, KindAddr} {
				for _, ch := range s.hosts[3].view {
					if ch.Kind == kind && ch.MAC == e.MAC && (kind == KindMAC || ch.Addr == e.Addrs[0]) && ch.VTEP != s.hosts[want].core.self.meta.vtep {
						t.Fatalf("extra %t: %v is at %s, not at host %d", extra, kind, ch.VTEP, want)
					}
				}
			}
		}
		claim(0, 1, 5)
		claim(1, 1, math.MaxUint32)
		expect(0)
		claim(1, 1, 5+maxSeqLead+10)
		expect(0)
		claim(2, 1, NextSeq(0, []uint32{5, 5 + maxSeqLead + 10}))
		expect(2)
		standing := s.hosts[3].core.standing(appKey, Extra{MAC: testEndpoint(50, 1).MAC, Addr: testEndpoint(50, 1).Addrs[0], Seq: 7})
		if want := uint32(7); extra && (standing.Seq != want || standing.Outranked) {
			t.Errorf("standing %+v: want %d to claim it with, above all that count", standing, want)
		}
	}
	s := startSim(t, 2, 0)
	e := testEndpoint(50, 1)
	s.hosts[0].put(appKey, e)
	s.run(time.Second)
	e.Seq = math.MaxUint32
	d := setDelta(7, 0, 9)
	d.upserts = []*Endpoint{&e}
	a := announced(1, 1)
	h := s.hosts[1]
	h.step(memberUpEvent{nodeID{2}, meta{incarnation: 7, vtep: netip.MustParseAddrPort("10.9.9.9:4789")}, netip.MustParseAddrPort("10.0.0.1:7950")})
	if got := h.lie(packet{announces: []announce{a}, deltas: []delta{d}}); got[reasonSequence] != uint64(1+len(e.Addrs)) { // the MAC address and each address
		t.Errorf("counted %v", got)
	}
}

func TestNextSeqIsAboveWhatMovesHaveMade(t *testing.T) {
	for _, c := range []struct {
		own    uint32
		others []uint32
		want   uint32
	}{
		{0, nil, 0}, {4, []uint32{1, 3}, 4}, {4, []uint32{4}, 5}, {0, []uint32{9, 2}, 10},
		{0, []uint32{math.MaxUint32}, 0}, {3, []uint32{5, 5 + 2*maxSeqLead}, 6}, {0, []uint32{maxSeqLead, 2*maxSeqLead + 1}, 2*maxSeqLead + 2},
		{math.MaxUint32, []uint32{math.MaxUint32}, math.MaxUint32},
	} {
		if got := NextSeq(c.own, c.others); got != c.want {
			t.Errorf("NextSeq(%d, %v) is %d, not %d", c.own, c.others, got, c.want)
		}
	}
}

// Hosts that are made up fill no memory, and keep no host out that was there.
func TestHostsHaveABound(t *testing.T) {
	c, receive := twoNodes()
	number := uint64(0)
	made := func() (id nodeID) {
		number++
		id[0] = 200
		binary.BigEndian.PutUint64(id[8:], number)
		return id
	}
	var refused uint64
	for range 2 * maxHosts / 1024 {
		p := packet{from: nodeID{2}}
		for range 1024 {
			p.announces = append(p.announces, announce{owner: made(), incarnation: 1, version: 1})
		}
		out := c.step(c.now, packetEvent{&p})
		refused += out.refused[reasonHosts].times
	}
	if len(c.owners) != maxHosts || refused != maxHosts+2 {
		t.Errorf("%d hosts are known, %d were refused", len(c.owners), refused)
	}
	vtep := netip.MustParseAddrPort("192.0.2.1:4789")
	c.step(c.now, memberUpEvent{nodeID{3}, meta{vtep: vtep, incarnation: 7}, vtep})
	e := testEndpoint(1, 1)
	a, d := announced(3, 3), setDelta(7, 0, 4)
	a.owner, d.owner, d.upserts = nodeID{3}, nodeID{3}, []*Endpoint{&e}
	receive(packet{announces: []announce{a}, deltas: []delta{d}})
	if records := c.records(); len(records) != 1 {
		t.Errorf("records %v: want that of a member", records)
	}

	f := newAffiliation(nodeID{1}, clusterID{1}, newLimiter(time.Minute), t.Logf)
	admit := func(id nodeID) error {
		return f.admit(memberUpEvent{id: id, meta: meta{claim: claim{true, clusterID{1}}}})
	}
	first := made()
	for _, id := range append([]nodeID{first}, slices.Collect(func(yield func(nodeID) bool) {
		for range maxHosts - 1 {
			yield(made())
		}
	})...) {
		if err := admit(id); err != nil {
			t.Fatal(err)
		}
	}
	late := made()
	if err := admit(late); err == nil {
		t.Error("one host more was let in")
	}
	if err := admit(first); err != nil {
		t.Errorf("a host that was there is kept out: %v", err)
	}
	f.lose([]nodeID{first})
	if err := admit(late); err != nil {
		t.Errorf("where one was forgotten another is kept out: %v", err)
	}
}

// Records of one member fill no memory.
func TestRecordsHaveABound(t *testing.T) {
	c, receive := twoNodes()
	receive(packet{announces: []announce{announced(3, 3)}})
	c.held = maxRecords - 1
	a, b := testEndpoint(1, 1), testEndpoint(1, 2)
	d := setDelta(7, 0, 4)
	d.upserts = []*Endpoint{&a, &b}
	receive(packet{deltas: []delta{d}})
	if records := c.records(); len(records) > 0 {
		t.Errorf("records %v beyond the bound", records)
	}
	c.countRecords()
	receive(packet{deltas: []delta{d}})
	if records := c.records(); len(records) != 2 {
		t.Errorf("records %v: want two", records)
	}
}

// A member that has the token, and speaks with memberlist's own client: he locks nobody out, takes over nothing by numbers, and is counted.
func TestMemberWithTheTokenLocksNobodyOut(t *testing.T) {
	a := startNode(t, listenSockets, 1, withKey(secret))
	b := startNode(t, listenSockets, 2, withKey(secret), withJoin(a))
	e := testEndpoint(1, 1)
	for _, n := range []*testNode{a, b} {
		n.subscribe(appNet)
	}
	a.Put(appKey, e)
	b.wait(patience, "the record", func() bool { return b.mac(e) != "" })
	incarnation := a.Self().Incarnation

	m := meta{host: "liar", vtep: netip.MustParseAddrPort("127.0.0.9:4789"), incarnation: 5, networks: true}
	list := member(t, liar, []byte(secret), m)
	if _, err := list.Join([]string{b.Self().Addr.String()}); err != nil {
		t.Fatal(err)
	}
	b.wait(patience, "the liar is a member", func() bool {
		return slices.ContainsFunc(b.Members(), func(m Member) bool { return m.ID == liar.String() && m.State == StateAlive })
	})
	say := func(to *testNode, p packet) {
		t.Helper()
		p.from, p.address = liar, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(list.LocalNode().Port))
		text, err := encodePacket(&p)
		if err != nil {
			t.Fatal(err)
		}
		node := &memberlist.Node{Name: to.Self().ID, Addr: to.Self().Addr.Addr().AsSlice(), Port: to.Self().Addr.Port()}
		if err := list.SendReliable(node, text); err != nil {
			t.Fatal(err)
		}
	}
	stolen := e
	stolen.Seq = math.MaxUint32
	vtepOfA := b.mac(e)
	for _, n := range []*testNode{a, b} {
		for _, far := range []uint64{maxIncarnation, maxIncarnation - 1, incarnation + maxLead + 1} {
			say(n, packet{announces: []announce{{owner: a.identity.id, incarnation: far, left: true}}})
			say(n, packet{deltas: []delta{{owner: a.identity.id, incarnation: far, key: appKey, to: 9, upserts: []*Endpoint{&stolen}}}})
		}
		say(n, packet{announces: []announce{{owner: liar, incarnation: 5, version: 1, networks: []announcedNetwork{{appNet, 1}}}},
			deltas: []delta{{owner: liar, incarnation: 5, key: appKey, to: 2, upserts: []*Endpoint{&stolen}}}})
		n.wait(patience, "the claims are counted", func() bool { return n.Rejected()[reasonAhead] >= 6 })
	}
	b.wait(patience, "the sequence number is counted", func() bool { return b.Rejected()[reasonSequence] >= 2 })
	if got := b.mac(e); got != vtepOfA {
		t.Errorf("MAC address at %s, not at %s", got, vtepOfA)
	}
	if got := a.Self().Incarnation; got != incarnation {
		t.Errorf("incarnation %d, not %d", got, incarnation)
	}
	if !bytes.Contains([]byte(b.logged.String()), []byte("liar ("+liar.String()+")")) {
		t.Errorf("the log does not say who it was:\n%s", b.logged)
	}

	// What a host can say of itself it can refute.
	say(b, packet{announces: []announce{{owner: a.identity.id, incarnation: incarnation + maxLead, left: true}}})
	b.wait(patience, "the host says otherwise", func() bool {
		return a.Self().Incarnation > incarnation+maxLead && b.mac(e) == vtepOfA
	})

	// Nor does an incarnation last that he puts into its membership.
	other := member(t, a.identity.id, []byte(secret), meta{host: "a", vtep: a.Self().VTEP, incarnation: maxIncarnation})
	other.Join([]string{b.Self().Addr.String()})
	say(b, packet{announces: []announce{{owner: a.identity.id, incarnation: maxIncarnation, left: true}}})
	other.Shutdown()
	f := testEndpoint(1, 2)
	a.Put(appKey, f)
	b.wait(patience, "a new record of the host", func() bool { return b.mac(f) == vtepOfA && b.mac(e) == vtepOfA })
}

// member is memberlist's own client, as a node of its own.
func member(t *testing.T, id nodeID, key []byte, m meta) *memberlist.Memberlist {
	t.Helper()
	text, err := encodeMeta(m)
	if err != nil {
		t.Fatal(err)
	}
	conf := memberlist.DefaultLANConfig()
	conf.Name, conf.SecretKey = id.String(), key
	conf.BindAddr, conf.BindPort = "127.0.0.1", 0
	conf.Delegate = metaDelegate(text)
	conf.Logger = log.New(io.Discard, "", 0)
	list, err := memberlist.Create(conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { list.Shutdown() })
	return list
}

// metaDelegate says the meta, and hears nothing.
type metaDelegate []byte

func (d metaDelegate) NodeMeta(int) []byte             { return d }
func (metaDelegate) NotifyMsg([]byte)                  {}
func (metaDelegate) GetBroadcasts(int, int) [][]byte   { return nil }
func (metaDelegate) LocalState(bool) []byte            { return nil }
func (metaDelegate) MergeRemoteState(b []byte, _ bool) {}
