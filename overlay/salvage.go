package overlay

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/overlane/overlane/overlay/ipam"
)

// contents are a store's entries: bucket to key to JSON.
type contents map[string]map[string][]byte

// examine reads all of a store, and says what is wrong with it. bbolt trusts its file: a page that is not there is an error here
// instead of the process's end.
func examine(path string) (found contents, damage error, err error) {
	found = contents{}
	if damage, err = checkFile(path); err != nil {
		return nil, nil, err
	}
	reading := readAll(path, true, found)
	if isNoDamage(reading, damage) {
		return nil, nil, reading
	}
	if reading != nil {
		damage = errors.Join(damage, reading)
		clear(found)
		if again := readAll(path, false, found); isNoDamage(again, damage) { // as much as there is
			return nil, nil, again
		}
	}
	return found, errors.Join(damage, found.check()), nil
}

// isNoDamage says that an error is none of the file: the machine lacks something, or another program has or wrote the file.
func isNoDamage(err, damage error) bool {
	var system syscall.Errno
	ofAnother := errors.Is(err, bolterrors.ErrVersionMismatch) && damage == nil // its checksums are right
	lacking := errors.As(err, &system) && system != syscall.EBADF               // which bbolt gets as it wants to fill an empty file
	return errors.Is(err, bolterrors.ErrTimeout) || lacking || ofAnother
}

// metaAt is where a page's meta is, metaSum where its checksum is in it (bbolt's internal/common: page.go, meta.go).
const metaAt, metaSum, metaLength = 16, 56, 64

// checkFile checks the two metas, the older of which bbolt takes in silence where the newer is damaged, and the file's length.
func checkFile(path string) (damage, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	page, pages := int64(0), uint64(0) // a page's length is the machine's that made the file
	for i := range 2 {
		meta := make([]byte, metaLength)
		if _, err := file.ReadAt(meta, int64(i)*page+metaAt); errors.Is(err, io.EOF) {
			return fmt.Errorf("it ends after %d bytes", info.Size()), nil
		} else if err != nil {
			return nil, err
		}
		sum := fnv.New64a()
		sum.Write(meta[:metaSum])
		if sum.Sum64() != binary.NativeEndian.Uint64(meta[metaSum:]) {
			return fmt.Errorf("page %d has a wrong checksum", i), nil
		}
		page = int64(binary.NativeEndian.Uint32(meta[8:]))
		pages = max(pages, binary.NativeEndian.Uint64(meta[40:]))
	}
	if want := pages * uint64(page); uint64(info.Size()) < want {
		return fmt.Errorf("it ends after %d bytes of %d", info.Size(), want), nil
	}
	return nil, nil
}

// readAll reads all entries. Without whole it does not look at bbolt's lists of its own, which serve writing alone.
func readAll(path string, whole bool, found contents) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer recovered(&err)
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTimeout, ReadOnly: true, PreLoadFreelist: whole})
	if err != nil {
		return err
	}
	defer db.Close()
	return db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, bucket *bbolt.Bucket) error { return readBucket(string(name), bucket, found) })
	})
}

func readBucket(name string, bucket *bbolt.Bucket, found contents) (err error) {
	defer recovered(&err)
	found[name] = map[string][]byte{}
	return bucket.ForEach(func(key, value []byte) error {
		found[name][string(key)] = append([]byte{}, value...)
		return nil
	})
}

func recovered(err *error) {
	if fault := recover(); fault != nil {
		*err = fmt.Errorf("it can't be read: %v", fault)
	}
}

// check drops entries that are none, and says which.
func (c contents) check() error {
	var errs []error
	for bucket, entries := range c {
		for key, value := range entries {
			if err := checkEntry(bucket, key, value); err != nil {
				errs = append(errs, fmt.Errorf("%s %.40q: %w", bucket, key, err))
				delete(entries, key)
			}
		}
	}
	return errors.Join(errs...)
}

func checkEntry(bucket, key string, value []byte) error {
	var id string
	var err error
	switch bucket {
	case string(bucketNetworks):
		var n Network
		err = json.Unmarshal(value, &n)
		id = n.ID
	case string(bucketEndpoints):
		var ep Endpoint
		err = json.Unmarshal(value, &ep)
		id = ep.ID
	case string(bucketAllocations):
		var a allocation
		err = json.Unmarshal(value, &a)
		id = a.ID
	default:
		return ipam.CheckEntry(bucket, key, value)
	}
	if err == nil && id != key {
		err = fmt.Errorf("is of %.40q", id)
	}
	return err
}

// inUse lists what the endpoints have: the networks' subnets to addresses and MACs.
func (c contents) inUse() map[netip.Prefix]map[netip.Addr]string {
	all := map[netip.Prefix]map[netip.Addr]string{}
	for _, text := range c[string(bucketEndpoints)] {
		var ep Endpoint
		var n Network
		if json.Unmarshal(text, &ep) != nil || json.Unmarshal(c[string(bucketNetworks)][ep.NetworkID], &n) != nil {
			continue
		}
		for _, pool := range n.Pools {
			for _, addr := range ep.Addrs {
				if all[pool] == nil {
					all[pool] = map[netip.Addr]string{}
				}
				if pool.Contains(addr) {
					all[pool][addr] = ep.MAC.String()
				}
			}
		}
	}
	return all
}

// startOver keeps a damaged store aside and begins a new one with what could be read of networks and endpoints. Who has which addresses is
// asked of the other hosts: what a damaged file says of it may be old. Until the new one is written the damaged one stays in its place, or a full
// disk would lose all.
func startOver(path string, found contents, damage error, log logrus.FieldLogger) error {
	aside := fmt.Sprintf("%s.damaged-%s", path, time.Now().UTC().Format("20060102T150405.000"))
	if err := os.Link(path, aside); err != nil {
		return fmt.Errorf("%s is damaged (%w) and can't be kept aside: %w", path, damage, err)
	}
	kept := maps.Clone(found)
	maps.DeleteFunc(kept, func(bucket string, _ map[string][]byte) bool {
		return bucket != string(bucketNetworks) && bucket != string(bucketEndpoints) && bucket != string(bucketAllocations)
	})
	if err := write(path, kept, func(tx *bbolt.Tx) error { return ipam.StartOver(tx, found, found.inUse()) }); err != nil {
		return errors.Join(fmt.Errorf("%s is damaged (%w), and can't be written anew: %w", path, damage, err), os.Remove(aside))
	}
	log.WithFields(logrus.Fields{
		"kept": aside, "damage": damage,
		"networks": len(found[string(bucketNetworks)]), "endpoints": len(found[string(bucketEndpoints)]), "pools": len(found["pools"]),
	}).Errorf("%s is damaged: overlane goes on with the networks, endpoints and pools that could be read. Which addresses this host owned is lost: they stay unused, see docs/troubleshooting.md. If `overlane status` lacks a network or container, restart Docker, or create it again", path)
	return nil
}

// beginAnew begins a store where there is none. A host that has had one before has forgotten who has which addresses.
func beginAnew(path string, log logrus.FieldLogger) error {
	if _, err := os.Stat(filepath.Join(filepath.Dir(path), "identity.json")); err != nil {
		return nil
	}
	log.Errorf("%s is gone, though this host is not new: its networks and endpoints are lost. Remove its networks from Docker and create them again", path)
	return write(path, nil, func(tx *bbolt.Tx) error { return ipam.StartOver(tx, nil, nil) })
}

// write writes a store anew, in place of what is there.
func write(path string, all contents, more func(*bbolt.Tx) error) error {
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	db, err := bbolt.Open(fresh, 0o600, &bbolt.Options{Timeout: lockTimeout})
	if err != nil {
		return fmt.Errorf("open %s: %w", fresh, err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for name, entries := range all {
			bucket, err := tx.CreateBucket([]byte(name))
			if err != nil {
				return err
			}
			for key, value := range entries {
				if err := bucket.Put([]byte(key), value); err != nil {
					return err
				}
			}
		}
		return more(tx)
	})
	if err = errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("write %s: %w", fresh, err)
	}
	if err := os.Rename(fresh, path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync() // else a crash might bring the old one back, and what is written from here on would be lost
}
