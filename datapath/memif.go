package datapath

import (
	"net"

	"github.com/overlane/overlane/datapath/dp"
	"github.com/overlane/overlane/datapath/memif"
)

// memifPort has the rings used that a memif program has mapped.
type memifPort struct{ *nativePort }

func serveMemif(conn *net.UnixConn, p *nativePort) error { return memif.Serve(conn, memifPort{p}) }

// Start implements memif.Port.
func (p memifPort) Start(rings dp.Memif, call int) error {
	p.tellConnected()
	return p.start(call, func(bell int) error {
		rings.Bell = bell
		return dp.StartMemif(p.id, rings)
	})
}
