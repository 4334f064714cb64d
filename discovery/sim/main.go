// Command sim runs a simulated cluster and prints how fast it agrees.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/overlane/overlane/discovery"
)

func main() {
	nodes := flag.Int("nodes", 1000, "nodes of the cluster")
	endpoints := flag.Int("endpoints", 100_000, "endpoints of all nodes together")
	seed := flag.Uint64("seed", 1, "of everything that is left to chance")
	flag.Parse()
	debug.SetMemoryLimit(6500 << 20) // the whole is to fit into 8 GB

	began := time.Now()
	say := func(format string, args ...any) {
		fmt.Printf("%5.1fs  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	fail := func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "sim: "+format+"\n", args...)
		os.Exit(1)
	}
	fmt.Println(discovery.Simulate(*nodes, *endpoints, *seed, say, fail))
}
