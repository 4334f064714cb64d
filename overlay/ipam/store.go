package ipam

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"go.etcd.io/bbolt"
)

// Buckets of the store: poolID to the JSON of a stored, and poolID and address to that of a lease.
var (
	bucketPools  = []byte("pools")
	bucketLeases = []byte("leases")
)

// load reads what was stored.
func load(db *bbolt.DB) (pools []stored, leases map[poolID]map[uint64]lease, err error) {
	leases = map[poolID]map[uint64]lease{}
	err = db.Update(func(tx *bbolt.Tx) error {
		inPools, err1 := tx.CreateBucketIfNotExists(bucketPools)
		inLeases, err2 := tx.CreateBucketIfNotExists(bucketLeases)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		err := inPools.ForEach(func(key, text []byte) error {
			var s stored
			if err := json.Unmarshal(text, &s); err != nil {
				return fmt.Errorf("pool %s: %w", key, err)
			}
			pools = append(pools, s)
			return nil
		})
		if err != nil {
			return err
		}
		return inLeases.ForEach(func(key, text []byte) error {
			id, at, err := parseLeaseKey(string(key))
			var l lease
			if err == nil {
				err = json.Unmarshal(text, &l)
			}
			if err != nil {
				return fmt.Errorf("lease %s: %w", key, err)
			}
			if leases[id] == nil {
				leases[id] = map[uint64]lease{}
			}
			leases[id][at] = l
			return nil
		})
	})
	return pools, leases, err
}

func leaseKey(id poolID, at uint64) []byte {
	return fmt.Appendf(nil, "%s %s", id, address(id.Subnet, at))
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
	at, err = offset(id.Subnet, addr)
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
func save(db *bbolt.DB, out *output) error {
	if len(out.pools)+len(out.gone)+len(out.leases) == 0 {
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
