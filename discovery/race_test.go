//go:build race

package discovery

// underRace says that the race detector slows everything down.
const underRace = true
