//go:build !soak

package discovery

import "flag"

// How far the tests go that have no end of their own.
const (
	manyNodes     = 25
	scaleNodes    = 20
	messageShare  = 16 // one in so many of the bytes that a message can have
	removalRounds = 10
)

func init() { flag.Set("rapid.checks", "300") }
