package discovery

import (
	"context"
	"log"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	bindTries     = 10               // for a port that is free for both TCP and UDP
	streamTimeout = 30 * time.Second // for all of a stream, which memberlist gives no deadline
)

// listener takes a node's place on the network, and gives the port it got. Tests
// have a network of their own.
type listener func(ctx context.Context, bind netip.AddrPort, logger *log.Logger) (memberlist.NodeAwareTransport, uint16, error)

// listenSockets takes the TCP and the UDP socket of a port.
func listenSockets(ctx context.Context, bind netip.AddrPort, logger *log.Logger) (memberlist.NodeAwareTransport, uint16, error) {
	var t *memberlist.NetTransport
	var err error
	for range bindTries {
		t, err = memberlist.NewNetTransport(&memberlist.NetTransportConfig{
			BindAddrs: []string{bind.Addr().String()},
			BindPort:  int(bind.Port()),
			Logger:    logger,
		})
		if err == nil || bind.Port() != 0 {
			break
		}
	}
	if err != nil {
		return nil, 0, err
	}
	return &deadlineTransport{t, ctx}, uint16(t.GetAutoBindPort()), nil
}

// deadlineTransport gives every stream a deadline, and ends all with the context.
type deadlineTransport struct {
	*memberlist.NetTransport
	ctx context.Context
}

func (t *deadlineTransport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	dialer := net.Dialer{Timeout: timeout}
	conn, err := dialer.DialContext(t.ctx, "tcp", a.Addr)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(streamTimeout)); err != nil {
		conn.Close()
		return nil, err
	}
	return &stream{conn, context.AfterFunc(t.ctx, func() { conn.Close() })}, nil
}

type stream struct {
	net.Conn
	release func() bool
}

func (s *stream) Close() error {
	s.release()
	return s.Conn.Close()
}
