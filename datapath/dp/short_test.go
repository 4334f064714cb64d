//go:build dptest && !soak

package dp

const (
	kernelRounds = 5
	forgeries    = 30_000
)
