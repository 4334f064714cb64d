package overlay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// How often to look whether another daemon is gone.
const lockRetry = 50 * time.Millisecond

// lockDirectory keeps other daemons off a data directory until the file is closed: by a file of its own, since the store is at times
// another file under the same name.
func lockDirectory(dir string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(dir, "overlane.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", dir, err)
	}
	for end := time.Now().Add(lockTimeout); ; time.Sleep(lockRetry) {
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return file, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(end) {
			break
		}
	}
	file.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, errInUse(dir)
	}
	return nil, fmt.Errorf("data directory %s: lock %s: %w", dir, file.Name(), err)
}

func errInUse(dir string) error {
	return fmt.Errorf("data directory %s: another overlane daemon uses it: stop that one, or choose another directory", dir)
}
