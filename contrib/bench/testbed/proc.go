// Package testbed is what the benchmarks stand on: hosts and containers that are network namespaces, and a daemon in each host.
package testbed

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of CPU time in /proc: USER_HZ is 100 on every x86-64 (proc(5)).
const tick = 10 * time.Millisecond

// CPUTime is what a process has used: utime and stime of /proc/PID/stat.
func CPUTime(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name in parentheses may hold anything; fields 14 and 15 are the 12th and 13th behind it.
	return ticks(strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))[11:13])
}

// BusyTime is what all CPUs have worked: the first line of /proc/stat without idle and iowait. Softirqs are in it, so that
// what the kernel does on nobody's account counts too.
func BusyTime() (time.Duration, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(stat), "\n")
	f := strings.Fields(line)
	if len(f) < 8 {
		return 0, fmt.Errorf("/proc/stat: %q: want seven fields at least", line)
	}
	return ticks(append(f[1:4:4], f[6:8]...))
}

func ticks(fields []string) (sum time.Duration, err error) {
	for _, field := range fields {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(n) * tick
	}
	return sum, nil
}

// RSS is a process's resident memory, in units of 10^6 bytes: the second field of /proc/PID/statm, in pages.
func RSS(pid int) (float64, error) {
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	var size, resident int
	if _, err := fmt.Sscan(string(statm), &size, &resident); err != nil {
		return 0, err
	}
	return float64(resident*os.Getpagesize()) / 1e6, nil
}
