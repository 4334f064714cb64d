//go:build lab

package lab

import (
	"os"
	"testing"
)

func TestDemo(t *testing.T) {
	hosts := 3
	if os.Getenv(underlayVariable) == "memif" { // a cable between two
		hosts = 2
	}
	must(t, Demo(t.Context(), up(t, hosts), t.Output()))
}
