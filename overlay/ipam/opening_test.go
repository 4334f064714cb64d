package ipam

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/overlane/overlane/overlay/ipam/prefix"
)

// outcome is what an event that takes its time ends with, within a minute.
func (c *core) outcome(event func(done func(error))) string {
	end := "nothing"
	begin := func() {
		event(func(err error) {
			if err != nil {
				end = err.Error()
			}
		})
	}
	for range time.Minute / tick {
		for _, done := range c.step(c.now, begin).done {
			done(nil)
		}
		begin = nil
		c.now = c.now.Add(tick)
	}
	return end
}

// A network that can't be created yet says for whom it waits, and what to do if that one never comes.
func TestRefusedPool(t *testing.T) {
	id := poolID{"k", netip.MustParsePrefix("10.20.0.0/24")}
	for name, tc := range map[string]struct {
		prepare func(*core)
		asked   func(*core)
		want    string
	}{
		"a silent host": {func(c *core) { c.meet(map[string]string{"b": "host-b"}, nil) }, func(*core) {},
			"subnet 10.20.0.0/24: the first use needs a word of every host, and host-b did not answer: try again"},
		"a host that is down": {func(c *core) { c.peerPools[id] = map[string]string{"b": "host-b"} }, func(*core) {},
			"subnet 10.20.0.0/24: host host-b, which has the pool, is down: start it, or if host-b is lost for good, run `overlane ipam reclaim host-b` here: try again"},
		"a host that says no more": {func(c *core) { c.meet(map[string]string{"b": "host-b"}, nil) }, func(c *core) {
			own := c.pools[id].Origin
			deliver(c, "b", &message{Key: id.Key, Subnet: id.Subnet, Host: "host-b", Owner: "b.1", Member: true, Origin: &origin{1, "b"}, Re: &own})
		}, "subnet 10.20.0.0/24: host host-b, which has the pool, has not told of it yet: try again"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCore(time.Unix(1_700_000_000, 0), 1, "a", "host-a", nil, nil)
			tc.prepare(c)
			got := c.outcome(func(done func(error)) {
				c.openPool(id, netip.Prefix{}, done)
				tc.asked(c)
			})
			if got != tc.want {
				t.Errorf("refused with %q, want %q", got, tc.want)
			}
		})
	}
}

// Who leaves --subnet out is told to give it where none can be found.
func TestNoSubnetFound(t *testing.T) {
	c := newCore(time.Unix(1_700_000_000, 0), 1, "a", "host-a", nil, nil)
	c.meet(map[string]string{"b": "host-b"}, nil)
	got := c.outcome(func(done func(error)) {
		c.search("network=app", false, func(_ netip.Prefix, err error) { done(err) })
	})
	if want := "subnet: host host-b does not say whether it has the network network=app: give --subnet, or try again"; got != want {
		t.Errorf("refused with %q, want %q", got, want)
	}
	_, err := prefix.Choose([]prefix.DefaultPool{{Base: netip.MustParsePrefix("10.208.0.0/12"), Bits: 20}}, "network=app", false, func(netip.Prefix) bool { return true })
	if want := "subnet: none is free in the default pools [10.208.0.0/12]: give --subnet, or the daemon other --default-pools"; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("refused with %v, want %q", err, want)
	}
}

// A pool whose network is here, with containers, is not given up because another host is down.
func TestPoolInUseWaits(t *testing.T) {
	id := poolID{"k", netip.MustParsePrefix("10.20.0.0/24")}
	leases := map[poolID]map[uint64]lease{id: {7: {MAC: "02:00:00:00:00:01"}}}
	c := newCore(time.Unix(1_700_000_000, 0), 1, "a", "host-a", []stored{{Key: id.Key, Subnet: id.Subnet, Member: true, Names: map[string]string{}}}, leases)
	c.peerPools[id] = map[string]string{"b": "host-b"}
	c.inUse = func(poolID) bool { return true }
	got := c.outcome(func(done func(error)) { c.openPool(id, netip.Prefix{}, done) })
	if want := "host host-b, which has the pool, is down"; !strings.Contains(got, want) {
		t.Errorf("refused with %q, want one with %q", got, want)
	}
	p := c.pools[id]
	if p == nil || !p.inUse(7) {
		t.Fatal("the pool is given up, and its container's address free")
	}
	c.gone("b")
	for range 10 * time.Second / tick {
		c.now = c.now.Add(tick)
		c.step(c.now, nil)
	}
	if !p.bootstrapped {
		t.Error("the pool does not go on once nobody is waited for")
	}
}
