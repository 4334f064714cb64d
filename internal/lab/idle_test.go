//go:build lab

package lab

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A host whose containers have nothing to say must not pay for overlane.
func TestIdle(t *testing.T) {
	const (
		containers = 20
		window     = 10 * time.Second
		limit      = window / 100
	)
	c := up(t, 2)
	network(t, c.Hosts, "app", 20)
	for _, h := range c.Hosts {
		create(t, h, containers)
	}
	everyHost(t, c, "knows all containers", func(h *Host) error { return remotes(t, h, containers) })

	before := make([]time.Duration, len(c.Hosts))
	for i, h := range c.Hosts {
		before[i] = cpuTime(t, h)
	}
	shell(t, c.Hosts[0], fmt.Sprintf("sleep %d", int(window.Seconds())))
	for i, h := range c.Hosts {
		used := cpuTime(t, h) - before[i]
		t.Logf("%s: overlane used %v of CPU time in %v", h.Name, used, window)
		if used >= limit {
			t.Errorf("%s: overlane used %v of CPU time in %v with %d idle containers, want less than %v", h.Name, used, window, containers, limit)
		}
	}
}

// cpuTime is what the daemon has used so far: utime and stime of proc_pid_stat(5), in ticks of 10 ms.
func cpuTime(t *testing.T, h *Host) time.Duration {
	t.Helper()
	stat := shell(t, h, "cat /proc/$(cat /run/overlane.pid)/stat")
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	var ticks int
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		must(t, err)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
