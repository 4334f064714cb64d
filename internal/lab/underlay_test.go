//go:build lab

package lab

import (
	"os"
	"os/exec"
	"testing"
)

// TestUnderlays runs tests anew for each kind of device that can carry VXLAN. A memif is a cable beside the wire: what
// happens to the wire does not concern it.
func TestUnderlays(t *testing.T) {
	if os.Getenv(underlayVariable) != "" {
		return // this is such a run
	}
	for kind, tests := range map[string]string{
		"af_xdp":    "TestDemo|TestIdle|TestDaemonKilled|TestBadWire|TestIPv6Wire",
		"af_packet": "TestDemo|TestIdle|TestDaemonKilled|TestBadWire|TestIPv6Wire",
		"memif":     "TestDemo|TestIdle|TestDaemonKilled",
	} {
		t.Run(kind, func(t *testing.T) {
			run := exec.Command(os.Args[0], "-test.v", "-test.run", tests)
			run.Env = append(os.Environ(), underlayVariable+"="+kind)
			run.Stdout, run.Stderr = t.Output(), t.Output()
			if err := run.Run(); err != nil {
				t.Error(err)
			}
		})
	}
}
