package discovery

import (
	"strings"
	"testing"
	"time"
)

func TestFiveMovesFreezeAnAddressAndTell(t *testing.T) {
	s := startSim(t, 3, 0)
	e := testEndpoint(9, 1)
	mac := Change{Network: appNet, Kind: KindMAC, MAC: e.MAC}.about()
	addr := Change{Network: appNet, Kind: KindAddr, Addr: e.Addrs[0]}.about()
	observer := s.hosts[2]
	move := func(to int) {
		e.Seq++
		s.hosts[to].put(appKey, e)
		s.run(time.Second)
	}
	expect := func(what string, at int) {
		t.Helper()
		want := s.hosts[at].core.self.meta.vtep
		if got := observer.view[mac].VTEP; got != want {
			t.Errorf("%s: the MAC address is at %s, not %s", what, got, want)
		}
		if got := observer.view[addr].VTEP; got != want {
			t.Errorf("%s: the address is at %s, not %s", what, got, want)
		}
	}
	for i := range maxMoves + 1 { // the first is none
		move(i % 2)
		expect("a move", i%2)
	}
	if text := strings.Join(observer.notes, "\n"); strings.Count(text, "is left there") != 1 || !strings.Contains(text, e.MAC.String()) {
		t.Errorf("it said:\n%s", text)
	}
	move(0)
	expect("one move too many", 1)
	s.run(moveWindow)
	expect("a quiet while later", 0)
	move(1)
	expect("a move after that", 1)
}

func TestFrozenAddressDoesNotStayWhereNobodyClaimsIt(t *testing.T) {
	s := startSim(t, 3, 0)
	e := testEndpoint(9, 1)
	for i := range maxMoves + 1 {
		e.Seq++
		s.hosts[i%2].put(appKey, e)
		s.run(time.Second)
	}
	s.hosts[1].remove(appKey, e.MAC)
	s.run(time.Second)
	s.checkAgreement()
}
