package main

import (
	"context"
	"os"
	"time"

	"github.com/overlane/overlane/contrib/bench/testbed"
)

const joinRounds = 5

// joins takes the time from the start of a daemon on a new host until it knows the other two and the records of all their endpoints.
func joins(ctx context.Context, c *cluster, taken figures) error {
	daemon := &c.daemons[2]
	for range joinRounds {
		if err := os.RemoveAll(daemon.Dir); err != nil {
			return err
		}
		began := time.Now()
		if err := daemon.Start(ctx); err != nil {
			return err
		}
		if err := c.network(ctx, 2); err != nil {
			return err
		}
		if err := testbed.Eventually(ctx, func() error { return knows(ctx, daemon, len(c.daemons), len(c.containers)+1) }); err != nil {
			return err
		}
		taken.note("join_ms", milliseconds(time.Since(began)))
		if err := daemon.Leave(ctx); err != nil {
			return err
		}
	}
	return nil
}
