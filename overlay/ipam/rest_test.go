package ipam

import (
	"net/netip"
	"testing"
	"time"
)

// Every message wakes two daemons. Hosts whose tables are the same compare them seldom, and a difference is mended as soon as ever.
func TestAtRest(t *testing.T) {
	s := newSimulation(3, "10.20.0.0/24", 1, t.Fatalf)
	s.latency = time.Millisecond
	for _, h := range s.hosts {
		h.start()
	}
	s.run(3 * time.Second)
	for _, h := range s.hosts {
		h.open()
		h.container(netip.Addr{})
	}
	s.until("all hosts agree", s.agree)
	s.run(time.Minute)
	before := s.order
	s.run(time.Minute)
	// An event is a beat or a message that arrives; the simulation looks at its hosts five times a second.
	beats, messages := 3*int(time.Minute/tick), 2*3*int(time.Minute/restInterval)
	if events, most := s.order-before, 5*60+beats+messages; events > most+5 {
		t.Errorf("%d events in a minute of rest, want %d at most", events, most)
	}

	s.loss = 1
	giver, taker := s.hosts[0].state(), s.hosts[1].state()
	s.hosts[0].step(func() { s.hosts[0].core.give(giver, giver.Table.owned(giver.Owner, 1, 2), taker.Owner) })
	s.run(500 * time.Millisecond)
	s.loss = 0
	began := s.now
	s.until("all hosts know of a gift of which all messages were lost", s.agree)
	if took := s.now.Sub(began); took > 10*syncInterval {
		t.Errorf("a lost gift was known to all after %v", took)
	}
}
