//go:build lab && soak

package lab

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

// TestUnderlays runs tests anew for each other way that can carry VXLAN than what the kernel here allows. A memif is a cable beside the wire: what
// happens to the wire does not concern it.
func TestUnderlays(t *testing.T) {
	for kind, tests := range map[string]string{
		"udp":       "TestDemo|TestDaemonKilled|TestBadWire|TestIPv6Wire",
		"af_xdp":    "TestDemo|TestDaemonKilled|TestBadWire|TestIPv6Wire",
		"af_packet": "TestDemo|TestDaemonKilled|TestBadWire|TestIPv6Wire",
		"memif":     "TestDemo|TestDaemonKilled",
	} {
		t.Run(kind, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.run", tests)
			cmd.Env = append(os.Environ(), underlayVariable+"="+kind)
			out, err := runWithin(time.Hour, cmd)
			must(t, err)
			t.Log(out)
		})
	}
}
