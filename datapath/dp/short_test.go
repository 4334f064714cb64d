//go:build dptest && !soak

package dp

const (
	kernelRounds = 5
)
