package overlay_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/overlane/overlane/overlay"
	"github.com/sirupsen/logrus"
)

// What a later version wrote is refused and stays as it is, however strange it looks.
func TestStoreOfLaterVersion(t *testing.T) {
	h := newHost(t)
	h.network()
	h.must(h.Close())
	h.write("format", "version", "2")
	h.write("endpoints", "new", "not JSON any more")
	path := filepath.Join(h.dir, "overlane.db")
	before, err := os.ReadFile(path)
	h.must(err)
	_, err = overlay.Open(overlay.Config{Dir: h.dir, Log: logrus.New()})
	wantError(t, err, path, "later version", "format 2", "none above 1")
	after, err := os.ReadFile(path)
	h.must(err)
	if !bytes.Equal(before, after) || len(h.aside()) > 0 {
		t.Errorf("the store was changed, or put aside: %d", len(h.aside()))
	}
}

// What is of today, or was written before formats had numbers, is read.
func TestStoreOfEarlierVersion(t *testing.T) {
	for _, format := range []string{"none", "", "0", "1", "?"} {
		h := newHost(t)
		h.network()
		h.run(epID, "10.20.0.2")
		h.must(h.Close())
		if format == "none" {
			h.unwrite("format")
		} else {
			h.write("format", "version", format)
		}
		h.start()
		if got := len(h.Status().Endpoints); got != 1 || len(h.aside()) > 0 {
			t.Errorf("format %q: %d endpoints and %d damaged stores, want 1 and none", format, got, len(h.aside()))
		}
	}
}
