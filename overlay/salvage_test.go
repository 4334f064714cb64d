package overlay_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/overlane/overlane/overlay"
	"github.com/overlane/overlane/overlay/overlaytest"
)

// damage changes the store of a host that is not running.
func (h *host) damage(change func([]byte) []byte) (damaged []byte) {
	h.t.Helper()
	path := filepath.Join(h.dir, "overlane.db")
	text, err := os.ReadFile(path)
	h.must(err)
	damaged = change(text)
	h.must(os.WriteFile(path, damaged, 0o600))
	return damaged
}

// aside gives the damaged stores that were kept.
func (h *host) aside() [][]byte {
	h.t.Helper()
	names, err := filepath.Glob(filepath.Join(h.dir, "overlane.db.damaged-*"))
	h.must(err)
	var all [][]byte
	for _, name := range names {
		text, err := os.ReadFile(name)
		h.must(err)
		all = append(all, text)
	}
	return all
}

// A damaged store stops nobody: it is kept, and what can be read of it goes on.
func TestDamagedStore(t *testing.T) {
	for name, c := range map[string]struct {
		change    func([]byte) []byte
		endpoints int // that are left of two
	}{
		"zeros":                           {func(b []byte) []byte { return make([]byte, len(b)) }, 0},
		"empty":                           {func([]byte) []byte { return nil }, 0},
		"of another kind":                 {func([]byte) []byte { return bytes.Repeat([]byte("overlane"), 4096) }, 0},
		"truncated within the first page": {func(b []byte) []byte { return b[:100] }, 0},
		"newest meta":                     {func(b []byte) []byte { return flipMeta(b) }, 2},
		"an endpoint":                     {func(b []byte) []byte { return bytes.Replace(b, []byte(`{"id":"`+epID), []byte(`{"ix":"`+epID), -1) }, 1},
		"an address":                      {func(b []byte) []byte { return bytes.ReplaceAll(b, []byte(`"10.20.0.2"`), []byte(`"10.20.0:2"`)) }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.network()
			h.run(epID, "10.20.0.2")
			h.run(ep2ID, "10.20.0.3")
			h.must(h.Close())
			damaged := h.damage(c.change)
			h.start()
			if aside := h.aside(); len(aside) != 1 || !bytes.Equal(aside[0], damaged) {
				t.Errorf("%d damaged stores are kept, want the one as it was", len(aside))
			}
			if got := len(h.Status().Endpoints); got != c.endpoints {
				t.Errorf("%d endpoints are left, want %d", got, c.endpoints)
			}
			h.restart()
			if got, aside := len(h.Status().Endpoints), len(h.aside()); got != c.endpoints || aside != 1 {
				t.Errorf("after a restart %d endpoints and %d damaged stores, want %d and 1", got, aside, c.endpoints)
			}
		})
	}
}

// flipMeta damages the meta of the last transaction (bbolt's internal/common, meta.go: its number at 48).
func flipMeta(b []byte) []byte {
	page, newest := os.Getpagesize(), 0
	if b[page+16+48] > b[16+48] {
		newest = page
	}
	b[newest+16+20] ^= 1
	return b
}

// However a file is damaged, the daemon starts.
func TestStoreDamagedAtRandom(t *testing.T) {
	h := newHost(t)
	h.network()
	h.run(epID, "10.20.0.2")
	h.must(h.Close())
	whole := h.damage(func(b []byte) []byte { return b })
	for seed := range uint64(40) {
		random := rand.New(rand.NewPCG(seed, 0))
		h.damage(func([]byte) []byte {
			b := bytes.Clone(whole)
			if seed%4 == 0 {
				return b[:random.IntN(len(b))]
			}
			for range 1 + random.IntN(20) {
				b[random.IntN(len(b))] = byte(random.Uint32())
			}
			return b
		})
		h.start()
		h.must(h.Close())
	}
	h.start()
}

// A host that has forgotten who has a pool does not claim it while one is down that may have it; nor does one whose store is gone.
func TestForgottenPoolIsNotClaimed(t *testing.T) {
	subnet := netip.MustParsePrefix("10.20.0.0/16")
	for name, forget := range map[string]func(*host){
		"damaged": func(h *host) { h.damage(func([]byte) []byte { return []byte("damaged") }) },
		"gone": func(h *host) {
			h.must(os.Remove(filepath.Join(h.dir, "overlane.db")))
			h.must(os.WriteFile(filepath.Join(h.dir, "identity.json"), nil, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t)
				h.must(h.Close())
				forget(h)
				h.cluster, h.datapath = overlaytest.NewCluster(), overlaytest.NewDatapath(h.taps)
				h.cluster.KillPeer()
				h.open()
				h.Attach(h.cluster)
				request := func() error {
					_, _, err := h.RequestPool(overlay.PoolSpec{Subnet: subnet})
					return err
				}
				want := []string{overlaytest.Peer.Host, "is down", "forgotten", "overlane ipam reclaim"}
				wantError(t, request(), want...)
				h.cluster.Forget() // discovery forgets the dead after a day
				h.must(h.Close())
				h.open()
				h.Attach(h.cluster)
				wantError(t, request(), want...)
				_, err := h.ReclaimAddresses([]string{overlaytest.Peer.Host})
				h.must(err)
				h.must(request())
			})
		})
	}
}

// What its containers have is not handed out again by a host that has forgotten its pools.
func TestForgottenAddressesStayInUse(t *testing.T) {
	subnet := netip.MustParsePrefix("10.20.0.0/16")
	h := newHost(t)
	h.cluster.Forget()
	id, _, err := h.RequestPool(overlay.PoolSpec{Subnet: subnet})
	h.must(err)
	h.must(h.CreateNetwork(overlay.NetworkSpec{ID: netID, Pools: []netip.Prefix{subnet}}))
	h.run(epID, "10.20.0.2") // whose lease is lost
	h.must(h.Close())
	h.damage(flipMeta)
	h.cluster, h.datapath = overlaytest.NewCluster(), overlaytest.NewDatapath(h.taps)
	h.cluster.Forget()
	h.open()
	h.Attach(h.cluster)
	leases := h.Addresses().Leases
	if len(leases) != 1 || leases[0].Addr.String() != "10.20.0.2" {
		t.Errorf("addresses in use: %+v, want that of the container", leases)
	}
	if pools := h.Addresses().Pools; len(pools) != 1 || fmt.Sprint(pools[0].Subnet) != "10.20.0.0/16" {
		t.Errorf("pools %+v of %s, want the one that was", pools, id)
	}
}
