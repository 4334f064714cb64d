package datapath

import (
	"net/netip"

	"github.com/sirupsen/logrus"
)

// Config starts the pipeline.
type Config struct {
	CPUs []int              // one worker is pinned to each
	VTEP netip.Addr         // this host's tunnel address: the outer source
	Port uint16             // UDP port on which VXLAN is received
	Log  logrus.FieldLogger // also takes DPDK's own log
}
