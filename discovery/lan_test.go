package discovery

import (
	"bytes"
	"context"
	"errors"
	"log"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/overlane/overlane/internal/bubble"
)

// lan is a network in memory, where what is sent arrives at once or never. On it, and on synctest's clock, real nodes
// take no time.
type lan struct {
	mu    sync.Mutex
	rand  *rand.Rand
	loss  float64        // of datagrams
	mute  netip.AddrPort // who sends no datagrams
	own   bool           // and is told: its own firewall drops them
	port  uint16         // the last one given away
	nodes map[string]*lanNode
}

// onLAN runs a test whose nodes are on one lan.
func onLAN(t *testing.T, test func(t *testing.T, l *lan)) {
	bubble.Test(t, func(t *testing.T) {
		// What the nodes had begun comes to an end when they are closed, but not at once.
		t.Cleanup(func() { time.Sleep(2 * streamTimeout) })
		test(t, &lan{rand: rand.New(rand.NewPCG(1, 2)), nodes: map[string]*lanNode{}})
	})
}

func (l *lan) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

// listen is a listener.
func (l *lan) listen(_ context.Context, bind netip.AddrPort, _ *log.Logger) (memberlist.NodeAwareTransport, uint16, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if bind.Port() == 0 {
		l.port++
		bind = netip.AddrPortFrom(bind.Addr(), l.port)
	}
	if l.nodes[bind.String()] != nil {
		return nil, 0, errors.New("the address is in use")
	}
	n := &lanNode{lan: l, address: bind, packets: make(chan *memberlist.Packet, 1024), streams: make(chan net.Conn, 64)}
	l.nodes[bind.String()] = n
	return n, bind.Port(), nil
}

// lost says whether a datagram does not arrive.
func (l *lan) lost(from netip.AddrPort) bool {
	return from == l.mute || l.rand.Float64() < l.loss
}

// lanNode is one node's place on the network.
type lanNode struct {
	lan     *lan
	address netip.AddrPort
	packets chan *memberlist.Packet
	streams chan net.Conn
	gone    bool // the host has the address no more
}

func (n *lanNode) PacketCh() <-chan *memberlist.Packet { return n.packets }

func (n *lanNode) StreamCh() <-chan net.Conn { return n.streams }

func (n *lanNode) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	return net.ParseIP(ip), port, nil
}

func (n *lanNode) WriteTo(b []byte, to string) (time.Time, error) {
	n.lan.mu.Lock()
	defer n.lan.mu.Unlock()
	now := time.Now()
	if n.lan.own && n.address == n.lan.mute {
		return now, syscall.EPERM
	}
	if other := n.lan.nodes[to]; other != nil && !n.gone && !n.lan.lost(n.address) {
		select {
		case other.packets <- &memberlist.Packet{Buf: bytes.Clone(b), From: net.UDPAddrFromAddrPort(n.address), Timestamp: now}:
		default: // as a socket's buffer, it is full
		}
	}
	return now, nil
}

func (n *lanNode) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	return n.WriteTo(b, to.Addr)
}

func (n *lanNode) DialTimeout(to string, _ time.Duration) (net.Conn, error) {
	n.lan.mu.Lock()
	defer n.lan.mu.Unlock()
	other := n.lan.nodes[to]
	if other == nil {
		return nil, errors.New("nobody listens there")
	}
	near, far := lanPipe()
	select {
	case other.streams <- far:
		return near, nil
	default:
		return nil, errors.New("too many wait there")
	}
}

func (n *lanNode) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return n.DialTimeout(to.Addr, timeout)
}

func (n *lanNode) Shutdown() error {
	n.lan.mu.Lock()
	defer n.lan.mu.Unlock()
	if n.lan.nodes[n.address.String()] == n {
		delete(n.lan.nodes, n.address.String())
	}
	return nil
}

// lanConn takes what is written at once, as a socket does: a node may answer before it has read everything.
type lanConn struct {
	net.Conn
	written chan []byte
	close   func()
}

func lanPipe() (near, far net.Conn) {
	a, b := net.Pipe()
	return newLANConn(a), newLANConn(b)
}

func newLANConn(pipe net.Conn) *lanConn {
	pipe.SetDeadline(time.Now().Add(streamTimeout))
	c := &lanConn{Conn: pipe, written: make(chan []byte, 64)}
	c.close = sync.OnceFunc(func() { close(c.written) })
	go func() {
		for b := range c.written {
			pipe.Write(b) // the other end may be closed
		}
		pipe.Close()
	}()
	return c
}

func (c *lanConn) Write(b []byte) (int, error) {
	c.written <- bytes.Clone(b)
	return len(b), nil
}

func (c *lanConn) Close() error {
	c.close()
	return nil
}
