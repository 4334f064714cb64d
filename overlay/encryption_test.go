package overlay_test

import (
	"bytes"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/internal/bubble"
	"github.com/overlane/overlane/overlay"
	"github.com/overlane/overlane/overlay/overlaytest"
)

// encrypted are two hosts on a network that is encrypted.
type encrypted struct {
	a, b    *host
	lost    atomic.Bool // messages are
	deaf    atomic.Bool // host b is
	packets atomic.Uint64
	offset  atomic.Int64
	at      map[string]*atomic.Pointer[overlay.Overlay]
}

// newEncrypted has the hosts see each other; change may give them another setting before.
func newEncrypted(t *testing.T, change func(a, b *host)) *encrypted {
	t.Helper()
	e := &encrypted{at: map[string]*atomic.Pointer[overlay.Overlay]{overlaytest.Self.ID: {}, overlaytest.Peer.ID: {}}}
	e.a, e.b = e.host(t, overlaytest.Self, overlaytest.Peer), e.host(t, overlaytest.Peer, overlaytest.Self)
	change(e.a, e.b)
	for _, h := range []*host{e.a, e.b} {
		h.start()
		t.Cleanup(func() { h.Close() })
		h.must(h.CreateNetwork(spec("vni", "5000", "encrypted", "")))
		e.see(h, true)
	}
	return e
}

func (e *encrypted) host(t *testing.T, self, peer discovery.Member) *host {
	h := newHostAs(t)
	h.vtep = self.VTEP.Addr()
	self.Keys = []discovery.Fingerprint{{1}}
	h.newCluster = func() *overlaytest.Cluster {
		self.Incarnation++
		return overlaytest.NewClusterOf(self, peer, func(to string, text []byte) {
			if o := e.at[to].Load(); o != nil && !e.lost.Load() && (to != overlaytest.Peer.ID || !e.deaf.Load()) {
				o.Receive(self.ID, bytes.Clone(text))
			}
		})
	}
	h.opened = func(o *overlay.Overlay) {
		e.at[self.ID].Store(o)
		o.SetEncryptionSources(func(*datapath.SA) uint64 { return e.packets.Load() }, func() time.Duration { return time.Duration(e.offset.Load()) })
	}
	return h
}

// see has a host see the other one's part in the network, or its end.
func (e *encrypted) see(h *host, there bool) { h.seeVTEP(e.other(h).vtepPort(), there) }

func (h *host) seeVTEP(vtep netip.AddrPort, there bool) {
	h.Observe([]discovery.Change{{Network: discovery.Network{Key: key, VNI: 5000, Encrypted: true}, Kind: discovery.KindVTEP, VTEP: vtep, Gone: !there}})
}

func (h *host) vtepPort() netip.AddrPort { return netip.AddrPortFrom(h.vtep, 4789) }

func (e *encrypted) other(h *host) *host {
	if h == e.a {
		return e.b
	}
	return e.a
}

func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// out is what a host sends with.
func (e *encrypted) out(h *host) datapath.SAConfig {
	return h.datapath.SASets()[e.other(h).vtepPort()].Out
}

// opens says whether the other host opens what a host sends with an SA.
func (e *encrypted) opens(h *host, out datapath.SAConfig) bool {
	for _, in := range e.other(h).datapath.SASets()[h.vtepPort()].In {
		if in.SPI == out.SPI && in.Salt == out.Salt && bytes.Equal(in.Key, out.Key) {
			return true
		}
	}
	return false
}

// wantAgreed checks that each host opens what the other sends, and sees nothing wrong.
func (e *encrypted) wantAgreed(t *testing.T, cipher string) {
	t.Helper()
	for _, h := range []*host{e.a, e.b} {
		if out := e.out(h); len(out.Key) == 0 || !e.opens(h, out) {
			t.Errorf("what host %s sends can't be opened: %+v, and %+v", h.vtep, h.datapath.SASets(), e.other(h).datapath.SASets())
		}
		s := h.Status().Encryption
		if len(s) != 1 || s[0].VTEP != e.other(h).vtepPort() || s[0].Cipher != cipher || s[0].Reason != "" {
			t.Errorf("status of host %s: %+v", h.vtep, s)
		}
	}
}

// wantNewKeys checks that both hosts send with others after something happened, soon and at each moment.
func (e *encrypted) wantNewKeys(t *testing.T, happens func()) {
	t.Helper()
	before := map[*host]datapath.SAConfig{e.a: e.out(e.a), e.b: e.out(e.b)}
	happens()
	pass(3 * time.Second)
	for h, was := range before {
		if out := e.out(h); bytes.Equal(out.Key, was.Key) {
			t.Errorf("host %s sends with the same key", h.vtep)
		}
	}
	e.wantAgreed(t, "aes-128-gcm")
}

func TestHostsAgreeOnKeys(t *testing.T) {
	for cipher, want := range map[int]string{0: "aes-128-gcm", 32: "aes-256-gcm"} {
		bubble.Test(t, func(t *testing.T) {
			e := newEncrypted(t, func(a, _ *host) { a.cipher = cipher })
			pass(time.Second)
			e.wantAgreed(t, want)
			e.packets.Store(7)
			pass(time.Minute)
			if s := e.a.Status().Encryption[0]; s.Host != "host2" || s.KeyAge < 60 || s.KeyAge > 61 || s.Packets != 7 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// Nothing is said about keys where no network is encrypted.
func TestPlainNetworksHaveNoKeys(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		e := &encrypted{at: map[string]*atomic.Pointer[overlay.Overlay]{overlaytest.Self.ID: {}, overlaytest.Peer.ID: {}}}
		h := e.host(t, overlaytest.Self, overlaytest.Peer)
		e.a, e.b = h, h
		h.start()
		defer h.Close()
		h.network()
		h.seeVTEP(overlaytest.Peer.VTEP, true)
		pass(time.Minute)
		if n, s := h.datapath.SACount(), h.Status().Encryption; n > 0 || len(s) > 0 {
			t.Errorf("%d SAs, %+v", n, s)
		}
	})
}

// A host that starts anew has new keys a moment after the others see it.
func TestPeerThatRestartsAgreesAgain(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		e := newEncrypted(t, func(*host, *host) {})
		pass(10 * time.Second)
		before := e.out(e.a)
		e.b.restart()
		e.see(e.b, true)
		pass(500 * time.Millisecond)
		e.wantAgreed(t, "aes-128-gcm")
		if bytes.Equal(e.out(e.a).Key, before.Key) {
			t.Error("the key is the same")
		}
	})
}

// Each hour there are new keys, in a way that loses no packet: what is on its way with the old ones is opened for half a minute.
func TestOldKeysReceiveHalfAMinute(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		e := newEncrypted(t, func(*host, *host) {})
		pass(time.Minute)
		old := map[*host]datapath.SAConfig{e.a: e.out(e.a), e.b: e.out(e.b)}
		e.wantNewKeys(t, func() {
			for began := time.Now(); time.Since(began) < time.Hour && (bytes.Equal(e.out(e.a).Key, old[e.a].Key) || bytes.Equal(e.out(e.b).Key, old[e.b].Key)); {
				pass(time.Second)
			}
		})
		pass(24 * time.Second)
		for h, out := range old {
			if !e.opens(h, out) {
				t.Errorf("what host %s sent with the old key is not opened", h.vtep)
			}
		}
		pass(10 * time.Second)
		for h, out := range old {
			if e.opens(h, out) {
				t.Errorf("what host %s sent with the old key is opened still", h.vtep)
			}
			if n := h.datapath.SACount(); n != 2 {
				t.Errorf("host %s has %d SAs", h.vtep, n)
			}
		}
		e.wantAgreed(t, "aes-128-gcm")
	})
}

// A key that was used for many packets, that who had an old token may know, or that a copy of the host may have, is replaced at once.
func TestKeysAreReplacedInTime(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		e := newEncrypted(t, func(*host, *host) {})
		pass(5 * time.Second)
		e.wantNewKeys(t, func() {
			e.packets.Store(datapath.MaxPackets / 2)
			pass(time.Second)
			e.packets.Store(0)
		})
		pass(time.Minute)

		same := e.out(e.a)
		for _, h := range []*host{e.a, e.b} {
			h.cluster.SetKeys(discovery.Fingerprint{1}, discovery.Fingerprint{2})
		}
		pass(5 * time.Second)
		if !bytes.Equal(e.out(e.a).Key, same.Key) {
			t.Error("a new token that is not in use alone made a new key")
		}
		e.wantNewKeys(t, func() {
			for _, h := range []*host{e.a, e.b} {
				h.cluster.SetKeys(discovery.Fingerprint{2})
			}
		})
		pass(time.Minute)

		e.wantNewKeys(t, func() { e.offset.Add(int64(3 * time.Second)) })
		pass(time.Minute)
		same = e.out(e.a)
		e.offset.Add(int64(time.Second))
		pass(5 * time.Second)
		if !bytes.Equal(e.out(e.a).Key, same.Key) {
			t.Error("a clock that is brought near made a new key")
		}
	})
}

// A host that may have a copy sends with other keys at once, even where the others do not hear of them.
func TestClockThatJumpsEndsTheOldKeys(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		e := newEncrypted(t, func(*host, *host) {})
		pass(5 * time.Second)
		before := e.out(e.a)
		e.lost.Store(true)
		e.offset.Add(int64(-3 * time.Second))
		pass(2 * time.Second)
		if bytes.Equal(e.out(e.a).Key, before.Key) {
			t.Error("it sends with a key that a copy may have")
		}
	})
}

// A host that leaves the last network in common takes its keys with it, and so does an overlay that is closed.
func TestKeysGoWithTheirHost(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		e := newEncrypted(t, func(*host, *host) {})
		pass(5 * time.Second)
		e.see(e.a, false)
		pass(time.Second)
		if n, s := e.a.datapath.SACount(), e.a.Status().Encryption; n > 0 || len(s) > 0 || len(e.a.datapath.SASets()) > 0 {
			t.Errorf("%d SAs are left, %+v", n, s)
		}
		e.see(e.a, true)
		pass(time.Second)
		e.wantAgreed(t, "aes-128-gcm")
		e.b.must(e.b.DeleteNetwork(netID))
		pass(2 * time.Second)
		if n := e.b.datapath.SACount(); n > 0 {
			t.Errorf("%d SAs are left of a network that is deleted", n)
		}
		e.a.must(e.a.Close())
		if n := e.a.datapath.SACount(); n > 0 {
			t.Errorf("%d SAs are left of a closed overlay", n)
		}
	})
}

// What keeps packets from going to a host is told, with what to do.
func TestLackOfKeysIsTold(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		e := newEncrypted(t, func(a, b *host) {})
		e.lost.Store(true)
		e.b.restart()
		e.see(e.b, true)
		pass(time.Second)
		e.wantHealth(t, e.b, "") // it has just begun
		pass(7 * time.Second)
		e.wantHealth(t, e.b, "no key yet: host host1 does not answer since ")
		for _, m := range e.b.Status().Members {
			if m.Host == "host1" && !strings.HasPrefix(m.Reason, "no key yet") {
				t.Errorf("member: %+v", m)
			}
		}
		e.lost.Store(false)
		e.deaf.Store(true)
		pass(20 * time.Second)
		e.wantHealth(t, e.a, "no key yet: host host2 does not hear what this host says of its keys since ")
		e.deaf.Store(false)
		pass(11 * time.Second)
		e.wantAgreed(t, "aes-128-gcm")

		e.lost.Store(true)
		pass(time.Hour + 2*time.Minute)
		e.wantHealth(t, e.b, "a new key is due, and the old one is in use: host host1 does not answer since ")
		e.lost.Store(false)
		pass(11 * time.Second)
		e.wantAgreed(t, "aes-128-gcm")

		e.b.cluster.SetKeys()
		pass(2 * time.Second)
		e.wantHealth(t, e.b, "no key: the cluster has no token (--insecure)")
		if n := e.b.datapath.SACount(); n > 0 {
			t.Errorf("%d SAs in an open cluster", n)
		}
	})
}

func (e *encrypted) wantHealth(t *testing.T, h *host, reason string) {
	t.Helper()
	s := h.Status().Encryption
	if len(s) != 1 || !strings.HasPrefix(s[0].Reason, reason) || (s[0].Reason == "") != (reason == "") || (s[0].Advice == "") != (reason == "") {
		t.Errorf("%+v, want reason %q", s, reason)
	}
}

// A VTEP where nobody gossips gets no keys.
func TestVTEPWithoutGossipIsTold(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		e := newEncrypted(t, func(*host, *host) {})
		e.a.seeVTEP(netip.MustParseAddrPort("192.0.2.99:4789"), true)
		pass(2 * time.Second)
		if s := e.a.Status().Encryption; len(s) != 2 || !strings.HasPrefix(s[0].Reason, "no key: nobody that gossips") || s[1].Reason != "" {
			t.Errorf("%+v", s)
		}
	})
}

// Keys that the datapath does not take are tried again, and nobody hears of them before they are in force.
func TestKeysThatAreNotInForceAreNotAnnounced(t *testing.T) {
	for _, method := range []string{"NewSA", "SetSAs"} {
		bubble.Test(t, func(t *testing.T) {
			e := newEncrypted(t, func(*host, *host) {})
			pass(time.Minute)
			e.a.datapath.Fail(method, errFault)
			old := e.out(e.b)
			pass(time.Hour)
			if out := e.out(e.b); !bytes.Equal(out.Key, old.Key) || !e.opens(e.b, out) {
				t.Errorf("%s fails: host2 sends with a key that is not in force", method)
			}
			e.wantHealth(t, e.a, "keys were agreed, and are not in force: ")
			e.a.datapath.Fail(method, nil)
			pass(time.Minute)
			e.wantAgreed(t, "aes-128-gcm")
			if n := e.a.datapath.SACount(); n > 5 {
				t.Errorf("%d SAs", n)
			}
		})
	}
}
