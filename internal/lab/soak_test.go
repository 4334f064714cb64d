//go:build lab && soak

package lab

import "time"

// The measure of tests that have a short form, which is in short_test.go.
const (
	long             = true
	killedContainers = 50
	filledSubnet     = "10.99.0.0/16"
	churnContainers  = 100
	churnRounds      = 5
	leftRounds       = 20
	leftContainers   = 10
	partitioned      = time.Minute
	manyNetworks     = 10
	manyContainers   = 10
	demoContainers   = 10
	downloadBytes    = 200_000_000
)
