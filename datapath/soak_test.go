//go:build soak

package datapath_test

const (
	bulkBytes   = 64 << 20 // through each TCP connection
	wireBytes   = 8 << 20  // of TCP each way, looked at by tshark
	churnRounds = 50       // in which five ports come and go
	loadPings   = 3000     // one a millisecond, beside what the host sends
	sizeStep    = 7        // between the sizes of what is echoed
)
