package ipam

import (
	"io"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"go.etcd.io/bbolt"

	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/overlay/ipam/prefix"
)

// alone is a cluster of one host.
type alone struct{}

func (alone) Self() discovery.Member {
	return discovery.Member{ID: "a", Host: "host-a", Self: true}
}
func (alone) Members() []discovery.Member { return nil }
func (alone) Records() []discovery.Record { return nil }
func (alone) Send(string, []byte) error   { return nil }

// What is given back is on disk before Docker hears of it: a write that fails is an error.
func TestReleaseThatCannotBeWritten(t *testing.T) {
	m, db := openAlone(t)
	id, _, err := m.RequestPool("", netip.MustParsePrefix("10.20.0.0/24"), netip.Prefix{}, false)
	if err != nil {
		t.Fatal(err)
	}
	db.Close() // no write succeeds any more
	if err := m.ReleasePool(id); err == nil {
		t.Error("ReleasePool: Docker is told that the pool is given back, and it is not on disk: after a crash it stays for good")
	}
}

// Docker does not give a pool back that it was refused: its subnet is free for other networks.
func TestPoolThatCannotBeWritten(t *testing.T) {
	m, db := openAlone(t)
	db.Close()
	if _, _, err := m.RequestPool("network=app", netip.MustParsePrefix("10.30.0.0/24"), netip.Prefix{}, false); err == nil {
		t.Fatal("a pool is handed out that is not on disk")
	}
	_, _, err := m.RequestPool("network=other", netip.MustParsePrefix("10.30.0.0/16"), netip.Prefix{}, false)
	if err == nil || strings.Contains(err.Error(), "overlaps") {
		t.Errorf("another network on the subnet: %v, want that it can't be written", err)
	}
}

// openAlone is the manager of a host that is alone, and has a network of 10.20.0.0/24.
func openAlone(t *testing.T) (*Manager, *bbolt.DB) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "db"), 0o600, &bbolt.Options{Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	subnet := netip.MustParsePrefix("10.20.0.0/24")
	m, err := Open(Config{DB: db, Log: log, InUse: func() InUse { return InUse{subnet: nil} }})
	if err != nil {
		t.Fatal(err)
	}
	m.Attach(alone{})
	t.Cleanup(func() { m.Close() })
	return m, db
}

// A macvlan or bridge network has a pool and running containers. A second network with the same subnet is not made: Docker
// asks for the pool, the driver refuses, and Docker gives the pool back. The first network's addresses stay in use.
func TestFailedCreateBesideANetworkOfAnotherDriver(t *testing.T) {
	c, p := testCore("a.1", "b.1")
	c.inUse = func(poolID) bool { return false } // overlane has no network with the subnet
	c.meet(map[string]string{"b": "host-b"}, nil)
	says(c, p, "b", p.hash)
	says(c, p, "b", p.hash)
	p.resyncing = false
	var got netip.Addr
	for _, done := range c.step(c.now, func() {
		c.request(p.id, Request{MAC: "02:00:00:00:00:01"}, func(a netip.Addr, _ error) { got = a })
	}).done {
		done(nil)
	}
	if !got.IsValid() {
		t.Fatal("no address")
	}
	c.step(c.now, func() { c.openPool(p.id, netip.Prefix{}, func(error) {}) }) // the second network
	c.step(c.now, func() { c.releasePool(p.id) })                              // it failed
	c.step(c.now.Add(time.Second), nil)
	at, _ := prefix.Offset(p.Subnet, got)
	if s, _ := p.Table.of(at); !p.inUse(at) || s.Owner != "a.1" {
		t.Errorf("address %s, on which a container runs, is in use: %v, and %s's: that host hands it out", got, p.inUse(at), s.Owner)
	}
}

// A second container that asks for the MAC and the address of one that runs is refused when it gets its endpoint, and so is a network with that
// address as one of its own. Docker then releases the address: it stays the first one's.
func TestAddressOfAnEndpointIsNotReleased(t *testing.T) {
	c, p := testCore("a.1")
	addr, endpoint := p.addr(2), true
	c.inUse = func(poolID) bool { return true }
	c.lives = func(_ poolID, a netip.Addr) bool { return a == addr && endpoint }
	request := func(r Request) {
		t.Helper()
		for _, done := range c.step(c.now, func() {
			c.request(p.id, r, func(got netip.Addr, err error) {
				if got != addr || err != nil {
					t.Errorf("%+v: %s (%v), want %s", r, got, err, addr)
				}
			})
		}).done {
			done(nil)
		}
	}
	release := func() { c.step(c.now, func() { c.release(p.id, addr) }) }
	web := Request{Addr: addr, MAC: "02:00:00:00:00:01"}
	request(web)
	for _, again := range []Request{web, {Addr: addr}} {
		request(again)
		release()
		if !p.inUse(2) {
			t.Fatalf("%+v: its container has %s, which is free", again, addr)
		}
	}
	endpoint = false
	release()
	if p.inUse(2) {
		t.Errorf("%s is in use, and no endpoint has it", addr)
	}
}

// `overlane leave` that failed is taken back; the pool that Docker had given back before goes with its network all the same.
func TestLeaveThatFailedRemembersWhatWasReleased(t *testing.T) {
	c, p := testCore("a.1")
	used := true
	c.inUse = func(poolID) bool { return used }
	c.step(c.now, func() { c.releasePool(p.id) })
	c.step(c.now, func() {
		closed, err := c.leave()
		if err != nil {
			t.Fatal(err)
		}
		c.stay(closed)
	})
	used = false
	c.step(c.now, c.closeReleased)
	if p := c.pools[p.id]; p != nil && p.Member {
		t.Error("the network is gone, Docker has given the pool back, and the pool stays for good")
	}
}

// A container ended while the daemon did not run. Its address, which another host has in use outside of its blocks, or
// owns, is not handed out here again without that one's word.
func TestStaleAddressOfAnother(t *testing.T) {
	for what, at := range map[string]uint64{"held": 3, "owned": 13} {
		c, p := testCore("a.1", "b.1")
		c.meet(map[string]string{"b": "host-b"}, nil)
		says(c, p, "b", p.hash)
		p.used[at] = lease{MAC: "02:00:00:00:00:01", At: c.now.Add(-time.Hour)}
		p.count()
		c.lives = func(poolID, netip.Addr) bool { return false }
		o := p.Origin
		deliver(c, "b", &message{Key: p.Key, Subnet: p.Subnet, Heard: heard(c), Owner: "b.1", Member: true, Origin: &o, Hash: p.hash, Held: []uint64{3}})
		var got netip.Addr
		for _, done := range c.step(c.now, func() {
			c.request(p.id, Request{Addr: p.addr(at), MAC: "02:00:00:00:00:02"}, func(addr netip.Addr, err error) {
				if err == nil {
					got = addr
				}
			})
		}).done {
			done(nil)
		}
		if got.IsValid() {
			t.Errorf("%s by another host: %s is handed out", what, got)
		}
	}
}
