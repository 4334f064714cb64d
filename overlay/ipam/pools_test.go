package ipam

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// Hosts with a WAN between them agree on many pools at once. Messages overtake each other, the long ones most: what one pool's
// table says does not make another pool's count as old.
func TestManyPoolsOverWAN(t *testing.T) {
	const pools = 12
	s := newSimulation(3, "10.20.0.0/24", 1, t.Fatalf)
	s.latency, s.jitter, s.loss = 100*time.Millisecond, 200*time.Millisecond, 0.05
	for _, h := range s.hosts {
		h.start()
	}
	s.run(3 * time.Second)
	var all []poolID
	for i := range pools {
		subnet := netip.MustParsePrefix(fmt.Sprintf("10.20.%d.0/24", i))
		all = append(all, poolID{SubnetKey(subnet), subnet})
	}
	each := func(do func()) {
		for _, s.pool = range all {
			do()
		}
	}
	began := s.now
	for _, h := range s.hosts {
		each(h.open)
	}
	agreed := func() bool {
		all := true
		each(func() { all = all && s.agree() })
		return all
	}
	s.until("all hosts agree on all pools", agreed)
	for range 20 {
		for _, h := range s.hosts {
			each(func() { h.container(netip.Addr{}) })
		}
		s.run(100 * time.Millisecond)
	}
	s.until("all hosts agree on all pools again", agreed)
	each(s.checkOwners)
	if took := s.now.Sub(began); took > time.Minute {
		t.Errorf("%d pools took %v to agree", pools, took)
	}
	want := 3 * 20 * pools
	n := 0
	for _, h := range s.hosts {
		n += len(h.containers)
	}
	if n != want {
		t.Errorf("%d containers have an address, want %d", n, want)
	}
}
