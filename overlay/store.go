package overlay

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Buckets of the store: Docker's ID to the JSON of a Network, Endpoint or allocation.
var (
	bucketNetworks    = []byte("networks")
	bucketEndpoints   = []byte("endpoints")
	bucketAllocations = []byte("allocations")
)

// How long to wait for another daemon that is on its way out.
const lockTimeout = 2 * time.Second

// store keeps networks and endpoints on disk. What a method wrote is synced when it returns.
type store struct {
	path string
	db   *bbolt.DB
	lock *os.File // of the data directory
}

// openStore opens what a daemon left, or as much of it as can be read.
func openStore(dir string, log logrus.FieldLogger) (s *store, err error) {
	if err = os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory %s: %w", dir, err)
	}
	lock, err := lockDirectory(dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			lock.Close()
		}
	}()
	path := filepath.Join(dir, "overlane.db")
	err = makeWhole(path, log)
	var db *bbolt.DB
	if err == nil {
		db, err = bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTimeout})
	}
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, errInUse(dir) // of a version without the lock
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err1 := tx.CreateBucketIfNotExists(bucketNetworks)
		_, err2 := tx.CreateBucketIfNotExists(bucketEndpoints)
		_, err3 := tx.CreateBucketIfNotExists(bucketAllocations)
		return errors.Join(err1, err2, err3, putFormat(tx))
	})
	if err != nil {
		db.Close()
		return nil, fmt.Errorf("prepare %s: %w", path, err)
	}
	return &store{path, db, lock}, nil
}

// makeWhole sees to it that what is at the path can be opened, and written: it is written anew from what was read, since bbolt finds
// some damage only when it writes, and panics.
func makeWhole(path string, log logrus.FieldLogger) error {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return beginAnew(path, log)
	}
	found, damage, err := examine(path)
	if err == nil {
		err = found.checkFormat(path)
	}
	switch {
	case err != nil:
		return err
	case damage != nil:
		return startOver(path, found, damage, log)
	}
	if err := write(path, found, func(*bbolt.Tx) error { return nil }); err != nil {
		log.WithError(err).Warn("the store was not written anew: overlane goes on with it as it is")
	}
	return nil
}

func (s *store) close() error { return errors.Join(s.db.Close(), s.lock.Close()) }

func (s *store) put(bucket []byte, id string, value any) error {
	text, err := json.Marshal(value)
	if err == nil {
		err = s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucket).Put([]byte(id), text) })
	}
	if err != nil {
		return fmt.Errorf("write %s to %s: %w", short(id), s.path, err)
	}
	return nil
}

func (s *store) delete(bucket []byte, id string) error {
	err := s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucket).Delete([]byte(id)) })
	if err != nil {
		return fmt.Errorf("delete %s from %s: %w", short(id), s.path, err)
	}
	return nil
}

// rename puts a network with its endpoints in the place of one with another ID, all of it or nothing.
func (s *store) rename(old string, n Network, endpoints []Endpoint) error {
	err := s.db.Update(func(tx *bbolt.Tx) error {
		text, err := json.Marshal(n)
		if err != nil {
			return err
		}
		networks := tx.Bucket(bucketNetworks)
		if err := errors.Join(networks.Delete([]byte(old)), networks.Put([]byte(n.ID), text)); err != nil {
			return err
		}
		for _, ep := range endpoints {
			text, err := json.Marshal(ep)
			if err == nil {
				err = tx.Bucket(bucketEndpoints).Put([]byte(ep.ID), text)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write %s to %s: %w", short(n.ID), s.path, err)
	}
	return nil
}

// load reads every value of a bucket.
func load[T any](s *store, bucket []byte) ([]T, error) {
	var all []T
	err := s.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucket).ForEach(func(id, text []byte) error {
			var value T
			if err := json.Unmarshal(text, &value); err != nil {
				return fmt.Errorf("%s %s: %w", bucket, short(string(id)), err)
			}
			all = append(all, value)
			return nil
		})
	})
	return all, err
}
