// Package bubble runs a test on a clock of its own.
package bubble

import (
	"runtime"
	"testing"
	"testing/synctest"
)

// Test is synctest.Test on one processor: where two threads look at due timers of a bubble at once, the race detector of Go 1.26
// ends the process (golang/go issue 78156). Tests that call it must not run in parallel.
func Test(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	synctest.Test(t, test)
}
