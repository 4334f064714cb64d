//go:build !asan

package datapath_test

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"testing"
)

// throughput is what one TCP connection carries, in bits a second.
func throughput(t *testing.T, from, to, addr string) float64 {
	t.Helper()
	server := start(t, to, "iperf3", "-s", "-1", "-B", addr, "-p", "7002")
	waitListening(t, to, 7002)
	out, err := exec.Command("ip", "netns", "exec", from, "iperf3", "-c", addr, "-p", "7002", "-J", "-t", "1").Output()
	must(t, err)
	server.Wait()
	var report struct {
		End struct {
			Received struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
	}
	must(t, json.Unmarshal(out, &report))
	return report.End.Received.Rate
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// compare takes the median of a ratio over rounds, in each of which both of its sides are measured: other work on the
// machine comes and goes. It goes on while the median is below the bound, so that chance passes and a fault stays.
func compare(t *testing.T, name string, bound float64, round func() float64) {
	t.Helper()
	var ratios []float64
	for len(ratios) < 15 {
		ratios = append(ratios, round())
		if len(ratios) >= 3 && median(ratios) >= bound {
			t.Logf("%s: %.2f of the throughput, the median of %.2f", name, median(ratios), ratios)
			return
		}
	}
	t.Errorf("%s: %.2f of the throughput, the median of %.2f; want %.2f", name, median(ratios), ratios, bound)
}

// A pair's throughput with a thousand ports beside it is within 10 % of what it is with two.
func TestAThousandIdlePortsCostNothing(t *testing.T) {
	second := secondBox(t)
	kernelPeer(t, peerWire)
	container(t, boxSpace, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24", hostIP6+"/64")
	container(t, second, "ovtest1", secondMAC, innerMTU, vni, secondIP4+"/24", secondIP6+"/64")
	idle := newCrowd(t)
	for _, way := range []struct{ name, to, addr string }{{"on the host", second, secondIP4}, {"to another host", peerSpace, peerIP4}} {
		compare(t, way.name, 0.9, func() float64 {
			alone := throughput(t, boxSpace, way.to, way.addr)
			idle.gather(t, 998)
			beside := throughput(t, boxSpace, way.to, way.addr)
			idle.leave(t)
			return beside / alone
		})
	}
}

// A process that computes on each CPU takes from a pair what it takes from the pair's own processes, and not from the workers too.
func TestWorkersComeFirst(t *testing.T) {
	kernelPeer(t, peerWire)
	container(t, boxSpace, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24", hostIP6+"/64")
	compare(t, "beside a computing process on each CPU", 0.6, func() float64 {
		alone := throughput(t, boxSpace, peerSpace, peerIP4)
		var busy []process
		for cpu := range runtime.NumCPU() {
			busy = append(busy, start(t, boxSpace, "taskset", "-c", fmt.Sprint(cpu), "sh", "-c", "while :; do :; done"))
		}
		beside := throughput(t, boxSpace, peerSpace, peerIP4)
		for _, p := range busy {
			p.Process.Kill()
			p.Wait()
		}
		return beside / alone
	})
}
