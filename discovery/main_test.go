package discovery

import (
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"testing"
	"time"
)

var (
	simNodes     = flag.Int("nodes", 0, "instead of the tests, say how fast a simulated cluster of so many nodes agrees")
	simEndpoints = flag.Int("endpoints", 100_000, "endpoints of all its nodes together")
	simSeed      = flag.Uint64("seed", 1, "of everything in it that is left to chance")
)

// TestMain runs the tests, or what `make sim` asks for: the simulator is no part of the daemon.
func TestMain(m *testing.M) {
	flag.Parse()
	if *simNodes == 0 {
		os.Exit(m.Run())
	}
	debug.SetMemoryLimit(6500 << 20) // the whole is to fit into 8 GB
	began := time.Now()
	log := func(format string, args ...any) {
		fmt.Printf("%5.1fs  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	fail := func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "sim: "+format+"\n", args...)
		os.Exit(1)
	}
	fmt.Println(measureScale(*simNodes, *simEndpoints, *simSeed, log, fail))
}
