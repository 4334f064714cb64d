package names

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// queriesPerTurn is how many queries, or answers, of one container are looked at before those of others.
	queriesPerTurn = 16
	// maxPending bounds what a container has at Docker's server; that one takes a hundred at a time, of all clients in a namespace.
	maxPending = 128
	// patience is how long an answer of Docker's server is waited for: it asks up to three others, for four seconds each.
	patience = 12 * time.Second
	// lookPace is the shortest time between two looks for the port of Docker's server.
	lookPace = time.Second
)

// pending is a query that is at Docker's server, under an ID of ours.
type pending struct {
	id   uint16 // the client's
	from unix.SockaddrInet4
	at   time.Time
	may  bool // a container may get that name: see unlasting
}

// fromDocker has a datagram leave with the address of Docker's server (IP_PKTINFO, ip(7)).
var fromDocker = unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: docker})

func (s *Server) readQueries(sb *sandbox) error {
	var oob [64]byte
	for range queriesPerTurn {
		n, oobn, flags, from, err := unix.Recvmsg(sb.queries, s.buffer[:maxQuery], oob[:], 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read a query: %w", err)
		}
		client, is4 := from.(*unix.SockaddrInet4)
		port, ours := sentTo(oob[:oobn])
		switch {
		case !is4 || !ours || !s.knowsPort(sb, port):
			s.count.add(countStray)
		case flags&unix.MSG_TRUNC != 0:
			s.count.add(countMalformed)
		default:
			s.query(sb, client, s.buffer[:n])
		}
	}
	return nil
}

// sentTo is the port that a datagram was sent to, at the address of Docker's server (IP_ORIGDSTADDR of linux/in.h).
func sentTo(oob []byte) (port uint16, ours bool) {
	const portAt, addrAt, size = 2, 4, 8 // of struct sockaddr_in
	header, data, _, err := unix.ParseOneSocketControlMessage(oob)
	if err != nil || header.Type != unix.IP_ORIGDSTADDR || len(data) < size {
		return 0, false
	}
	return binary.BigEndian.Uint16(data[portAt:]), [4]byte(data[addrAt:size]) == docker
}

// knowsPort sees to it that sb.server is at the port of Docker's server, to which a query was sent. An engine that restarts has another.
func (s *Server) knowsPort(sb *sandbox, port uint16) bool {
	if sb.server >= 0 && sb.port == port {
		return true
	}
	if time.Since(sb.looked) < lookPace {
		return false
	}
	sb.looked = time.Now()
	fd, err := serverSocket(sb.queries, port)
	if err != nil {
		s.log.WithError(err).WithField("sandbox", sb.path).Debug("a query to 127.0.0.11 is dropped")
		return false
	}
	if err := s.watch(sb, fd, socketServer); err != nil {
		unix.Close(fd)
		return false
	}
	if sb.server >= 0 {
		unix.Close(sb.server)
	}
	sb.server, sb.port, sb.pending = fd, port, nil
	return true
}

// serverSocket opens a socket at a port, in the namespace of another, if Docker's server has that port.
func serverSocket(other int, port uint16) (fd int, err error) {
	namespace, err := namespaceOf(other)
	if err != nil {
		return -1, err
	}
	defer unix.Close(namespace)
	err = within(namespace, func() (err error) {
		taken, err := isTaken(port)
		if err == nil && !taken {
			err = fmt.Errorf("nobody listens at 127.0.0.11:%d", port)
		}
		if err != nil {
			return err
		}
		fd, err = udpAt(port)
		return err
	})
	return fd, err
}

func (s *Server) query(sb *sandbox, client *unix.SockaddrInet4, query []byte) {
	answer, v, question := s.table.answer(query, sb.networks, false)
	switch v {
	case answered:
		s.reply(sb, client, answer, countAnswered)
	case empty:
		s.reply(sb, client, answer, countEmpty)
	case malformed:
		s.count.add(countMalformed)
	case forwarded:
		s.forward(sb, client, query, s.table.may(sb.networks, strings.TrimSuffix(question.Name, ".")))
	}
}

func (s *Server) reply(sb *sandbox, client *unix.SockaddrInet4, answer []byte, as counter) {
	if _, err := unix.SendmsgN(sb.server, answer, fromDocker, client, unix.MSG_DONTWAIT); err != nil {
		as = countUnsent
	}
	s.count.add(as)
}

// forward sends a query to Docker's server, as it is but for its ID.
func (s *Server) forward(sb *sandbox, client *unix.SockaddrInet4, query []byte, may bool) {
	if len(sb.pending) >= maxPending {
		for id, p := range sb.pending {
			if time.Since(p.at) > patience {
				delete(sb.pending, id)
			}
		}
		if len(sb.pending) >= maxPending {
			s.count.add(countBusy)
			return
		}
	}
	id := uint16(rand.Uint32())
	for _, taken := sb.pending[id]; taken; _, taken = sb.pending[id] {
		id++
	}
	p := pending{binary.BigEndian.Uint16(query), *client, time.Now(), may}
	binary.BigEndian.PutUint16(query, id)
	if err := unix.Sendto(sb.server, query, unix.MSG_DONTWAIT, &unix.SockaddrInet4{Port: int(sb.port), Addr: docker}); err != nil {
		s.count.add(countUnsent)
		return
	}
	if sb.pending == nil {
		sb.pending = map[uint16]pending{}
	}
	sb.pending[id] = p
	s.count.add(countForwarded)
}

// readAnswers passes on what Docker's server answers.
func (s *Server) readAnswers(sb *sandbox) error {
	for range queriesPerTurn {
		n, from, err := unix.Recvfrom(sb.server, s.buffer, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read an answer of Docker's server: %w", err)
		}
		answer := s.buffer[:n]
		server, is4 := from.(*unix.SockaddrInet4)
		if !is4 || server.Addr != docker || server.Port != int(sb.port) || n < headerLen {
			s.count.add(countUnasked)
			continue
		}
		id := binary.BigEndian.Uint16(answer)
		p, asked := sb.pending[id]
		if !asked {
			s.count.add(countUnasked)
			continue
		}
		delete(sb.pending, id)
		binary.BigEndian.PutUint16(answer, p.id)
		if p.may {
			answer = unlasting(answer)
		}
		s.reply(sb, &p.from, answer, countReturned)
	}
	return nil
}
