package datapath_test

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// The workers come before the processes of their CPUs that compute: BenchmarkBesideComputing has what that is worth.
func TestWorkersComeFirst(t *testing.T) {
	out, err := exec.Command("ps", "-L", "-o", "comm=", "-o", "ni=", "-p", fmt.Sprint(os.Getpid())).Output()
	must(t, err)
	worker := regexp.MustCompile("^(rte-|dpdk-)worker") // of DPDK 22.11, and later ones
	first := 0
	for thread := range strings.Lines(string(out)) {
		if fields := strings.Fields(thread); worker.MatchString(thread) && fields[len(fields)-1] == "-10" {
			first++
		}
	}
	if want := len(plane.Stats().Workers); first != want {
		t.Errorf("%d threads come first, want the %d workers:\n%s", first, want, out)
	}
}
