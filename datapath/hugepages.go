package datapath

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// noHugepagesEnv is in the environment of a process that has found out that hugepages don't do.
const noHugepagesEnv = "OVERLANE_NO_HUGEPAGES"

// wantHugepages says whether so many bytes are free, which DPDK itself shares out among NUMA nodes.
func wantHugepages(bytes uint64) bool {
	return os.Getenv(noHugepagesEnv) == "" && freeHugepages("/sys/kernel/mm/hugepages") >= bytes
}

// freeHugepages is in bytes, over all sizes, without the free ones that are promised to somebody.
var freeHugepages = func(dir string) (free uint64) {
	sizes, _ := filepath.Glob(dir + "/hugepages-*kB") // the pattern is right
	for _, size := range sizes {
		kilobytes := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(size), "hugepages-"), "kB")
		pages := number(os.ReadFile(size+"/free_hugepages")) - number(os.ReadFile(size+"/resv_hugepages"))
		free += uint64(max(0, pages*number([]byte(kilobytes), nil))) << 10
	}
	return free
}

func number(text []byte, err error) int64 {
	n, _ := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return n
}

// reexec has the process begin anew, on ordinary pages. What was free a moment ago may be taken, or out of reach: a control
// group's limit shows when a page is touched. Pages can't be held for DPDK meanwhile, and when rte_eal_init has failed for
// want of memory it answers EALREADY in the same process for good.
func reexec(log logrus.FieldLogger, why error) error {
	log.WithError(why).Warn("the hugepages that were free can't be had: starting again on ordinary pages")
	// What DPDK has opened would live on, and keep the hugepages that it got.
	if err := unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("%w; start again without: close what DPDK has opened: %w", why, err)
	}
	err := unix.Exec("/proc/self/exe", os.Args, append(os.Environ(), noHugepagesEnv+"=1"))
	return fmt.Errorf("%w; start again without: %w", why, err)
}
