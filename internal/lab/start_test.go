//go:build lab

package lab

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// A container on an overlane network starts almost as soon as one on a bridge of the engine's own.
func TestContainerStart(t *testing.T) {
	const (
		pairs = 20
		limit = 50 * time.Millisecond
	)
	c := up(t, 2)
	h := c.Hosts[0]
	pooled(t, c.Hosts, "app", "10.20.0.0/24")
	_, err := h.Docker(t.Context(), "network", "create", "-d", "bridge", "plain")
	must(t, err)
	var plain, extra []time.Duration
	for pair := range pairs {
		bridge := startTime(t, h, fmt.Sprint("plain", pair), "plain")
		plain = append(plain, bridge)
		extra = append(extra, startTime(t, h, fmt.Sprint("app", pair), "app")-bridge)
	}
	t.Logf("docker run on a bridge %v, on overlane %v more, medians of %d", median(plain), median(extra), pairs)
	if more := median(extra); more > limit {
		t.Errorf("a container on overlane takes %v more to start than on a bridge, want at most %v", more, limit)
	}
}

// startTime is how long `docker run --detach` takes.
func startTime(t *testing.T, h *Host, name, network string) time.Duration {
	t.Helper()
	began := time.Now()
	container, err := h.Run(t.Context(), name, "--network", network)
	took := time.Since(began)
	must(t, err)
	must(t, container.Remove(t.Context()))
	return took
}

func median(all []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(all))[len(all)/2]
}
