// Package testns gives a test a network namespace.
package testns

import (
	"os/exec"
	"runtime"
	"testing"

	"github.com/vishvananda/netns"
)

// Enter moves the test's goroutine into a network namespace of its own, with lo alone, until the test ends.
func Enter(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	before, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ns.Close()
		if err := netns.Set(before); err != nil {
			t.Fatal(err)
		}
		before.Close()
		runtime.UnlockOSThread()
	})
	Run(t, "ip link set lo up")
}

// Run runs shell commands in the namespace of the test's goroutine.
func Run(t *testing.T, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if out, err := exec.Command("sh", "-c", line).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", line, err, out)
		}
	}
}
