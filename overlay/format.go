package overlay

import (
	"fmt"
	"strconv"

	"go.etcd.io/bbolt"
)

// storeFormat is what this version writes. It is raised when an older version would misread what is in the data directory; what was
// written before there were numbers is 1.
const storeFormat = 1

var (
	bucketFormat = []byte("format")
	keyFormat    = []byte("version")
)

func putFormat(tx *bbolt.Tx) error {
	bucket, err := tx.CreateBucketIfNotExists(bucketFormat)
	if err != nil {
		return err
	}
	return bucket.Put(keyFormat, strconv.AppendInt(nil, storeFormat, 10))
}

// checkFormat refuses what a later version wrote, before anything in it is taken for damage.
func (c contents) checkFormat(path string) error {
	text, ok := c[string(bucketFormat)][string(keyFormat)]
	if !ok {
		return nil
	}
	format, err := strconv.Atoi(string(text))
	if err != nil || format <= storeFormat {
		return nil // what is no number is damage, and written anew
	}
	return fmt.Errorf("%s was written by a later version of overlane: it has format %d, and this version knows none above %d. Install that version again, or a later one; "+
		"or move the file away, and make the host's networks and containers anew", path, format, storeFormat)
}
