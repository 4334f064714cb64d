package datapath_test

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"runtime"
	"testing"
)

// throughput is what one TCP connection carries, in bits a second.
func throughput(t testing.TB, from, to, addr string) float64 {
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

// compare reports what is left of a throughput beside something. Both are measured in turn: other work on the machine comes and goes.
func compare(b *testing.B, measure func() float64, begin, end func()) {
	var alone, beside float64
	for b.Loop() {
		alone += measure()
		begin()
		beside += measure()
		end()
	}
	b.ReportMetric(alone/float64(b.N)/1e9, "Gbit/s-alone")
	b.ReportMetric(beside/alone, "of-it-beside")
}

// What a pair's throughput is with a thousand ports beside it, of what it is with two.
func BenchmarkThousandIdlePorts(b *testing.B) {
	second := secondContainer(b)
	kernelPeer(b, peerWire)
	container(b, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24", hostIP6+"/64")
	container(b, second, "ovtest1", secondMAC, innerMTU, vni, secondIP4+"/24", secondIP6+"/64")
	idle := newIdlePorts(b)
	for _, way := range []struct{ name, to, addr string }{{"OnTheHost", second, secondIP4}, {"ToAnotherHost", peerNS, peerIP4}} {
		b.Run(way.name, func(b *testing.B) {
			compare(b, func() float64 { return throughput(b, containerNS, way.to, way.addr) }, func() { idle.addUpTo(b, 998) }, func() { idle.removeAll(b) })
		})
	}
}

// What a pair's throughput is with a process that computes on each CPU, of what it is without.
func BenchmarkBesideComputing(b *testing.B) {
	kernelPeer(b, peerWire)
	container(b, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24", hostIP6+"/64")
	var busy []process
	compare(b, func() float64 { return throughput(b, containerNS, peerNS, peerIP4) }, func() {
		for cpu := range runtime.NumCPU() {
			busy = append(busy, start(b, containerNS, "taskset", "-c", fmt.Sprint(cpu), "sh", "-c", "while :; do :; done"))
		}
	}, func() {
		for _, p := range busy {
			p.Process.Kill()
			p.Wait()
		}
		busy = nil
	})
}
