package names

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	connsPerSandbox = 8
	connPatience    = 10 * time.Second // for each query of a connection to come, and for each answer to be taken
)

// accept takes the connections that wait, as many as a turn may.
func (s *Server) accept(sb *sandbox) error {
	for range queriesPerTurn {
		fd, _, err := unix.Accept4(sb.tcp, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNABORTED):
			return nil
		case err != nil:
			return fmt.Errorf("accept a connection: %w", err)
		}
		file := os.NewFile(uintptr(fd), "connection")
		conn, err := net.FileConn(file)
		file.Close()
		if err != nil {
			return fmt.Errorf("accept a connection: %w", err)
		}
		if !s.admit(sb, conn) {
			s.count.add(countRefused)
			conn.Close()
		}
	}
	return nil
}

// admit serves a connection if there is room for it.
func (s *Server) admit(sb *sandbox, conn net.Conn) bool {
	if sb.conns >= connsPerSandbox {
		return false
	}
	select {
	case s.conns <- struct{}{}:
	default:
		return false
	}
	sb.conns++
	s.running.Go(func() {
		defer func() {
			sb.mu.Lock()
			sb.conns--
			sb.mu.Unlock()
			<-s.conns
		}()
		s.serveTCP(sb, conn)
	})
	return true
}

// serveTCP answers the queries of a connection, one after the other, until it ends or has none for a while.
func (s *Server) serveTCP(sb *sandbox, conn net.Conn) {
	defer closeWith(sb.ctx, conn)()
	var server net.Conn
	for {
		conn.SetDeadline(time.Now().Add(connPatience))
		query, err := readMessage(conn, maxQuery)
		if err != nil {
			if errors.Is(err, errTooLong) {
				s.count.add(countMalformed)
			}
			return
		}
		sb.mu.Lock()
		networks := sb.networks
		sb.mu.Unlock()
		answer, v, question := s.table.answer(query, networks, true)
		as := countAnswered
		switch v {
		case empty:
			as = countEmpty
		case malformed:
			s.count.add(countMalformed)
			return
		case forwarded:
			s.count.add(countForwarded)
			if server == nil {
				if server, err = dialServer(sb.ctx, conn); err != nil {
					return
				}
				defer closeWith(sb.ctx, server)()
			}
			if answer, err = ask(server, query); err != nil {
				return
			}
			if s.table.may(networks, strings.TrimSuffix(question.Name, ".")) {
				answer = unlasting(answer)
			}
			as = countReturned
		}
		conn.SetDeadline(time.Now().Add(connPatience))
		if err := writeMessage(conn, answer); err != nil {
			as = countUnsent
		}
		s.count.add(as)
		if as == countUnsent {
			return
		}
	}
}

// closeWith closes a connection when the context ends, or the function is called.
func closeWith(ctx context.Context, conn net.Conn) func() {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	return func() {
		stop()
		conn.Close()
	}
}

// dialServer connects to Docker's server, where the client had wanted to.
func dialServer(ctx context.Context, client net.Conn) (conn net.Conn, err error) {
	raw, err := client.(*net.TCPConn).SyscallConn()
	if err != nil {
		return nil, err
	}
	namespace := -1
	if e := raw.Control(func(fd uintptr) { namespace, err = namespaceOf(int(fd)) }); e != nil || err != nil {
		return nil, errors.Join(e, err)
	}
	defer unix.Close(namespace)
	err = within(namespace, func() (err error) {
		dialer := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: own[:]}}
		conn, err = dialer.DialContext(ctx, "tcp4", client.LocalAddr().String())
		return err
	})
	return conn, err
}

func ask(server net.Conn, query []byte) ([]byte, error) {
	server.SetDeadline(time.Now().Add(patience))
	if err := writeMessage(server, query); err != nil {
		return nil, err
	}
	return readMessage(server, 1<<16-1)
}

var errTooLong = errors.New("the message is too long")

// readMessage reads a message with its length in front (RFC 1035 section 4.2.2).
func readMessage(r io.Reader, longest int) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(length[:]))
	if n > longest {
		return nil, errTooLong
	}
	message := make([]byte, n)
	_, err := io.ReadFull(r, message)
	return message, err
}

func writeMessage(w io.Writer, message []byte) error {
	framed := make([]byte, 0, 2+len(message))
	framed = binary.BigEndian.AppendUint16(framed, uint16(len(message)))
	_, err := w.Write(append(framed, message...))
	return err
}
