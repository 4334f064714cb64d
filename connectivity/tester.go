package connectivity

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/overlane/overlane/overlay"
)

const (
	// echoPort is where a probe answers. In its namespace there is nobody else, but the port of RFC 862 takes CAP_NET_BIND_SERVICE.
	echoPort = 7007
	// tokenLen is of a test's ID, with which all that is answered begins.
	tokenLen = 8
	// maxEcho bounds what is sent back over a connection, maxConns the connections of a probe.
	maxEcho  = 1 << 20
	maxConns = 256
	// connTime is how long a connection to a probe may be there.
	connTime = 10 * time.Second
)

// Kinds of datagram: what is answered is no answer, so that two probes never answer each other for ever.
const (
	kindRequest byte = 1
	kindReply   byte = 2
)

// tester answers at a probe, and tries from there to reach others.
type tester struct {
	sandbox Sandbox
	token   string
	addrs   []netip.Addr
	mtu     int
	names   netip.AddrPort // where queries for names go

	ctx     context.Context // until it is closed
	cancel  context.CancelFunc
	serving sync.WaitGroup
	places  chan struct{} // for connections
	open    []io.Closer
}

func newTester(sandbox Sandbox, test string, probe *overlay.Probe) (*tester, error) {
	t := &tester{sandbox: sandbox, token: test, mtu: probe.MTU, places: make(chan struct{}, maxConns)}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	for _, p := range probe.Addrs {
		t.addrs = append(t.addrs, p.Addr())
	}
	if err := sandbox.Do(t.listen); err != nil {
		t.close()
		return nil, fmt.Errorf("listen at a probe: %w", err)
	}
	return t, nil
}

// listen opens the sockets, and answers at them.
func (t *tester) listen() error {
	for _, addr := range t.addrs {
		at := netip.AddrPortFrom(addr, echoPort).String()
		packets, err := (&net.ListenConfig{Control: forbidFragments}).ListenPacket(context.Background(), "udp", at)
		if err != nil {
			return err
		}
		t.open = append(t.open, packets)
		t.serving.Go(func() { t.answerPackets(packets.(*net.UDPConn)) })
		conns, err := net.Listen("tcp", at)
		if err != nil {
			return err
		}
		t.open = append(t.open, conns)
		t.serving.Go(func() { t.answerConns(conns) })
	}
	server, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 11)})
	if err != nil {
		return err
	}
	t.open = append(t.open, server)
	t.names = server.LocalAddr().(*net.UDPAddr).AddrPort()
	t.serving.Go(func() { answerNames(server) })
	return nil
}

func (t *tester) close() {
	t.cancel()
	for _, c := range t.open {
		c.Close()
	}
	t.serving.Wait()
}

// forbidFragments has packets leave with DF, and be as long as the interface allows whatever was learned of the path (IP_MTU_DISCOVER, ip(7)).
func forbidFragments(network, _ string, c syscall.RawConn) (err error) {
	failed := c.Control(func(fd uintptr) {
		if network == "udp6" {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
		} else {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
		}
	})
	return errors.Join(failed, err)
}

// answerPackets sends back what the test's probes send, until the socket is closed.
func (t *tester) answerPackets(conn *net.UDPConn) {
	buffer := make([]byte, 1<<16)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return
		}
		if n > tokenLen && string(buffer[:tokenLen]) == t.token && buffer[tokenLen] == kindRequest {
			buffer[tokenLen] = kindReply
			conn.WriteToUDPAddrPort(buffer[:n], from) // what is lost is asked for again
		}
	}
}

// answerConns does so for connections.
func (t *tester) answerConns(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		select {
		case t.places <- struct{}{}:
		default:
			conn.Close()
			continue
		}
		t.serving.Go(func() {
			defer func() { conn.Close(); <-t.places }()
			defer context.AfterFunc(t.ctx, func() { conn.Close() })()
			conn.SetDeadline(time.Now().Add(connTime))
			token := make([]byte, tokenLen)
			if _, err := io.ReadFull(conn, token); err == nil && string(token) == t.token {
				io.Copy(conn, io.LimitReader(conn, maxEcho))
			}
		})
	}
}

// answerNames stands for Docker's server in the probe's namespace, where queries go that overlane passes on: it knows nobody.
func answerNames(conn *net.UDPConn) {
	buffer := make([]byte, dns.MaxMsgSize)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return
		}
		query := new(dns.Msg)
		if query.Unpack(buffer[:n]) != nil || query.Response {
			continue
		}
		if answer, err := new(dns.Msg).SetRcode(query, dns.RcodeNameError).Pack(); err == nil {
			conn.WriteToUDPAddrPort(answer, from)
		}
	}
}
