package hostnet

import (
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Sandbox is a network namespace: a container's, or one of this process alone in which an endpoint is used as in a container. That has no
// name: a thread and the sockets in it keep it, so that nothing is left of it when the process ends, however that ends.
type Sandbox struct {
	path string
	file int           // of the namespace
	end  chan struct{} // closed to let the thread go
}

// NewSandbox makes one, with lo up.
func NewSandbox() (*Sandbox, error) {
	s := &Sandbox{file: -1, end: make(chan struct{})}
	made := make(chan error, 1)
	onThread(func() {
		err := s.make()
		made <- err
		if err == nil {
			<-s.end
		}
	})
	if err := <-made; err != nil {
		return nil, err
	}
	return s, nil
}

// OpenSandbox is a container's, at a path. It stays the container's.
func OpenSandbox(path string) (*Sandbox, error) {
	file, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("network namespace %s: %w", path, err)
	}
	return &Sandbox{path: path, file: file, end: make(chan struct{})}, nil
}

// make moves its thread into the namespace.
func (s *Sandbox) make() (err error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make a network namespace: %w", err)
	}
	s.path = fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("set lo up in a network namespace: %w", err)
	}
	if s.file, err = unix.Open(s.path, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("network namespace %s: %w", s.path, err)
	}
	return nil
}

// Path is that of the namespace, until it is closed.
func (s *Sandbox) Path() string { return s.path }

// Do runs f in the namespace: sockets that it opens are there for good.
func (s *Sandbox) Do(f func() error) error {
	done := make(chan error, 1)
	onThread(func() {
		if err := unix.Setns(s.file, unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter network namespace %s: %w", s.path, err)
			return
		}
		done <- f()
	})
	return <-done
}

// HasIPv6 says whether an interface in it can have addresses of IPv6.
func (s *Sandbox) HasIPv6() bool {
	has := false
	s.Do(func() error { has = new(Host).HasIPv6(); return nil })
	return has
}

// Move takes an interface of the daemon's namespace into this one, gives it its addresses there and sets it up.
func (s *Sandbox) Move(i Interface) error {
	link, err := find(i)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetNsFd(link, s.file); err != nil {
		return fmt.Errorf("move %s into network namespace %s: %w", i.Name, s.path, err)
	}
	return s.Do(func() error { return new(Host).SetUp(i) })
}

// Close lets the namespace go. Its interfaces go with the last socket in it.
func (s *Sandbox) Close() {
	close(s.end)
	unix.Close(s.file)
}

// onThread runs f on a thread that ends with it. The main thread never ends, and is what others see of this process: it is left as it is.
func onThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f()
			return
		}
		began := make(chan struct{})
		onThread(func() { close(began); f() })
		<-began
		runtime.UnlockOSThread()
	}()
}
