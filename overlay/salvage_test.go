package overlay_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/overlane/overlane/internal/bubble"
	"github.com/overlane/overlane/overlay"
	"github.com/overlane/overlane/overlay/overlaytest"
	"github.com/sirupsen/logrus"
	"go.etcd.io/bbolt"
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

// While a new store can't be written, as on a full disk, the damaged one stays where it is: nothing of it is lost.
func TestDamagedStoreOnAFullDisk(t *testing.T) {
	h := newHost(t)
	h.network()
	h.run(epID, "10.20.0.2")
	h.must(h.Close())
	damaged := h.damage(flipMeta)
	blocked := filepath.Join(h.dir, "overlane.db.new", "in the way")
	h.must(os.MkdirAll(blocked, 0o700))
	log := logrus.New()
	log.SetOutput(io.Discard)
	for range 2 {
		if _, err := overlay.Open(overlay.Config{Dir: h.dir, VTEP: h.vtep, Datapath: h.datapath, Table: h.table, Names: h.names, Log: log}); err == nil || !strings.Contains(err.Error(), "is damaged") {
			t.Fatalf("opened with %v, want that the store is damaged", err)
		}
		if text, err := os.ReadFile(filepath.Join(h.dir, "overlane.db")); err != nil || !bytes.Equal(text, damaged) || len(h.aside()) > 0 {
			t.Fatalf("the damaged store has changed (%v), or is kept aside: %d", err, len(h.aside()))
		}
	}
	h.must(os.RemoveAll(filepath.Dir(blocked)))
	h.start()
	if got, aside := len(h.Status().Endpoints), len(h.aside()); got != 1 || aside != 1 {
		t.Errorf("%d endpoints and %d damaged stores, want 1 and 1", got, aside)
	}
}

// What the machine lacks, and another machine's length of pages, are no damage.
func TestSoundStore(t *testing.T) {
	write := func(h *host, pageSize int) {
		path := filepath.Join(h.dir, "overlane.db")
		old, err := bbolt.Open(path, 0o600, nil)
		h.must(err)
		fresh, err := bbolt.Open(path+".other", 0o600, &bbolt.Options{PageSize: pageSize})
		h.must(err)
		h.must(bbolt.Compact(fresh, old, 0))
		h.must(old.Close())
		h.must(fresh.Close())
		h.must(os.Rename(path+".other", path))
	}
	t.Run("pages of another length", func(t *testing.T) {
		for _, size := range []int{1024, 65536} {
			h := newHost(t)
			h.network()
			h.run(epID, "10.20.0.2")
			h.must(h.Close())
			write(h, size)
			h.start()
			if left := len(h.Status().Endpoints); left != 1 || len(h.aside()) > 0 {
				t.Errorf("pages of %d: %d endpoints and %d damaged stores, want 1 and none", size, left, len(h.aside()))
			}
		}
	})
	t.Run("of another version", func(t *testing.T) {
		h := newHost(t)
		h.network()
		h.must(h.Close())
		h.damage(anotherVersion)
		_, err := overlay.Open(overlay.Config{Dir: h.dir, Log: logrus.New()})
		wantError(t, err, "overlane.db", "version mismatch")
		if len(h.aside()) > 0 {
			t.Error("it was put aside")
		}
	})
}

// anotherVersion makes both metas those of another version of bbolt, with the right checksums (its internal/common, meta.go).
func anotherVersion(b []byte) []byte {
	for i := range 2 {
		meta := b[i*os.Getpagesize()+16:]
		meta[4]++
		sum := fnv.New64a()
		sum.Write(meta[:56])
		binary.NativeEndian.PutUint64(meta[56:], sum.Sum64())
	}
	return b
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
			bubble.Test(t, func(t *testing.T) {
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

// Nor does it while one is down of which the damaged store tells, though discovery has forgotten that one.
func TestPoolOfAHostThatTheStoreNames(t *testing.T) {
	const host3 = "33333333333333333333333333333333"
	for name, c := range map[string]struct{ bucket, key, value, want string }{
		"who has it":         {"heard", "subnet=10.30.0.0/16 10.30.0.0/16", `{"` + host3 + `":"host3"}`, "host host3 is down"},
		"met in another one": {"pools", "subnet=10.40.0.0/16 10.40.0.0/16", `{"key":"subnet=10.40.0.0/16","subnet":"10.40.0.0/16","range":"","names":{"` + host3 + `":"host3"}}`, "host host3 is down"},
		"owns in another one": {"pools", "subnet=10.40.0.0/16 10.40.0.0/16", `{"key":"subnet=10.40.0.0/16","subnet":"10.40.0.0/16","range":"","table":[{"f":1,"l":9,"o":"` + host3 + `.1f","v":1}]}`,
			"host " + host3 + " is down"},
		"a suspect before": {"suspects", host3, "host3", "host host3 is down"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				h := newHost(t)
				h.must(h.Close())
				h.write(c.bucket, c.key, c.value)
				h.write("networks", "damaged", "damaged")
				h.cluster = overlaytest.NewCluster()
				h.cluster.Forget()
				for range 2 { // and after another start
					h.open()
					h.Attach(h.cluster)
					_, _, err := h.RequestPool(overlay.PoolSpec{Subnet: netip.MustParsePrefix("10.30.0.0/16")})
					wantError(t, err, c.want, "forgotten", "overlane ipam reclaim")
					h.must(h.Close())
				}
				h.open()
				h.Attach(h.cluster)
				_, err := h.ReclaimAddresses([]string{host3})
				h.must(err)
				_, _, err = h.RequestPool(overlay.PoolSpec{Subnet: netip.MustParsePrefix("10.30.0.0/16")})
				h.must(err)
			})
		})
	}
}

// write writes an entry of the store of a host that is not running.
func (h *host) write(bucket, key, value string) {
	h.t.Helper()
	db, err := bbolt.Open(filepath.Join(h.dir, "overlane.db"), 0o600, nil)
	h.must(err)
	h.must(db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte(bucket))
		h.must(err)
		return b.Put([]byte(key), []byte(value))
	}))
	h.must(db.Close())
}

// unwrite has the store be one that never had a bucket.
func (h *host) unwrite(bucket string) {
	h.t.Helper()
	db, err := bbolt.Open(filepath.Join(h.dir, "overlane.db"), 0o600, nil)
	h.must(err)
	h.must(db.Update(func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte(bucket)) }))
	h.must(db.Close())
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
