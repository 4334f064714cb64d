package lab

import (
	"context"
	"fmt"
	"time"
)

// retryTime is the shortest rest between two attempts. One that takes longer is followed by as long a rest: what is waited for needs the
// machine too.
const retryTime = 50 * time.Millisecond

// Wait calls check until it succeeds. When time is up its last error tells what was still missing.
func Wait(ctx context.Context, timeout time.Duration, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var last error
	for {
		began := time.Now()
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
		case <-time.After(max(retryTime, time.Since(began))):
		}
	}
}
