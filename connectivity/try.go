package connectivity

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

const (
	// settleTime is for a probe to be known on the other host, and keys to be agreed on.
	settleTime = 3 * time.Second
	// tryTime is how long one of several tries waits for an answer.
	tryTime = 400 * time.Millisecond
	tries   = 4
	// connectTime is for a connection, exchangeTime for all that goes over it.
	connectTime  = 2 * time.Second
	exchangeTime = 3 * time.Second
	// exchangeSize is more than a super-frame.
	exchangeSize = 256 << 10
)

// Headers in front of the payload of UDP: RFC 791, RFC 8200, RFC 768.
const (
	headers4 = 20 + 8
	headers6 = 40 + 8
)

// try tests all there is between this probe and another, of whose addresses some are known here.
func (t *tester) try(ctx context.Context, to peer, known []netip.Addr) found {
	f := found{ID: to.ID, Announced: len(known) > 0}
	var four, six []Check
	var name Check
	var trying sync.WaitGroup
	trying.Go(func() { four, f.Largest = t.tryFamily(ctx, to, known, netip.Addr.Is4, "") })
	trying.Go(func() { six, _ = t.tryFamily(ctx, to, known, netip.Addr.Is6, "6") })
	trying.Go(func() { name = t.tryName(ctx, to) })
	trying.Wait()
	f.Checks = append(slices.Concat(four, six), name)
	return f
}

// tryFamily tests by one version of IP, if both have it. What passes of sizes is given where not all do.
func (t *tester) tryFamily(ctx context.Context, to peer, known []netip.Addr, is func(netip.Addr) bool, suffix string) (checks []Check, largest int) {
	here, there := slices.IndexFunc(t.addrs, is), slices.IndexFunc(to.Addrs, is)
	if here < 0 || there < 0 {
		return nil, 0
	}
	at := netip.AddrPortFrom(to.Addrs[there], echoPort)
	mtu, tcp, echo := Check{Name: "mtu" + suffix}, Check{Name: "tcp" + suffix}, Check{Name: "ping" + suffix}
	udp := Check{Name: "udp" + suffix}
	if !slices.Contains(known, at.Addr()) {
		for _, c := range []*Check{&echo, &mtu, &tcp, &udp} {
			c.note(0, errUnheard)
		}
		return []Check{echo, mtu, tcp, udp}, 0
	}
	conn, err := t.dialPackets(at)
	if err != nil {
		udp.Problem = err.Error()
		return []Check{udp}, 0
	}
	defer conn.Close()
	e := &echoes{conn: conn, token: t.token, headers: headers4}
	if at.Addr().Is6() {
		e.headers = headers6
	}
	udp.note(e.settle(ctx))
	var trying sync.WaitGroup
	trying.Go(func() { echo.note(ping(ctx, t.sandbox, t.token, at.Addr())) })
	trying.Go(func() { tcp.note(t.exchange(ctx, at)) })
	if udp.OK {
		largest = t.trySizes(ctx, e, min(t.mtu, to.MTU), &mtu)
	} else {
		mtu.Skipped = "no answer by UDP"
	}
	trying.Wait()
	return []Check{echo, mtu, tcp, udp}, largest
}

// errUnheard is why an address is not tried.
var errUnheard = errors.New("this host does not know yet that the other's probe has the address")

// note is how it went.
func (c *Check) note(took time.Duration, err error) {
	switch {
	case errors.Is(err, errNoRight):
		c.Skipped = err.Error()
	case err != nil:
		c.Problem = err.Error()
	default:
		c.OK, c.Millis = true, float64(took.Microseconds())/1000
	}
}

func (t *tester) dialPackets(to netip.AddrPort) (conn *net.UDPConn, err error) {
	err = t.sandbox.Do(func() error {
		c, err := (&net.Dialer{Control: forbidFragments}).Dial("udp", to.String())
		if err == nil {
			conn = c.(*net.UDPConn)
		}
		return err
	})
	return conn, err
}

// trySizes has packets of the MTU answered, and one that is a byte longer than the interface's refused. What passes where those do not is given.
func (t *tester) trySizes(ctx context.Context, e *echoes, mtu int, c *Check) (largest int) {
	took, err := e.try(ctx, mtu, tries)
	if err != nil {
		largest = e.largest(ctx, e.headers+echoHeader, mtu)
		c.Problem = fmt.Sprintf("packets of up to %d bytes pass, and not those of %d", largest, mtu)
		return largest
	}
	if err := e.send(t.mtu + 1); !errors.Is(err, unix.EMSGSIZE) {
		c.Problem = fmt.Sprintf("the interface takes a packet of %d bytes, with an MTU of %d: %v", t.mtu+1, t.mtu, err)
		return 0
	}
	c.note(took, nil)
	return 0
}

// echoHeader is what a datagram has at least: the token, its kind and a number.
const echoHeader = tokenLen + 1 + 4

// echoes are datagrams to another probe, and its answers.
type echoes struct {
	conn    *net.UDPConn
	token   string
	headers int // bytes before the payload
	number  uint32
}

// send sends one with so many bytes of IP packet, under the next number.
func (e *echoes) send(size int) error {
	e.number++
	b := make([]byte, max(size-e.headers, echoHeader))
	copy(b, e.token)
	b[tokenLen] = kindRequest
	binary.BigEndian.PutUint32(b[tokenLen+1:], e.number)
	_, err := e.conn.Write(b)
	return err
}

// receive gives the number and the size of the next answer.
func (e *echoes) receive(end time.Time) (number uint32, size int, err error) {
	b := make([]byte, 1<<16)
	if err := e.conn.SetReadDeadline(end); err != nil {
		return 0, 0, err
	}
	for {
		n, err := e.conn.Read(b)
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
			return 0, 0, errors.New("no answer")
		}
		if err == nil && n >= echoHeader && string(b[:tokenLen]) == e.token && b[tokenLen] == kindReply {
			return binary.BigEndian.Uint32(b[tokenLen+1:]), n + e.headers, nil
		}
		if err != nil && time.Now().After(end) { // what ICMP says of one that was sent before
			return 0, 0, err
		}
	}
}

// try sends one of a size until it is answered, a few times at most, and says how long that took.
func (e *echoes) try(ctx context.Context, size, times int) (took time.Duration, err error) {
	for range times {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		began := time.Now()
		if err = e.send(size); err != nil {
			time.Sleep(tryTime / 4) // no neighbour yet
			continue
		}
		for number := uint32(0); err == nil && number != e.number; {
			number, _, err = e.receive(began.Add(tryTime))
		}
		if err == nil {
			return time.Since(began), nil
		}
	}
	return 0, err
}

// settle waits until a small one is answered.
func (e *echoes) settle(ctx context.Context) (took time.Duration, err error) {
	for end := time.Now().Add(settleTime); time.Now().Before(end) && ctx.Err() == nil; {
		if took, err = e.try(ctx, 0, 1); err == nil {
			return took, nil
		}
	}
	return 0, err
}

// largest finds the size up to which they are answered, in some rounds of many sizes each. They grow within a round: the kernel puts datagrams together
// that do not, and what lies between would see longer ones than were sent.
func (e *echoes) largest(ctx context.Context, passes, fails int) int {
	const each, rounds = 16, 6
	for range rounds {
		if fails-passes <= 1 || ctx.Err() != nil {
			break
		}
		step := max((fails-passes)/(each+1), 1)
		first := e.number
		passed := passes
		for try := range 2 { // one may get lost, or be late
			sent := 0
			for size := passes + step; size < fails && sent < each; size += step {
				e.send(size)
				sent++
			}
			for end := time.Now().Add(tryTime / 2 * time.Duration(1+try)); sent > 0; sent-- {
				number, size, err := e.receive(end)
				if err != nil {
					break
				}
				if number > first {
					passed = max(passed, size)
				}
			}
		}
		if next := passed + step; next < fails && next <= passes+each*step { // it was tried
			fails = next
		}
		passes = passed
	}
	return passes
}

// exchange sends some data over a connection, and has it sent back.
func (t *tester) exchange(ctx context.Context, to netip.AddrPort) (took time.Duration, err error) {
	began := time.Now()
	var conn net.Conn
	err = t.sandbox.Do(func() (err error) {
		conn, err = (&net.Dialer{Timeout: connectTime}).DialContext(ctx, "tcp", to.String())
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("no connection: %w", inShort(err))
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	conn.SetDeadline(time.Now().Add(exchangeTime))
	data := make([]byte, exchangeSize)
	rand.Read(data) // never fails (crypto/rand)
	sent := make(chan error, 1)
	go func() {
		_, err := conn.Write(append([]byte(t.token), data...))
		sent <- errors.Join(err, conn.(*net.TCPConn).CloseWrite())
	}()
	back, err := io.ReadAll(io.LimitReader(conn, exchangeSize+1))
	if err != nil {
		conn.Close()
	}
	if err := errors.Join(err, <-sent); err != nil {
		return 0, fmt.Errorf("connected, and then %d of %d bytes came back: %w", len(back), exchangeSize, inShort(err))
	}
	if string(back) != string(data) {
		return 0, fmt.Errorf("%d bytes were sent, and %d others came back", exchangeSize, len(back))
	}
	return time.Since(began), nil
}

// inShort says a network error without the addresses, which people do not know.
func inShort(err error) error {
	var op *net.OpError
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errors.New("no answer")
	}
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// errNoRight says that this daemon can't ping, errNoSocket that nothing could be sent.
var (
	errNoRight  = errors.New("the daemon lacks CAP_NET_RAW")
	errNoSocket = errors.New("no way there")
)

// namespace is one of network in which sockets are opened.
type namespace interface{ Do(func() error) error }

// dialPing opens a socket for echo requests in a namespace.
func dialPing(from namespace, network string, to netip.Addr) (conn *net.IPConn, err error) {
	err = from.Do(func() (err error) {
		conn, err = net.DialIP(network, nil, &net.IPAddr{IP: to.AsSlice()})
		if errors.Is(err, os.ErrPermission) {
			return errNoRight
		}
		return err
	})
	if err != nil && !errors.Is(err, errNoRight) {
		err = fmt.Errorf("%w: %w", errNoSocket, inShort(err))
	}
	return conn, err
}

// ping has an echo request answered (RFC 792, RFC 4443).
func ping(ctx context.Context, from namespace, token string, to netip.Addr) (took time.Duration, err error) {
	network, protocol := "ip4:icmp", 1
	var request, reply icmp.Type = ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply
	if to.Is6() {
		network, protocol = "ip6:ipv6-icmp", 58
		request, reply = ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply
	}
	conn, err := dialPing(from, network, to)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	echo := &icmp.Echo{ID: echoPort, Data: []byte(token)}
	b := make([]byte, 1500)
	for range tries {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		echo.Seq++
		text, err := (&icmp.Message{Type: request, Body: echo}).Marshal(nil) // the kernel sums ICMPv6
		if err != nil {
			return 0, err
		}
		began := time.Now()
		conn.SetDeadline(began.Add(tryTime))
		if _, err := conn.Write(text); err != nil {
			time.Sleep(tryTime / 4)
			continue
		}
		for {
			n, _, err := conn.ReadFromIP(b) // without the header of IPv4
			if err != nil {
				break
			}
			m, err := icmp.ParseMessage(protocol, b[:n])
			if err != nil || m.Type != reply {
				continue
			}
			if body, is := m.Body.(*icmp.Echo); is && body.Seq == echo.Seq && string(body.Data) == token {
				return time.Since(began), nil
			}
		}
	}
	return 0, errors.New("no answer")
}

// tryName asks for the other probe by name, as a container does.
func (t *tester) tryName(ctx context.Context, to peer) Check {
	c := Check{Name: "name"}
	if len(to.Addrs) == 0 {
		c.Skipped = "it has no address"
		return c
	}
	var err error
	for end := time.Now().Add(settleTime); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(tryTime / 2) {
		began := time.Now()
		if err = t.ask(to.Name, to.Addrs[0]); err == nil {
			c.note(time.Since(began), nil)
			return c
		}
	}
	c.note(0, err)
	return c
}

// ask has a name lead to an address.
func (t *tester) ask(name string, addr netip.Addr) error {
	query := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
	if addr.Is6() {
		query.SetQuestion(dns.Fqdn(name), dns.TypeAAAA)
	}
	var conn net.Conn
	err := t.sandbox.Do(func() (err error) { conn, err = net.Dial("udp", t.names.String()); return err })
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(tryTime))
	server := &dns.Conn{Conn: conn}
	if err := server.WriteMsg(query); err != nil {
		return err
	}
	answer, err := server.ReadMsg()
	if err != nil {
		return errors.New("no answer to a query for its name")
	}
	for _, rr := range answer.Answer {
		switch rr := rr.(type) {
		case *dns.A:
			if rr.A.Equal(addr.AsSlice()) {
				return nil
			}
		case *dns.AAAA:
			if rr.AAAA.Equal(addr.AsSlice()) {
				return nil
			}
		}
	}
	return errors.New("its name is not known")
}
