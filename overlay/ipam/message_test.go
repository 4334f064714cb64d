package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
)

func sampleMessage() *message {
	return &message{
		Key: "subnet=10.20.0.0/24", Subnet: netip.MustParsePrefix("10.20.0.0/24"), Host: "one", Owner: "a.1", Member: true,
		Origin: &origin{1, "a"}, Re: &origin{2, "b"}, Free: 3, Hash: 1 << 60, Held: []uint64{7},
		Spans: table{{First: 1, Last: 9, Owner: "a.1", Epoch: 1, Version: 2}, {First: 10, Last: 254, Owner: "b.1", Version: 1}},
		Ask:   &ask{ID: 1 << 60, First: 4, Last: 9, Free: 2, Urgent: true}, Answer: &answer{ID: 5, Why: nothing},
	}
}

// What another host says is taken whole or not at all.
func TestDecodeRefuses(t *testing.T) {
	good, err := sampleMessage().encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decode(good); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*message){
		"no key":                       func(m *message) { m.Key = "" },
		"a long key":                   func(m *message) { m.Key = strings.Repeat("k", maxKey+1) },
		"a long owner":                 func(m *message) { m.Owner = strings.Repeat("o", maxOwner+1) },
		"a span's long owner":          func(m *message) { m.Spans[0].Owner = strings.Repeat("o", maxOwner+1) },
		"host bits":                    func(m *message) { m.Subnet = netip.MustParsePrefix("10.20.0.1/24") },
		"a subnet that is too small":   func(m *message) { m.Subnet = netip.MustParsePrefix("10.20.0.0/31") },
		"spans without a subnet":       func(m *message) { m.Subnet = netip.Prefix{} },
		"a span of the network":        func(m *message) { m.Spans[0].First = 0 },
		"a span of the broadcast":      func(m *message) { m.Spans[1].Last = 255 },
		"spans that overlap":           func(m *message) { m.Spans[1].First = 9 },
		"spans out of order":           func(m *message) { slices.Reverse(m.Spans) },
		"a span that ends before":      func(m *message) { m.Spans[0].Last = 0 },
		"a version that can't be next": func(m *message) { m.Spans[0].Version = maxVersion + 1 },
		"an epoch that can't be next":  func(m *message) { m.Spans[0].Epoch = maxVersion + 1 },
		"a question beyond the subnet": func(m *message) { m.Ask.Last = 255 },
		"a question from behind":       func(m *message) { m.Ask.First = 10 },
		"a question for another":       func(m *message) { m.Ask.To = "c.1" },
		"many held addresses":          func(m *message) { m.Held = make([]uint64, maxHeld+1) },
		"many spans":                   func(m *message) { m.Spans = make(table, maxSpans+1) },
	} {
		m := sampleMessage()
		change(m)
		b, err := proto.MarshalOptions{}.MarshalAppend([]byte{protocolVersion}, m.wire())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decode(b); err == nil {
			t.Errorf("%s was taken", what)
		}
	}
	if _, err := decode(append(good, make([]byte, maxMessage)...)); err == nil {
		t.Error("a message longer than the longest was taken")
	}
}

// Whatever comes, no host panics, and its table covers the subnet as before.
func FuzzReceive(f *testing.F) {
	for _, change := range []func(*message){
		func(*message) {},
		func(m *message) { m.Full, m.Reply, m.Need = true, true, true },
		func(m *message) { m.Origin, m.Proposed = nil, true },
		func(m *message) { m.Origin.At, m.Full = 0, true },
		func(m *message) { m.Ask.To, m.Ask.Last = ownerGateway, m.Ask.First },
		func(m *message) { m.Spans, m.Owner = nil, "b.1" },
	} {
		m := sampleMessage()
		m.Owner = "b.1"
		change(m)
		b, err := m.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decode(b)
		if err != nil {
			return
		}
		c, p := testCore("a.1", "b.1", "c.1")
		p.Table[2].Last = 254
		c.put(p, p.Table)
		c.meet(map[string]string{"b": "host-b", "c": "host-c"}, nil)
		c.request(p.id, Request{MAC: "02:00:00:00:00:01"}, func(netip.Addr, error) {})
		for range 2 {
			out := c.step(c.now, func() { c.receive("b", m) })
			for _, s := range out.sends {
				if _, err := s.message.encode(); err != nil {
					t.Errorf("the answer: %v", err)
				}
			}
		}
		if err := p.Table.check(1, 254); err != nil || !p.Table.covers(1, 254) {
			t.Errorf("the table is %+v: %v", p.Table, err)
		}
	})
}

// Messages about pools that are made up fill no memory, and the numbers of a pool that is here stay.
func TestNumbersOfPoolsThatAreMadeUpAreForgotten(t *testing.T) {
	here := poolID{Key: "network=app", Subnet: netip.MustParsePrefix("10.20.0.0/16")}
	c := &core{latest: map[poolID]map[string]number{}, pools: map[poolID]*pool{here: {}}}
	if !c.inOrder(here, "a", number{1, 5}) {
		t.Fatal("the first message is not in order")
	}
	for i := range 3 * maxLatest {
		c.inOrder(poolID{Key: fmt.Sprint("network=", i)}, "a", number{1, uint64(i)})
	}
	if len(c.latest) > maxLatest {
		t.Errorf("numbers of %d pools are kept, at most %d are to be", len(c.latest), maxLatest)
	}
	if c.inOrder(here, "a", number{1, 4}) {
		t.Error("an old message about a pool that is here is taken")
	}
}

// A host that makes pools up fills neither memory nor disk, and takes no room from the others.
func TestPeerPoolsThatAreMadeUp(t *testing.T) {
	c, _ := testCore("a.1")
	says := func(from string, i int) {
		subnet := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
		c.notePeerPool(from, &message{Key: SubnetKey(subnet), Subnet: subnet, Host: from, Member: true, Origin: &origin{1, from}})
	}
	for i := range 2 * maxPeerPools {
		says("b", i)
	}
	if len(c.peerPools) != maxPeerPools {
		t.Errorf("%d pools of a host are noted, want %d", len(c.peerPools), maxPeerPools)
	}
	says("c", 2*maxPeerPools)
	if len(c.peerPools) != maxPeerPools+1 {
		t.Error("another host's pool is not noted")
	}
}

// A host that went back to an older state is heard: its messages under its new incarnation are none that others have overtaken.
func TestHostThatWentBackIsHeard(t *testing.T) {
	c, p := testCore("a.1", "b.1")
	c.meet(map[string]string{"b": "host-b"}, nil)
	peer := &core{latest: map[poolID]map[string]number{}, pools: map[poolID]*pool{}}
	if !peer.inOrder(p.id, "a", number{1, 1000}) {
		t.Fatal("what it said before is not taken")
	}
	taken := func() bool {
		out := c.step(c.now, func() { c.sendTo("b", &message{}, p) })
		last := out.sends[len(out.sends)-1].message
		return peer.inOrder(p.id, "a", last.Number)
	}
	if taken() {
		t.Error("an overtaken message is taken")
	}
	c.renew(1)
	if taken() {
		t.Error("nothing has changed, and a message is taken")
	}
	c.renew(2)
	if !taken() {
		t.Error("a message under the new incarnation is not taken")
	}
}
