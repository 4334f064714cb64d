package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// listen serves a unix socket that only root may use. A socket that a killed daemon left behind is taken over; one on
// which somebody answers is not. Closing the listener removes the socket.
func listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// How long a daemon that was killed may take to be gone: the kernel frees its memory before it closes its sockets.
// Tests beside a daemon that lives make it shorter.
var killTimeout = 3 * time.Second

// removeStale removes a socket on which nobody answers, and nothing else.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("%s: is not a socket: remove what is there, or choose another path", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil && waitHangup(conn) {
		conn, err = net.DialTimeout("unix", path, time.Second)
	}
	switch {
	case err == nil:
		conn.Close()
		return fmt.Errorf("%s: another daemon answers on it: stop that one, or choose another path", path)
	case errors.Is(err, os.ErrNotExist):
		return nil
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	}
	return fmt.Errorf("%s: %w: remove what is there, or choose another path", path, err)
}

// waitHangup waits for the other side to end: a daemon that lives waits for a request.
func waitHangup(conn net.Conn) bool {
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(killTimeout))
	_, err := conn.Read(make([]byte, 1))
	return !errors.Is(err, os.ErrDeadlineExceeded)
}
