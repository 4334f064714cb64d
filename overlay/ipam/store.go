package ipam

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/overlane/overlane/overlay/ipam/prefix"
)

// Buckets of the store: poolID to the JSON of a stored, poolID and address to that of a lease, poolID to that of the
// hosts that have it.
var (
	bucketPools     = []byte("pools")
	bucketLeases    = []byte("leases")
	bucketPeerPools = []byte("heard")
	bucketSuspects  = []byte("suspects") // of a host that has forgotten its pools: ID to name of those that may have some
)

// suspectsPending is there from then on until the suspects are known.
var suspectsPending = []byte("pending")

// disk is what was stored.
type disk struct {
	pools     []stored
	leases    map[poolID]map[uint64]lease
	peerPools map[poolID]map[string]string
	suspects  map[string]string
	pending   bool // who they are has to be seen
}

func load(db *bbolt.DB) (d disk, err error) {
	d = disk{leases: map[poolID]map[uint64]lease{}, peerPools: map[poolID]map[string]string{}, suspects: map[string]string{}}
	err = db.Update(func(tx *bbolt.Tx) error {
		inPools, err1 := tx.CreateBucketIfNotExists(bucketPools)
		inLeases, err2 := tx.CreateBucketIfNotExists(bucketLeases)
		inPeerPools, err3 := tx.CreateBucketIfNotExists(bucketPeerPools)
		if err := errors.Join(err1, err2, err3); err != nil {
			return err
		}
		err1 = read("pool", inPools, func(key string, s stored) error {
			d.pools = append(d.pools, s)
			return nil
		})
		err2 = read("hosts of pool", inPeerPools, func(key string, hosts map[string]string) error {
			id, err := parsePoolID(key)
			d.peerPools[id] = hosts
			return err
		})
		err3 = read("lease", inLeases, func(key string, l lease) error {
			id, at, err := parseLeaseKey(key)
			if d.leases[id] == nil {
				d.leases[id] = map[uint64]lease{}
			}
			d.leases[id][at] = l
			return err
		})
		return errors.Join(err1, err2, err3, d.loadSuspects(tx))
	})
	return d, err
}

func (d *disk) loadSuspects(tx *bbolt.Tx) error {
	bucket := tx.Bucket(bucketSuspects)
	if bucket == nil {
		return nil
	}
	return bucket.ForEach(func(id, name []byte) error {
		if string(id) == string(suspectsPending) {
			d.pending = true
		} else {
			d.suspects[string(id)] = string(name)
		}
		return nil
	})
}

// saveSuspects puts them on disk. It is synced when saveSuspects returns.
func saveSuspects(db *bbolt.DB, suspects map[string]string) error {
	return db.Update(func(tx *bbolt.Tx) error {
		if err := tx.DeleteBucket(bucketSuspects); err != nil && !errors.Is(err, bolterrors.ErrBucketNotFound) {
			return err
		}
		bucket, err := tx.CreateBucket(bucketSuspects)
		for id, name := range suspects {
			err = errors.Join(err, bucket.Put([]byte(id), []byte(name)))
		}
		return err
	})
}

// CheckEntry says what is wrong with an entry of one of the addresses' buckets.
func CheckEntry(bucket, key string, value []byte) error {
	switch bucket {
	case string(bucketPools):
		var s stored
		if err := json.Unmarshal(value, &s); err != nil {
			return err
		}
		if got := (poolID{s.Key, s.Subnet}).String(); got != key {
			return fmt.Errorf("is of %.40q", got)
		}
		return prefix.Check(s.Subnet, s.Range)
	case string(bucketLeases):
		_, _, err := parseLeaseKey(key)
		return errors.Join(err, json.Unmarshal(value, new(lease)))
	case string(bucketPeerPools):
		_, err := parsePoolID(key)
		return errors.Join(err, json.Unmarshal(value, new(map[string]string)))
	}
	return nil
}

// StartOver begins the store of a host that has forgotten whose its pools' addresses are. It uses the same pools, in which it owns
// nothing; what its containers have it knows from the leases, or else from inUse: subnets to addresses and MACs. Found are the entries
// that could be read, by bucket: every host that they name may have pools that this one has forgotten.
func StartOver(tx *bbolt.Tx, found map[string]map[string][]byte, inUse map[netip.Prefix]map[netip.Addr]string) error {
	pools, leases := found[string(bucketPools)], found[string(bucketLeases)]
	inPools, err1 := tx.CreateBucketIfNotExists(bucketPools)
	inLeases, err2 := tx.CreateBucketIfNotExists(bucketLeases)
	inSuspects, err3 := tx.CreateBucketIfNotExists(bucketSuspects)
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	errs := []error{inSuspects.Put(suspectsPending, nil)}
	for id, name := range named(found) {
		errs = append(errs, inSuspects.Put([]byte(id), []byte(name)))
	}
	for key, text := range pools {
		var s stored
		if err := json.Unmarshal(text, &s); err != nil || !s.Member {
			continue
		}
		errs = append(errs, putJSON(inPools, []byte(key), stored{Key: s.Key, Subnet: s.Subnet, Range: s.Range, Member: true}))
		for addr, mac := range inUse[s.Subnet] {
			at, err := prefix.Offset(s.Subnet, addr)
			if err == nil {
				err = putJSON(inLeases, leaseKey(poolID{s.Key, s.Subnet}, at), lease{MAC: mac, At: time.Now()})
			}
			errs = append(errs, err)
		}
	}
	for key, text := range leases {
		if id, _, err := parseLeaseKey(key); err == nil && pools[id.String()] != nil {
			errs = append(errs, inLeases.Put([]byte(key), text))
		}
	}
	return errors.Join(errs...)
}

// named are the hosts of which entries tell: ID to name, if that is known.
func named(found map[string]map[string][]byte) map[string]string {
	all := map[string]string{}
	for _, text := range found[string(bucketPools)] {
		var s stored
		if json.Unmarshal(text, &s) != nil {
			continue
		}
		for _, span := range s.Table {
			if node := nodeOf(span.Owner); isHost(span.Owner) && all[node] == "" {
				all[node] = ""
			}
		}
		maps.Copy(all, s.Names)
	}
	for _, text := range found[string(bucketPeerPools)] {
		var hosts map[string]string
		if json.Unmarshal(text, &hosts) == nil {
			maps.Copy(all, hosts)
		}
	}
	for id, name := range found[string(bucketSuspects)] {
		if id != string(suspectsPending) {
			all[id] = string(name)
		}
	}
	delete(all, "")
	return all
}

// read gives the keys of a bucket with their values, which are JSON.
func read[T any](what string, bucket *bbolt.Bucket, take func(key string, value T) error) error {
	return bucket.ForEach(func(key, text []byte) error {
		var value T
		err := json.Unmarshal(text, &value)
		if err == nil {
			err = take(string(key), value)
		}
		if err != nil {
			return fmt.Errorf("%s %s: %w", what, key, err)
		}
		return nil
	})
}

func leaseKey(id poolID, at uint64) []byte {
	return fmt.Appendf(nil, "%s %s", id, prefix.Address(id.Subnet, at))
}

func parseLeaseKey(key string) (id poolID, at uint64, err error) {
	space := strings.LastIndexByte(key, ' ')
	if space < 0 {
		return id, 0, errors.New("no address")
	}
	if id, err = parsePoolID(key[:space]); err != nil {
		return id, 0, err
	}
	addr, err := netip.ParseAddr(key[space+1:])
	if err != nil {
		return id, 0, err
	}
	at, err = prefix.Offset(id.Subnet, addr)
	return id, at, err
}

func parsePoolID(text string) (poolID, error) {
	space := strings.LastIndexByte(text, ' ')
	if space < 0 {
		return poolID{}, fmt.Errorf("pool %q: want a network's key and a subnet", text)
	}
	subnet, err := netip.ParsePrefix(text[space+1:])
	if err != nil {
		return poolID{}, fmt.Errorf("pool %q: %w", text, err)
	}
	return poolID{text[:space], subnet}, nil
}

// save puts on disk what a step changed. It is synced when save returns.
func save(db *bbolt.DB, out *output, peerPools map[poolID]map[string]string) error {
	if len(out.pools)+len(out.gone)+len(out.leases)+len(out.peerPools) == 0 {
		return nil
	}
	return db.Update(func(tx *bbolt.Tx) error {
		pools, leases := tx.Bucket(bucketPools), tx.Bucket(bucketLeases)
		for _, p := range out.pools {
			if err := putJSON(pools, []byte(p.id.String()), p.stored); err != nil {
				return err
			}
		}
		for _, w := range out.leases {
			key, err := leaseKey(w.pool, w.at), error(nil)
			if w.lease == nil {
				err = leases.Delete(key)
			} else {
				err = putJSON(leases, key, w.lease)
			}
			if err != nil {
				return err
			}
		}
		for _, id := range out.peerPools {
			key, err := []byte(id.String()), error(nil)
			if hosts := peerPools[id]; hosts == nil {
				err = tx.Bucket(bucketPeerPools).Delete(key)
			} else {
				err = putJSON(tx.Bucket(bucketPeerPools), key, hosts)
			}
			if err != nil {
				return err
			}
		}
		for _, id := range out.gone {
			if err := pools.Delete([]byte(id.String())); err != nil {
				return err
			}
		}
		return nil
	})
}

func putJSON(bucket *bbolt.Bucket, key []byte, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return bucket.Put(key, text)
}
