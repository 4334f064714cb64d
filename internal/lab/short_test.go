//go:build lab && !soak

package lab

import "time"

// The measure of tests that have a long form, which is in soak_test.go.
const (
	long             = false
	killedContainers = 8
	filledSubnet     = "10.99.0.0/25"
	churnContainers  = 12
	churnRounds      = 1
	leftRounds       = 2
	leftContainers   = 4
	partitioned      = time.Duration(0) // beside what it takes the hosts to notice
	manyNetworks     = 5
	manyContainers   = 4
	demoContainers   = 4
	downloadBytes    = 20_000_000
)
