package datapath

import (
	"net"

	"github.com/overlane/overlane/datapath/dp"
	"github.com/overlane/overlane/datapath/vhostuser"
)

// vhostPort has the rings of a vhost-user program used.
type vhostPort struct{ *nativePort }

func serveVhost(conn *net.UnixConn, p *nativePort) error {
	p.tellConnected()
	return vhostuser.Serve(conn, vhostPort{p})
}

// Start implements vhostuser.Port.
func (p vhostPort) Start(rings dp.Vhost, call int) error {
	return p.start(call, func(bell int) error {
		rings.Bell = bell
		return dp.StartVhost(p.id, rings)
	})
}
