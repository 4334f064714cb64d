package discovery

import (
	"testing"
	"time"
)

// manyHosts is a settled cluster of so many in one network that pushes are relayed.
func manyHosts(t *testing.T) *simulation {
	s := newSimulation(relayAbove+10, 7, t.Fatalf)
	for _, h := range s.hosts {
		h.start()
		h.subscribe(appNet)
	}
	s.run(5 * time.Second)
	s.checkAgreement()
	return s
}

func TestPushToManyIsRelayed(t *testing.T) {
	s := manyHosts(t)
	s.keepHistory = true
	h := s.hosts[5]
	h.put(appKey, testEndpoint(5, 1))
	s.run(flushDelay + relayDelay + 3*simLink)
	s.checkAgreement()
	sent, copies := 0, 0
	for _, m := range s.history {
		if m.from == h {
			sent++
		}
		copies += len(m.packet.deltas)
	}
	if sent > relayAbove/2 {
		t.Errorf("the owner itself sent %d datagrams to %d others", sent, len(s.hosts)-1)
	}
	if copies > len(s.hosts) {
		t.Errorf("the change was sent %d times to %d hosts", copies, len(s.hosts))
	}
}

func TestDeadHeadKeepsNobodyFromHearing(t *testing.T) {
	s := manyHosts(t)
	s.keepHistory = true
	h := s.hosts[5]
	h.put(appKey, testEndpoint(5, 1))
	s.run(flushDelay + simLink)
	for _, m := range s.history {
		if m.from == h && m.packet.relay != nil {
			m.to.crash()
		}
	}
	s.run(beaconDelays[0] + 2*relayDelay)
	for _, other := range s.hosts {
		if other != h && other.core != nil && other.core.owners[h.id].have(appKey) != h.core.clock {
			t.Errorf("%s has not heard", other)
		}
	}
}
