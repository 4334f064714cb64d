package names

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"syscall"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// Server answers for all containers. One goroutine does it: a container with nothing to ask costs the kernel some sockets, and this
// process nothing. Each has its turn, of queriesPerTurn at most.
type Server struct {
	table *Table
	log   logrus.FieldLogger
	count counters

	epoll   *os.File
	ready   syscall.RawConn // of epoll
	conns   chan struct{}   // a place for each TCP connection
	running sync.WaitGroup

	opening sync.Mutex // held while sandboxes are opened or closed
	mu      sync.RWMutex
	last    int32
	byToken map[int32]*sandbox
	byPath  map[string]*sandbox
	failed  map[string]error // why a sandbox is not served

	buffer []byte // of the goroutine
}

// The sockets of a sandbox, as epoll tells them apart.
const (
	socketQueries int32 = iota // by UDP
	socketServer               // towards Docker's server
	socketTCP
)

// maxConns bounds the TCP connections of all containers.
const maxConns = 256

// NewServer answers from a table.
func NewServer(t *Table, log logrus.FieldLogger) (*Server, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	unix.SetNonblock(fd, true) // so that Go's runtime waits for it, and no thread
	s := &Server{
		table: t, log: log, epoll: os.NewFile(uintptr(fd), "epoll"), conns: make(chan struct{}, maxConns),
		byToken: map[int32]*sandbox{}, byPath: map[string]*sandbox{}, failed: map[string]error{}, buffer: make([]byte, 1<<16),
	}
	if s.ready, err = s.epoll.SyscallConn(); err != nil {
		s.epoll.Close()
		return nil, fmt.Errorf("epoll: %w", err)
	}
	s.running.Go(s.run)
	return s, nil
}

// Serve answers a container's queries, also for a network. The sandbox is the path of its network namespace. What is so already stays.
func (s *Server) Serve(path, network string) error {
	s.opening.Lock()
	defer s.opening.Unlock()
	s.mu.RLock()
	sb := s.byPath[path]
	s.mu.RUnlock()
	if sb == nil {
		opened, err := openSandbox(path)
		if err == nil {
			opened.networks = []string{network} // before the first query is read
			sb, err = opened, s.add(opened)
		}
		s.noteFailure(path, err)
		if err != nil {
			return fmt.Errorf("names in %s: %w", path, err)
		}
	}
	sb.mu.Lock()
	defer sb.mu.Unlock()
	if !slices.Contains(sb.networks, network) {
		sb.networks = append(slices.Clip(sb.networks), network)
	}
	return nil
}

// noteFailure keeps why a sandbox is not served, for Status; nil: it is.
func (s *Server) noteFailure(path string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.failed, path)
	if err != nil {
		s.failed[path] = err
	}
}

func (s *Server) add(sb *sandbox) error {
	s.mu.Lock()
	s.last++
	sb.token = s.last
	s.byToken[sb.token], s.byPath[sb.path] = sb, sb
	s.mu.Unlock()
	err := errors.Join(s.watch(sb, sb.queries, socketQueries), s.watch(sb, sb.tcp, socketTCP))
	if err != nil {
		s.drop(sb)
	}
	return err
}

// watch has the goroutine look at a socket of a sandbox.
func (s *Server) watch(sb *sandbox, fd int, kind int32) error {
	var err error
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: sb.token, Pad: kind}
	if e := s.ready.Control(func(epoll uintptr) { err = unix.EpollCtl(int(epoll), unix.EPOLL_CTL_ADD, fd, &event) }); e != nil {
		return e
	}
	return err
}

// Release ends it for a network, and with the last of them for the container. It may be called again.
func (s *Server) Release(path, network string) {
	s.opening.Lock()
	defer s.opening.Unlock()
	s.mu.Lock()
	sb := s.byPath[path]
	delete(s.failed, path)
	s.mu.Unlock()
	if sb == nil {
		return
	}
	sb.mu.Lock()
	sb.networks = slices.DeleteFunc(slices.Clone(sb.networks), func(n string) bool { return n == network })
	last := len(sb.networks) == 0
	sb.mu.Unlock()
	if last {
		s.drop(sb)
	}
}

// drop closes a sandbox.
func (s *Server) drop(sb *sandbox) {
	s.mu.Lock()
	delete(s.byToken, sb.token)
	if s.byPath[sb.path] == sb {
		delete(s.byPath, sb.path)
	}
	s.mu.Unlock()
	sb.close()
}

// Close ends all of it.
func (s *Server) Close() error {
	err := s.epoll.Close()
	s.mu.RLock()
	all := slices.Collect(maps.Values(s.byToken))
	s.mu.RUnlock()
	for _, sb := range all {
		s.drop(sb)
	}
	s.running.Wait()
	return err
}

// run gives each sandbox that has something its turn, until the server is closed.
func (s *Server) run() {
	events := make([]unix.EpollEvent, 64)
	for {
		n := 0
		err := s.ready.Read(func(epoll uintptr) (done bool) {
			n, _ = unix.EpollWait(int(epoll), events, 0)
			return n > 0
		})
		if err != nil {
			return
		}
		for _, event := range events[:n] {
			s.turn(event)
		}
	}
}

func (s *Server) turn(event unix.EpollEvent) {
	s.mu.RLock()
	sb := s.byToken[event.Fd]
	s.mu.RUnlock()
	if sb == nil {
		return // closed meanwhile
	}
	if err := s.read(sb, event); err != nil {
		s.log.WithError(err).WithField("sandbox", sb.path).Info("a container's queries go to Docker's server alone for some seconds")
		s.drop(sb)
		s.noteFailure(sb.path, err)
	}
}

func (s *Server) read(sb *sandbox, event unix.EpollEvent) error {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	switch {
	case sb.closed:
		return nil
	case event.Events&unix.EPOLLIN == 0: // the container's root may end any socket of its namespace
		return errors.New("a socket was closed by the container")
	case event.Pad == socketQueries:
		return s.readQueries(sb)
	case event.Pad == socketServer:
		return s.readAnswers(sb)
	}
	return s.accept(sb)
}

// Status is how the server does.
type Status struct {
	Off        string            `json:"off"`        // why none is; empty: all are but the failed
	Containers int               `json:"containers"` // that are served
	Failed     map[string]string `json:"failed"`     // sandboxes that are not, and why
	Queries    map[string]uint64 `json:"queries"`    // by what became of them
}

// Status reads the counters, and lists what fails.
func (s *Server) Status() Status {
	s.mu.RLock()
	defer s.mu.RUnlock()
	status := Status{Containers: len(s.byPath), Failed: map[string]string{}, Queries: s.count.read()}
	for path, err := range s.failed {
		status.Failed[path] = err.Error()
	}
	return status
}

// Off stands in for a server where there can be none.
type Off struct{ Reason string }

func (Off) Serve(string, string) error { return nil }
func (Off) Release(string, string)     {}

// Status says why.
func (o Off) Status() Status { return Status{Off: o.Reason} }
