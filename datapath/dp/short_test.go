//go:build dptest && !soak

package dp

const (
	lossRounds   = 30
	kernelRounds = 5
)
