package names

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// within runs f in a container's network namespace, on a thread that ends if it can't come back.
func within(namespace int, f func() error) error {
	done := make(chan error, 1)
	go func() {
		done <- func() error {
			runtime.LockOSThread()
			own, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				runtime.UnlockOSThread()
				return fmt.Errorf("own namespace: %w", err)
			}
			defer unix.Close(own)
			if same(own, namespace) {
				runtime.UnlockOSThread()
				return errors.New("that is the host's own namespace, where nobody asks for containers")
			}
			if err := unix.Setns(namespace, unix.CLONE_NEWNET); err != nil {
				runtime.UnlockOSThread()
				return entering(err)
			}
			result := f()
			if err := unix.Setns(own, unix.CLONE_NEWNET); err == nil {
				runtime.UnlockOSThread()
			}
			return result
		}()
	}()
	return <-done
}

// entering says why a namespace is not entered. Docker mounts it on a file, which is an empty one to who does not see the mount.
func entering(err error) error {
	if errors.Is(err, unix.EINVAL) {
		return errors.New("the file of the container's namespace is an empty one to overlane, which does not see what Docker mounts:" +
			" start overlane in the host's mount namespace, or in one that is its slave (MountFlags=slave of systemd)")
	}
	return fmt.Errorf("enter namespace: %w", err)
}

func same(a, b int) bool {
	var first, second unix.Stat_t
	return unix.Fstat(a, &first) == nil && unix.Fstat(b, &second) == nil && first.Dev == second.Dev && first.Ino == second.Ino
}

// ephemeral are the ports of which the kernel gives one to who wants any, in the namespace of this thread. Docker's server may have got
// its own before `docker run --sysctl` changed them: those that Linux begins with are among them.
func ephemeral() (first, last uint16, err error) {
	const initialFirst, initialLast = 32768, 60999
	const path = "/proc/sys/net/ipv4/ip_local_port_range"
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, err
	}
	if _, err := fmt.Sscan(string(text), &first, &last); err != nil {
		return 0, 0, fmt.Errorf("%s: %w", path, err)
	}
	return min(first, initialFirst), max(last, initialLast), nil
}

// isTaken says whether a UDP socket has a port at the address of Docker's server, in the namespace of this thread.
func isTaken(port uint16) (bool, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)
	err = unix.Bind(fd, &unix.SockaddrInet4{Port: int(port), Addr: docker})
	if errors.Is(err, unix.EADDRINUSE) {
		return true, nil
	}
	return false, err
}

// udpAt opens a UDP socket at our address. Port 0 is any.
func udpAt(port uint16) (fd int, err error) {
	return open(unix.SOCK_DGRAM, port)
}

func open(kind int, port uint16) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	// A container whose lo is not up yet has the address later.
	err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_FREEBIND, 1)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Port: int(port), Addr: own})
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("bind to 127.0.0.12:%s: %w", strconv.Itoa(int(port)), err)
	}
	return fd, nil
}
