//go:build !soak

package ipam

import (
	"flag"
	"os"
	"testing"
)

// TestMain has the same schedules each time, unless others are asked for: the long form looks for new ones.
func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("rapid.seed"); f.Value.String() == f.DefValue {
		f.Value.Set("1")
	}
	os.Exit(m.Run())
}

var modelBounds = []bounded{
	{hosts: 2, members: 1, inFlight: 1, compares: 4, opens: 1, crashes: 1, restarts: 1, reclaims: 1},
	{hosts: 2, members: 2, inFlight: 1, compares: 4, closes: 2, opens: 1},
	{hosts: 3, members: 2, inFlight: 1, compares: 1, closes: 1},
	{hosts: 3, members: 3, inFlight: 1, compares: 1, crashes: 1, reclaims: 1},
}
