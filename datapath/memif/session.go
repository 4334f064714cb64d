// Package memif is the client's side of the memif protocol, version 2.0, for one pair of rings: the memory is made here, with rings and
// buffers in it, and a container's program, the server, maps it. What it says is checked here; what it then writes there, by the pipeline.
package memif

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overlane/overlane/datapath/dp"
)

// farewell is for how long a program may go on with its rings, when it is told that they go. Whoever takes the port away waits for it.
const farewell = 100 * time.Millisecond

// Port is where the rings go.
type Port interface {
	// Start has them used from then on, until Stop returns, and sets m.Bell. Call is the eventfd by which the server is woken up, open
	// until then.
	Start(m dp.Memif, call int) error
	Stop()
}

type session struct {
	conn    *net.UnixConn
	port    Port
	memory  memory
	kick    int // eventfds: that of the server's frames, and that of ours
	call    int
	running bool
}

// Serve speaks with a server until it goes or the connection's deadline is over, which are no errors, or says what can't be; then the
// connection is to be closed.
func Serve(conn *net.UnixConn, port Port) (err error) {
	s := &session{conn: conn, port: port, memory: memory{file: none}, kick: none, call: none}
	defer func() { s.end(err) }()
	err = s.connect()
	if errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) {
		return errNotMade
	}
	if err == nil {
		err = s.stay()
	}
	if over(err) {
		return nil
	}
	return err
}

// over says that a connection has come to its end.
func over(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, unix.ECONNRESET)
}

// connect shows the server the memory, a message at a time, and starts the rings.
func (s *session) connect() error {
	body, err := expect(s.conn, hello)
	if err != nil {
		return err
	}
	server, err := parseHello(body)
	if err != nil {
		return err
	}
	if server.log2 < dp.MemifMin {
		return fmt.Errorf("the program has rings of %d slots at most: want %d", uint64(1)<<server.log2, 1<<dp.MemifMin)
	}
	if err := s.make(min(server.log2, dp.MemifMax)); err != nil {
		return err
	}
	from, to := dp.MemifLayout(s.memory.log2)
	for _, m := range []struct {
		kind kind
		body []byte
		file int
		then kind
	}{
		{initialise, initBody(), none, ack},
		{addRegion, regionBody(s.memory.length), s.memory.file, ack},
		{addRing, ringBody(ringToServer, to, s.memory.log2), s.call, ack},
		{addRing, ringBody(0, from, s.memory.log2), s.kick, ack},
		{connect, fixed("overlane", nameLen), none, connected},
	} {
		if err := send(s.conn, m.kind, m.body, m.file); err != nil {
			return err
		}
		if _, err := expect(s.conn, m.then); err != nil {
			return fmt.Errorf("after %v: %w", m.kind, err)
		}
	}
	if err := s.port.Start(dp.Memif{Memory: s.memory.at, Log2: s.memory.log2, Kick: s.kick}, s.call); err != nil {
		return err
	}
	s.running = true
	return nil
}

// make has memory made, and the eventfds.
func (s *session) make(log2 uint) (err error) {
	if err := s.memory.make(log2); err != nil {
		return fmt.Errorf("memory for its rings: %w", err)
	}
	if s.kick, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return err
	}
	s.call, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	return err
}

// stay is there until the server takes its leave.
func (s *session) stay() error {
	k, _, err := receive(s.conn)
	if err == nil && k != disconnect {
		err = fmt.Errorf("%v from a program that is connected", k)
	}
	return err
}

// end tells the server, if it is still there, and lets it go before the memory goes.
func (s *session) end(why error) {
	if s.running {
		s.port.Stop()
	}
	reason := "overlane ends the connection"
	if why != nil {
		reason = why.Error()
	}
	s.conn.SetDeadline(time.Now().Add(farewell))
	if send(s.conn, disconnect, disconnectBody(reason), none) == nil && s.conn.CloseWrite() == nil {
		for err := error(nil); err == nil; {
			_, err = s.conn.Read(make([]byte, messageLen))
		}
	}
	s.memory.free()
	for _, fd := range []int{s.kick, s.call} {
		if fd != none {
			unix.Close(fd)
		}
	}
}
