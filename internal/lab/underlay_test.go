//go:build lab

package lab

import (
	"cmp"
	"os"
)

// underlayVariable names what carries VXLAN when tests run for one kind: see TestUnderlays.
const underlayVariable = "LAB_UNDERLAY"

var (
	underlay    = os.Getenv(underlayVariable)
	sharedName  = "lab-" + cmp.Or(underlay, "tests")
	sharedHosts = max(3, len(platforms))
)

func init() {
	if underlay == "memif" { // a cable between two
		sharedHosts = 2
	}
}
