package overlay_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/internal/bubble"
)

// A host of many containers looks for those that are gone less often, so that it is idle, too.
func TestLooksForGarbage(t *testing.T) {
	for endpoints, want := range map[int]int64{1: 60, 500: 48} {
		t.Run(fmt.Sprint(endpoints), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				var looks atomic.Int64
				h := newHost(t)
				h.network()
				for i := range endpoints {
					h.run(fmt.Sprintf("%064x", i), fmt.Sprintf("10.20.%d.%d", 1+i/250, 1+i%250))
				}
				h.inContainer = func(datapath.PortConfig) (bool, error) {
					looks.Add(1)
					return true, nil
				}
				h.restart()
				looks.Store(0)
				time.Sleep(10*time.Minute + time.Second)
				synctest.Wait()
				if got := looks.Load() / int64(endpoints); got != want {
					t.Errorf("%d looks at %d endpoints in ten minutes, want %d", got, endpoints, want)
				}
			})
		})
	}
}
