package datapath_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/overlane/overlane/datapath"
)

// pretendEnv has the tests' datapath see more hugepages than there are.
const pretendEnv = "OVERLANE_TEST_PRETEND_HUGEPAGES"

// Hugepages that are promised to another program are not free, though nobody has them yet.
func TestFreeHugepages(t *testing.T) {
	dir := t.TempDir()
	for file, pages := range map[string]int{
		"hugepages-2048kB/free_hugepages": 100, "hugepages-2048kB/resv_hugepages": 40,
		"hugepages-1048576kB/free_hugepages": 1, "hugepages-1048576kB/resv_hugepages": 1,
		"hugepages-64kB/free_hugepages": 1, "hugepages-64kB/resv_hugepages": 2, // one is given away between the two looks
	} {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, file), fmt.Appendln(nil, pages), 0o644))
	}
	if got, want := datapath.FreeHugepages(dir), uint64(60*2<<20); got != want {
		t.Errorf("%d bytes are free, want %d", got, want)
	}
}

// Where DPDK cannot start with the hugepages that seemed free, the process starts again without, and says so.
func TestHugepagesTakenMeanwhile(t *testing.T) {
	if os.Getenv(underlayEnv) != "" {
		return // runs beside each other would change the number under each other, which no underlay matters to
	}
	const pages = "/proc/sys/vm/nr_hugepages"
	before, err := os.ReadFile(pages)
	must(t, err)
	var n int
	_, err = fmt.Sscan(string(before), &n)
	must(t, err)
	must(t, os.WriteFile(pages, fmt.Append(nil, n+1), 0)) // less than it takes
	t.Cleanup(func() { must(t, os.WriteFile(pages, before, 0)) })

	tests := exec.Command(os.Args[0], "-test.v", "-test.run", "^TestNetworksStayApart$")
	tests.Env = append(os.Environ(), pretendEnv+"=1", underlayEnv+"=")
	out, err := tests.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "starting again on ordinary pages") || !strings.Contains(string(out), "PASS: TestNetworksStayApart") {
		t.Errorf("%v\n%s", err, out)
	}
}
