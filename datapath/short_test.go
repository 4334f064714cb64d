//go:build !soak

package datapath_test

const (
	bulkBytes   = 8 << 20
	wireBytes   = 2 << 20
	churnRounds = 10
	loadPings   = 1000
	sizeStep    = 1979
)
