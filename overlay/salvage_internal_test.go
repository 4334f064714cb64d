package overlay

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"

	bolterrors "go.etcd.io/bbolt/errors"
)

// What the machine lacks for a moment must cost no host what it has stored.
func TestNoDamage(t *testing.T) {
	for _, c := range []struct {
		err, damage error
		want        bool
	}{
		{&fs.PathError{Op: "open", Path: "overlane.db", Err: syscall.EMFILE}, nil, true},
		{fmt.Errorf("mmap: %w", syscall.ENOMEM), nil, true},
		{syscall.EIO, errors.New("page 0 has a wrong checksum"), true},
		{bolterrors.ErrTimeout, nil, true},
		{bolterrors.ErrVersionMismatch, nil, true},
		{bolterrors.ErrVersionMismatch, errors.New("page 0 has a wrong checksum"), false},
		{bolterrors.ErrInvalid, nil, false},
		{syscall.EBADF, errors.New("it ends after 0 bytes"), false},
		{bolterrors.ErrChecksum, nil, false},
		{nil, nil, false},
	} {
		if got := isNoDamage(c.err, c.damage); got != c.want {
			t.Errorf("%v, with damage %v: %v, want %v", c.err, c.damage, got, c.want)
		}
	}
}
