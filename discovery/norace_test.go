//go:build !race

package discovery

const underRace = false
