package main

import (
	"context"
	"syscall"
)

const (
	killRounds    = 5
	killEndpoints = 100
)

// kills takes the longest time without a reply to a container of the first host while its daemon is killed and started anew.
func kills(ctx context.Context, c *cluster, taken figures) error {
	if err := c.populate(ctx, killEndpoints); err != nil {
		return err
	}
	pinging, stop := context.WithCancel(ctx)
	defer stop()
	ping, err := startPing(pinging, farNS, c.last)
	if err != nil {
		return err
	}
	if _, err := ping.gap(ctx); err != nil {
		return err
	}
	for range killRounds {
		c.daemons[0].End(syscall.SIGKILL)
		if err := c.daemons[0].Start(ctx); err != nil {
			return err
		}
		gap, err := ping.gap(ctx)
		if err != nil {
			return err
		}
		taken.note("kill_gap_ms", gap)
	}
	return nil
}
