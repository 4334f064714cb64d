package lab

import (
	"context"
	"fmt"
	"time"
)

// Wait calls check until it succeeds. When time is up its last error tells what was still missing.
func Wait(ctx context.Context, timeout time.Duration, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	retry := time.NewTicker(50 * time.Millisecond)
	defer retry.Stop()
	var last error
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		// An attempt that the deadline cut short says less than the one before.
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w, after %v: %w", ctx.Err(), timeout, last)
		case <-retry.C:
		}
	}
}
