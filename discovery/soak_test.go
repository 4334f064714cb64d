//go:build soak

package discovery

import (
	"testing"
	"time"
)

const (
	manyNodes     = 64
	scaleNodes    = 80
	messageShare  = 1
	removalRounds = 500
)

func TestRecordsReachManyNodesOnSockets(t *testing.T) {
	all := reachMany(t, listenSockets)
	if p99 := all[len(all)*99/100]; p99 > 2500*time.Millisecond {
		t.Errorf("99 of 100 deliveries took up to %s", p99)
	}
}
