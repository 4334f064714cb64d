//go:build dptest && soak

package dp

const (
	lossRounds   = 200 // in which the ends of a memif lose each other
	kernelRounds = 15  // of a hundred runs of frames that are merged as the kernel does
	forgeries    = 1_000_000
)
