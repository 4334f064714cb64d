package discovery

import (
	"io"
	"log"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/hashicorp/memberlist"
)

// stranger is memberlist's own client under a name, with a key or without.
func stranger(t *testing.T, name string, key []byte) *memberlist.Memberlist {
	t.Helper()
	conf := memberlist.DefaultLANConfig()
	conf.Name, conf.SecretKey = name, key
	conf.BindAddr, conf.BindPort = "127.0.0.1", 0
	conf.Logger = log.New(io.Discard, "", 0)
	list, err := memberlist.Create(conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { list.Shutdown() })
	return list
}

// forged are messages that would lock a node out, take an endpoint over and change the key, if they were believed.
func forged(t *testing.T, victim *testNode, member nodeID, e Endpoint) (messages [][]byte) {
	t.Helper()
	e.Seq += 1000
	id := victim.identity.id
	ahead := victim.identity.incarnation + 1e6
	for _, p := range []packet{
		{from: id, address: victim.Self().Addr, announces: []announce{{owner: id, incarnation: ahead, left: true}}},
		{from: nodeID{9}, address: netip.MustParseAddrPort("127.0.0.1:9"), deltas: []delta{{owner: id, incarnation: ahead, key: appKey, to: 9, upserts: []*Endpoint{&e}}}},
	} {
		b, err := encodePacket(&p)
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, b)
	}
	return append(messages, append(append(append([]byte{keyMessageVersion}, member[:]...), 1), NewToken().encode()...))
}

// Who lacks the token changes nothing, whatever he sends: neither without a key, nor with an old one, nor with another cluster's.
func TestStrangersChangeNothing(t *testing.T) {
	a := startNode(t, listenSockets, 1, withKey(secret))
	b := startNode(t, listenSockets, 2, withKey(secret), withJoin(a))
	e := testEndpoint(1, 1)
	for _, n := range []*testNode{a, b} {
		n.subscribe(appNet)
	}
	a.Put(appKey, e)
	a.waitState(patience, b, StateAlive)
	if _, err := a.RotateToken(false); err != nil {
		t.Fatal(err)
	}
	token := func(n *testNode) string { got, _ := n.Token(); return got.Text() }
	b.wait(patience, "the record, and the new key alone, as both see it", func() bool {
		settled := func(n *testNode) bool {
			return !slices.ContainsFunc(n.Members(), func(m Member) bool { return len(m.Keys) != 1 || m.Keys[0] == tokenOf(secret).fingerprint() })
		}
		return b.mac(e) != "" && settled(a) && settled(b)
	})
	standing := func(n *testNode) (what []any) {
		for _, m := range n.Members() {
			what = append(what, m.ID, m.Host, m.Addr, m.State, m.Incarnation, m.Keys)
		}
		return append(what, n.Records(), token(n))
	}
	before := [][]any{standing(a), standing(b)}

	for name, key := range map[string][]byte{"no key": nil, "an old key": []byte(secret), "another cluster's key": NewToken().key} {
		t.Run(name, func(t *testing.T) {
			counted := a.Rejected()["key"]
			list := stranger(t, a.Self().ID, key) // under the victim's own name
			if _, err := list.Join([]string{a.Self().Addr.String(), b.Self().Addr.String()}); err == nil {
				t.Error("he has joined")
			}
			to := &memberlist.Node{Name: a.Self().ID, Addr: a.Self().Addr.Addr().AsSlice(), Port: a.Self().Addr.Port()}
			for range 100 {
				for _, m := range forged(t, a, b.identity.id, e) {
					if err := list.SendBestEffort(to, m); err != nil {
						t.Fatal(err)
					}
					list.SendReliable(to, m) // a refused stream may be reset
				}
			}
			a.wait(patience, "it is counted", func() bool { return a.Rejected()["key"] >= counted+100 })
			if got := [][]any{standing(a), standing(b)}; !reflect.DeepEqual(got, before) {
				t.Errorf("%v became %v", before, got)
			}
		})
	}
	if gone := b.gone(); len(gone) > 0 {
		t.Errorf("withdrawn: %v", gone)
	}
}
