package main

import (
	"context"
	"time"

	"github.com/overlane/overlane/contrib/bench/testbed"
)

const (
	// With a thousand endpoints the daemon looks for containers that are gone every 25 s.
	idleWindow = 30 * time.Second
	idleRounds = 3
)

// idle takes CPU time and memory of the first host's daemon while its endpoints have nothing to say.
func idle(ctx context.Context, c *cluster, taken figures, endpoints int) error {
	if err := c.populate(ctx, endpoints); err != nil {
		return err
	}
	daemon := &c.daemons[0]
	for range idleRounds {
		busy, err := testbed.Idle(ctx, idleWindow, daemon)
		if err != nil {
			return err
		}
		memory, err := testbed.RSS(daemon.PID())
		if err != nil {
			return err
		}
		if endpoints == 0 {
			taken.note("idle_cpu_pct", busy)
			taken.note("rss_mb_0", memory)
		} else {
			taken.note("idle_cpu_pct_1000", busy)
			taken.note("rss_mb_1000", memory)
		}
	}
	return nil
}
