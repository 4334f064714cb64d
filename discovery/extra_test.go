package discovery

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

var extraAddr = netip.MustParseAddr("10.9.9.9")

func (h *simHost) at(kind Kind, mac MAC, addr netip.Addr) Change {
	return h.view[Change{Network: appNet, Kind: kind, MAC: mac, Addr: addr}.about()]
}

func TestExtraAddressMovesToWhoClaimedItLast(t *testing.T) {
	s := startSim(t, 3, 0)
	behind := MAC{2, 8, 8, 8, 8, 8}
	claim := func(host int, e Extra) {
		ep := testEndpoint(host, 1)
		ep.Extras = []Extra{e}
		s.hosts[host].put(appKey, ep)
		s.run(time.Second)
		s.checkAgreement()
	}
	wantAt := func(host int, mac MAC) {
		t.Helper()
		got := s.hosts[2].at(KindAddr, mac, extraAddr)
		if got.VTEP != s.hosts[host].core.self.meta.vtep || got.MAC != mac || !got.Extra {
			t.Errorf("the extra address is at %+v, want host %d and MAC %s", got, host, mac)
		}
	}
	claim(0, Extra{Addr: extraAddr})
	wantAt(0, testEndpoint(0, 1).MAC)
	next := Extra{Addr: extraAddr, Seq: s.hosts[1].core.standing(appKey, Extra{Addr: extraAddr}).Seq}
	claim(1, next)
	wantAt(1, testEndpoint(1, 1).MAC)
	if st := s.hosts[0].core.standing(appKey, Extra{Addr: extraAddr}); !st.Outranked || st.Owned || st.Seq != next.Seq+1 {
		t.Errorf("who had it before stands %+v", st)
	}
	if st := s.hosts[1].core.standing(appKey, next); st.Outranked {
		t.Errorf("who has it stands %+v", st)
	}
	claim(1, Extra{MAC: behind, Addr: extraAddr, Seq: 2})
	wantAt(1, behind)
	if got := s.hosts[2].at(KindMAC, behind, netip.Addr{}); got.VTEP != s.hosts[1].core.self.meta.vtep || !got.Extra {
		t.Errorf("the MAC address behind the endpoint is at %+v", got)
	}
}

// A host that was lost and comes back must not take an extra address from who has it by then.
func TestExtraAddressStaysAfterItsLastHostReturns(t *testing.T) {
	s := startSim(t, 4, 0)
	lost := testEndpoint(0, 1)
	lost.Extras = []Extra{{Addr: extraAddr, Seq: 7}}
	s.hosts[0].put(appKey, lost)
	s.run(time.Second)
	s.hosts[0].move(1)
	s.run(30 * time.Second)
	st := s.hosts[1].core.standing(appKey, Extra{Addr: extraAddr})
	if st.Outranked || st.Seq != 8 {
		t.Fatalf("after its host's death it stands %+v", st)
	}
	now := testEndpoint(1, 1)
	now.Extras = []Extra{{Addr: extraAddr, Seq: st.Seq}}
	s.hosts[1].put(appKey, now)
	s.heal()
	s.run(30 * time.Second)
	s.checkAgreement()
	if got := s.hosts[2].at(KindAddr, MAC{}, extraAddr); got.MAC != now.MAC {
		t.Errorf("the address is at %+v, not at %s", got, now.MAC)
	}
}

// Nothing that a container claims outranks an endpoint's own MAC address and addresses: not by a sequence number, nor frozen.
func TestExtraNeverTakesAnEndpointsOwn(t *testing.T) {
	s := startSim(t, 3, 0)
	own := testEndpoint(2, 1)
	thief := func(host int) Endpoint {
		e := testEndpoint(host, 1)
		e.Extras = []Extra{{MAC: own.MAC, Addr: own.Addrs[0], Seq: 1000}, {Addr: own.Addrs[1], Seq: 1 << 31}}
		return e
	}
	for i := range maxMoves + 1 {
		e := thief(i % 2)
		for j := range e.Extras {
			e.Extras[j].Seq += uint32(i)
		}
		s.hosts[i%2].put(appKey, e)
		s.run(time.Second)
	}
	if text := strings.Join(s.hosts[2].notes, "\n"); !strings.Contains(text, "extra address") {
		t.Errorf("nothing was said of an address that moves again and again:\n%s", text)
	}
	s.hosts[2].put(appKey, own)
	s.run(time.Second)
	s.checkAgreement()
	observer := s.hosts[0]
	for _, addr := range own.Addrs {
		if got := observer.at(KindAddr, MAC{}, addr); got.MAC != own.MAC || got.VTEP != s.hosts[2].core.self.meta.vtep || got.Extra {
			t.Errorf("%s is at %+v", addr, got)
		}
	}
	if got := observer.at(KindMAC, own.MAC, netip.Addr{}); got.VTEP != s.hosts[2].core.self.meta.vtep {
		t.Errorf("%s is at %+v", own.MAC, got)
	}
	if st := observer.core.standing(appKey, thief(0).Extras[0]); !st.Owned || !st.Outranked {
		t.Errorf("the claim stands %+v", st)
	}
	if got := observer.core.claims(appKey, thief(1)); slices.ContainsFunc(got, func(r Record) bool { return r.Endpoint.MAC != thief(1).MAC }) {
		t.Errorf("an extra claim counts among the own ones: %v", fmt.Sprint(got))
	}
}
