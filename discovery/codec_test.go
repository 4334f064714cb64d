package discovery

import (
	"bytes"
	"errors"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/overlane/overlane/discovery/internal/wire"
)

func fullPacket() *packet {
	e, f := testEndpoint(1, 1), testEndpoint(1, 2)
	f.Seq = 1 << 31
	for i := range MaxExtras {
		f.Extras = append(f.Extras, Extra{MAC: MAC{2, 9, 0, 0, 0, byte(i)}, Addr: netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(i)}), Seq: 1 << 31})
	}
	f.Extras[0].MAC = MAC{}
	f.Names = strings.Repeat("db ", MaxNames/3)
	return &packet{
		from:    nodeID{1, 2, 3},
		address: netip.MustParseAddrPort("[fd00::1]:7950"),
		claim:   claim{true, clusterID{8}},
		announces: []announce{
			{owner: nodeID{1}, incarnation: 2, version: 3, networks: []announcedNetwork{{appNet, 2}, {Network{"vni=1", 1, true}, 3}}},
			{owner: nodeID{2}, incarnation: maxIncarnation, version: maxVersion, left: true, down: 90 * time.Second},
		},
		deltas: []delta{
			{owner: nodeID{1}, incarnation: 2, key: appKey, from: 0, to: 4, upserts: []*Endpoint{&e, &f}},
			{owner: nodeID{1}, incarnation: 2, key: appKey, encrypted: true, from: 4, to: 5, deletes: []MAC{e.MAC, f.MAC}, made: time.UnixMilli(1_700_000_000_000)},
		},
		wants:  []want{{nodeID{3}, 4, "", 5}, {nodeID{3}, 4, appKey, 0}},
		digest: &digest{buckets: make([]uint64, minBuckets)},
		versions: &versions{complete: []bool{true, false}, owners: []ownerVersions{
			{owner: nodeID{4}, incarnation: 5, version: 6, sets: []setVersion{{appKey, 7}, {"vni=1", 0}}},
		}},
		relay:    &relay{nodeID{1}, nodeID{9}},
		greeting: greeting{5, 6, 7, "host"},
		stream:   true,
		heard:    true,
	}
}

func TestPacketsSurviveTheWire(t *testing.T) {
	want := fullPacket()
	b, err := encodePacket(want)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > want.wireSize() {
		t.Errorf("%d bytes were taken for %d", len(b), want.wireSize())
	}
	got, err := decodePacket(b)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// What is put on the wire by others may be anything: each limit rejects under
// its name.
func TestDecodeRejectsByReason(t *testing.T) {
	id := make([]byte, 16)
	good := func() *wire.Packet { return &wire.Packet{From: id} }
	announce := func(a *wire.Announce) *wire.Packet {
		p := good()
		a.Owner = id
		p.Announces = []*wire.Announce{a}
		return p
	}
	delta := func(d *wire.Delta) *wire.Packet {
		p := good()
		d.Owner, d.To = id, max(d.To, 1)
		p.Deltas = []*wire.Delta{d}
		return p
	}
	endpoint := func(e *wire.Endpoint) *wire.Packet {
		if e.Mac == nil {
			e.Mac = make([]byte, 6)
		}
		return delta(&wire.Delta{Key: appKey, Upserts: []*wire.Endpoint{e}})
	}
	long := strings.Repeat("k", 1000)
	for _, c := range []struct {
		reason string
		packet *wire.Packet
	}{
		{"node_id", &wire.Packet{}},
		{"node_id", &wire.Packet{From: make([]byte, 17)}},
		{"address", &wire.Packet{From: id, Address: make([]byte, 7)}},
		{"incarnation", announce(&wire.Announce{Incarnation: 1 << 63})},
		{"version", announce(&wire.Announce{Version: 1 << 63})},
		{"down", announce(&wire.Announce{DownSeconds: 1 << 31})},
		{"vni", announce(&wire.Announce{Networks: []*wire.AnnouncedNetwork{{Key: appKey}}})},
		{"vni", announce(&wire.Announce{Networks: []*wire.AnnouncedNetwork{{Key: appKey, Vni: 1 << 24}}})},
		{"network_key", announce(&wire.Announce{Networks: []*wire.AnnouncedNetwork{{Vni: 1}}})},
		{"network_key", announce(&wire.Announce{Networks: []*wire.AnnouncedNetwork{{Key: long, Vni: 1}}})},
		{"networks", announce(&wire.Announce{Networks: make([]*wire.AnnouncedNetwork, maxNetworks+1)})},
		{"networks", announce(&wire.Announce{Left: true, Networks: []*wire.AnnouncedNetwork{{Key: appKey, Vni: 1}}})},
		{"network_key", delta(&wire.Delta{})},
		{"delta", delta(&wire.Delta{Key: appKey, From: 5, To: 5})},
		{"time", delta(&wire.Delta{Key: appKey, Made: 1 << 63})},
		{"mac", delta(&wire.Delta{Key: appKey, Deletes: [][]byte{{1}}})},
		{"endpoints", delta(&wire.Delta{Key: appKey, Deletes: make([][]byte, maxRemoved+1)})},
		{"endpoints", delta(&wire.Delta{Key: appKey, Upserts: make([]*wire.Endpoint, maxEndpoints+1)})},
		{"mac", endpoint(&wire.Endpoint{Mac: make([]byte, 7)})},
		{"endpoint_id", endpoint(&wire.Endpoint{Id: long})},
		{"address", endpoint(&wire.Endpoint{Addrs: [][]byte{{1, 2, 3}}})},
		{"addresses", endpoint(&wire.Endpoint{Addrs: make([][]byte, MaxAddrs+1)})},
		{"addresses", endpoint(&wire.Endpoint{Extras: make([]*wire.Extra, MaxExtras+1)})},
		{"address", endpoint(&wire.Endpoint{Extras: []*wire.Extra{{}}})},
		{"mac", endpoint(&wire.Endpoint{Extras: []*wire.Extra{{Addr: make([]byte, 4), Mac: make([]byte, 5)}}})},
		{"names", endpoint(&wire.Endpoint{Names: strings.Repeat("a", MaxNames+1)})},
		{"names", endpoint(&wire.Endpoint{Names: "db \x1b[2J"})},
		{"network_key", &wire.Packet{From: id, Wants: []*wire.Want{{Owner: id, Key: long}}}},
		{"digest", &wire.Packet{From: id, Digest: &wire.Digest{Buckets: make([]uint64, maxBuckets+1)}}},
		{"digest", &wire.Packet{From: id, Versions: &wire.Versions{Buckets: maxBuckets + 1}}},
		{"node_id", &wire.Packet{From: id, Relay: &wire.Relay{First: id}}},
		{"digest", &wire.Packet{From: id, Versions: &wire.Versions{Buckets: 3, Complete: []uint32{3}}}},
		{"cluster_id", &wire.Packet{From: id, Cluster: id[:15]}},
	} {
		b, err := encode(c.packet)
		if err != nil {
			t.Fatal(err)
		}
		var r *rejection
		if _, err := decodePacket(b); !errors.As(err, &r) || r.reason != c.reason {
			t.Errorf("%v: %v, not rejected for %s", c.packet, err, c.reason)
		}
	}
	var r *rejection
	if _, err := decodePacket(make([]byte, maxMessage+1)); !errors.As(err, &r) || r.reason != "size" {
		t.Errorf("a large message: %v", err)
	}
}

// checkMemory checks what decoding a message allocates. The dearest message is of
// empty deltas: two bytes each, which become a wire.Delta of 160 and a pointer in a
// list that grows, and are rejected before they cost more. Beyond what its bytes pay
// for, a message costs as little as protobuf's own tables: a number in it must not.
func checkMemory(t *testing.T, b []byte, decode func()) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	decode()
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 128*uint64(len(b))+256<<10 {
		t.Errorf("%d bytes were allocated for %d", n, len(b))
	}
}

// The dearest messages are too large for the fuzzer to find.
func TestNoMessageTakesMuchMemory(t *testing.T) {
	const size = maxMessage / messageShare
	id := make([]byte, 16)
	for name, m := range map[string]*wire.Packet{
		"announcements": {Announces: slices.Repeat([]*wire.Announce{{}}, size/2)},
		"deltas":        {Deltas: slices.Repeat([]*wire.Delta{{}}, size/2)},
		"short deltas":  {From: id, Deltas: slices.Repeat([]*wire.Delta{{Owner: id, Key: "k", To: 1}}, size/25)},
		"endpoints":     {Deltas: []*wire.Delta{{Upserts: slices.Repeat([]*wire.Endpoint{{}}, size/2)}}},
		"wants":         {Wants: slices.Repeat([]*wire.Want{{}}, size/2)},
		"versions":      {Versions: &wire.Versions{Owners: slices.Repeat([]*wire.OwnerVersions{{}}, size/2)}},
	} {
		b, err := encode(m)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) { checkMemory(t, b, func() { _, _ = decodePacket(b[:min(len(b), size)]) }) })
	}
}

func FuzzDecodePacket(f *testing.F) {
	b, err := encodePacket(fullPacket())
	if err != nil {
		f.Fatal(err)
	}
	for n := range len(b) / 16 {
		f.Add(b[:n*16])
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var p *packet
		var err error
		checkMemory(t, b, func() { p, err = decodePacket(b) })
		if err != nil {
			if r := (*rejection)(nil); !errors.As(err, &r) {
				t.Fatalf("%T is no rejection", err)
			}
			return
		}
		again, err := encodePacket(p)
		if err != nil {
			t.Fatalf("what was decoded cannot be encoded: %v", err)
		}
		if q, err := decodePacket(again); err != nil || !reflect.DeepEqual(p, q) {
			t.Fatalf("%+v became %+v: %v", p, q, err)
		}
		// Whatever it says, the core takes it, and stays in one piece.
		c := newCore(time.Unix(1, 0), 1, nodeID{9}, meta{vtep: p.address, incarnation: 1}, p.address, false)
		c.step(time.Unix(1, 0), subscribeEvent{appNet})
		c.step(time.Unix(1, 0), memberUpEvent{p.from, meta{vtep: netip.MustParseAddrPort("192.0.2.1:4789")}, p.address})
		c.step(time.Unix(2, 0), packetEvent{p})
		c.step(time.Unix(3, 0), memberDownEvent{p.from})
		c.step(time.Unix(9, 0), unsubscribeEvent{appKey})
	})
}

func FuzzDecodeMeta(f *testing.F) {
	b, err := encodeMeta(meta{"host", netip.MustParseAddrPort("192.0.2.1:4789"), 5, keys{{1}, {2}}, 9000, claim{true, clusterID{7}}, true, true, true})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)/2])
	f.Add(bytes.Repeat([]byte{protocolVersion}, maxMeta+1))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMeta(b)
		if err != nil {
			return
		}
		again, err := encodeMeta(m)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := decodeMeta(again); err != nil || n != m {
			t.Fatalf("%+v became %+v: %v", m, n, err)
		}
	})
}

func FuzzDecodeSnapshot(f *testing.F) {
	now := time.UnixMilli(1_700_000_000_000)
	b, err := encodeSnapshot(now, someSnapshot())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)/2])
	f.Fuzz(func(t *testing.T, b []byte) {
		var owners []ownerSnapshot
		var ago time.Duration
		var err error
		checkMemory(t, b, func() { owners, ago, err = decodeSnapshot(now, b) })
		if err != nil {
			if r := (*rejection)(nil); !errors.As(err, &r) {
				t.Fatalf("%T is no rejection", err)
			}
			return
		}
		c, _ := twoNodes()
		c.step(now, restoreEvent{owners, ago})
		if _, err := encodeSnapshot(now, c.snapshot()); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzParseSeed(f *testing.F) {
	for _, s := range []string{"10.0.0.1", "10.0.0.1:7950", "fd00::1", "[fd00::1]:7950", "[fd00::1]", "host", "host:1", ":", "a:b:c", "[", "host:0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := parseSeed(text); err == nil && s.host == "" {
			t.Fatalf("%q has no host", text)
		}
	})
}

func TestParseSeed(t *testing.T) {
	for text, want := range map[string]seed{
		"10.0.0.1":       {"10.0.0.1", 0},
		"10.0.0.1:7950":  {"10.0.0.1", 7950},
		"fd00::1":        {"fd00::1", 0},
		"[fd00::1]":      {"fd00::1", 0},
		"[fd00::1]:7950": {"fd00::1", 7950},
		"host.example":   {"host.example", 0},
		"host:99":        {"host", 99},
	} {
		if got, err := parseSeed(text); err != nil || got != want {
			t.Errorf("%q is %+v (%v), not %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", ":7950", "host:0", "host:65536", "host:", "a b", "[fd00::1", "1:2:3:x"} {
		if got, err := parseSeed(text); err == nil {
			t.Errorf("%q is %+v", text, got)
		}
	}
}

func TestMAC(t *testing.T) {
	m, err := ParseMAC("02:42:0A:00:00:02")
	if err != nil || m.String() != "02:42:0a:00:00:02" {
		t.Errorf("%s, %v", m, err)
	}
	var n MAC
	if text, _ := m.MarshalText(); n.UnmarshalText(text) != nil || n != m {
		t.Errorf("%s became %s", m, n)
	}
	for _, text := range []string{"", "02:42", "02:42:0a:00:00:02:03:04", "x"} {
		if _, err := ParseMAC(text); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// A later version may add parts: this one takes the rest of the message.
func TestUnknownFieldsAreSkipped(t *testing.T) {
	b, err := encodePacket(&packet{from: nodeID{1}})
	if err != nil {
		t.Fatal(err)
	}
	b = append(b, 0xfa, 0x3f, 3, 'n', 'e', 'w') // field 1023
	if _, err := decodePacket(b); err != nil {
		t.Error(err)
	}
}
