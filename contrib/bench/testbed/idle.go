package testbed

import (
	"context"
	"time"
)

// Idle is the busiest daemon's share of a core over a time in which nobody asks it for anything, in per cent.
func Idle(ctx context.Context, window time.Duration, daemons ...*Daemon) (float64, error) {
	before := make([]time.Duration, len(daemons))
	for i, daemon := range daemons {
		used, err := CPUTime(daemon.PID())
		if err != nil {
			return 0, err
		}
		before[i] = used
	}
	select {
	case <-time.After(window):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	worst := 0.0
	for i, daemon := range daemons {
		used, err := CPUTime(daemon.PID())
		if err != nil {
			return 0, err
		}
		worst = max(worst, 100*(used-before[i]).Seconds()/window.Seconds())
	}
	return worst, nil
}
