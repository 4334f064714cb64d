package overlay_test

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/internal/bubble"
	"github.com/overlane/overlane/overlay"
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

// A network whose removal failed is removed once that can be: Docker does not ask again.
func TestDeletedNetworkGoesLater(t *testing.T) {
	for name, attached := range map[string]bool{"Docker's alone": false, "this host is attached to it": true} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				h := newHost(t)
				h.network()
				h.run(epID, "10.20.0.2")
				if attached {
					h.attach(key, "10.20.0.9")
				}
				h.datapath.Fail("DelPort", errFault)
				if err := h.DeleteNetwork(netID); err == nil {
					t.Error("the network is removed, and its port is not")
				}
				h.datapath.Fail("DelPort", nil)
				time.Sleep(11 * time.Second)
				synctest.Wait()
				if s := h.Status(); slices.ContainsFunc(s.Networks, func(n overlay.NetworkStatus) bool { return n.ID == netID }) || len(h.Attachments()) != len(s.Endpoints) || len(s.Endpoints) != map[bool]int{true: 1}[attached] {
					t.Errorf("networks %+v, endpoints %+v", s.Networks, s.Endpoints)
				}
			})
		})
	}
}

// A network that Docker makes anew, with its ID or another, after a removal that failed halfway.
func TestDeletedNetworkIsMadeAnew(t *testing.T) {
	for name, id := range map[string]string{"the same": netID, "another": otherID} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.network()
			h.datapath.Fail("DelNetwork", errFault)
			again := spec("vni", "5000")
			again.ID = id
			for range 2 {
				if err := h.DeleteNetwork(netID); err == nil {
					t.Error("the network is removed, and the datapath has it")
				}
				if err := h.CreateNetwork(again); err == nil || !strings.Contains(err.Error(), netID[:12]) {
					t.Errorf("made beside what is left of the one before: %v", err)
				}
			}
			h.datapath.Fail("DelNetwork", nil)
			h.must(h.CreateNetwork(again))
			h.must(h.CreateNetwork(again))
			if all := h.cluster.Networks(); len(all) != 1 || all[0] != key {
				t.Errorf("this host takes part in %+v, want %s", all, key)
			}
			h.restart()
			if s := h.Status(); len(s.Networks) != 1 || s.Networks[0].ID != id {
				t.Errorf("after a restart: %+v", s.Networks)
			}
		})
	}
}
