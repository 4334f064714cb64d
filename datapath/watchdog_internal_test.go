package datapath

import (
	"io"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/sirupsen/logrus"
)

// A worker that has not taken three wakes in succession is stuck until it takes one; one that is late is not.
func TestWatchdog(t *testing.T) {
	log := logrus.New()
	log.SetOutput(io.Discard)
	d := &Datapath{log: log, workers: []int{2, 5}, watchdog: &watchdog{silent: make([]atomic.Int32, 2)}}
	for turn, c := range []struct {
		late  bool // the second worker
		stuck []int
	}{{false, nil}, {true, nil}, {true, nil}, {false, nil}, {true, nil}, {true, nil}, {true, []int{5}}, {true, []int{5}}, {false, nil}} {
		d.lookAtWorkers(func(worker int) bool { return worker == 0 || !c.late })
		if got := d.stuck(); !slices.Equal(got, c.stuck) {
			t.Errorf("turn %d: stuck are %v, want %v", turn, got, c.stuck)
		}
	}
}
