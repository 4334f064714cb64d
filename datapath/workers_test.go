package datapath_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The workers come before the processes of their CPUs that compute: BenchmarkBesideComputing has what that is worth.
func TestWorkersComeFirst(t *testing.T) {
	out, err := exec.Command("ps", "-L", "-o", "comm=,ni=", "-p", fmt.Sprint(os.Getpid())).Output()
	must(t, err)
	first := 0
	for thread := range strings.Lines(string(out)) {
		if fields := strings.Fields(thread); strings.HasPrefix(thread, "rte-worker-") && fields[len(fields)-1] == "-10" {
			first++
		}
	}
	if want := len(plane.Stats().Workers); first != want {
		t.Errorf("%d threads come first, want the %d workers:\n%s", first, want, out)
	}
}
