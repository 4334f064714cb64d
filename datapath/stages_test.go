package datapath_test

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/overlane/overlane/datapath/dp"
)

// Under traffic both ways every stage has packets, but that of encrypted ones, and no more cycles than there were; when nobody asks, nothing is counted.
func TestStages(t *testing.T) {
	kernelPeer(t, peerWire)
	container(t, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24")
	ping := func() { run(t, containerNS, "ping -c 50 -i 0.002 -q "+peerIP4) }
	ping()
	before := dp.ReadStages()
	ping()
	if after := dp.ReadStages(); !reflect.DeepEqual(before, after) {
		t.Errorf("counted though nobody asked: %v, then %v", before, after)
	}
	waitOutput(t, start(t, containerNS, "ping", "-i", "0.002", peerIP4), "bytes from")
	s, err := plane.Stages(context.Background(), 200*time.Millisecond)
	must(t, err)
	var sum uint64
	for _, stage := range s.Stages {
		sum += stage.Cycles
		if (stage.Cycles == 0 || (stage.Packets == 0 && stage.Name != "poll")) != (stage.Name == "open") {
			t.Errorf("stage %s: %d cycles for %d packets", stage.Name, stage.Cycles, stage.Packets)
		}
	}
	if workers := len(plane.Stats().Workers); float64(sum) > 1.1*s.Seconds*float64(s.CyclesPerSecond)*float64(workers) {
		t.Errorf("%d cycles in %.2f s at %d a second, %d workers", sum, s.Seconds, s.CyclesPerSecond, workers)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := plane.Stages(ended, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("the caller went away: %v", err)
	}
}
