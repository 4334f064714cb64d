package names

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// sandbox is a container's network namespace, in which we answer. Its sockets keep the namespace, until they are closed.
type sandbox struct {
	path    string
	token   int32
	queries int // socket at a port of its own, to which all queries by UDP are steered
	tcp     int // likewise
	steered link.Link

	mu       sync.Mutex
	closed   bool
	networks []string // by key, in the order of joining
	// server is a socket at the port of Docker's server: answers leave from there, so that conntrack knows them, and queries for that one.
	server  int // -1: none was asked yet
	port    uint16
	looked  time.Time // for the port
	pending map[uint16]pending
	conns   int

	ctx    context.Context // until it is closed
	cancel context.CancelFunc
}

func openSandbox(path string) (_ *sandbox, err error) {
	namespace, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("namespace %s: %w", path, err)
	}
	defer unix.Close(namespace)
	sb := &sandbox{path: path, queries: -1, tcp: -1, server: -1}
	sb.ctx, sb.cancel = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			sb.close()
		}
	}()
	var first, last uint16
	err = within(namespace, func() (err error) {
		if first, last, err = ephemeral(); err != nil {
			return err
		}
		if sb.queries, err = udpAt(0); err != nil {
			return err
		}
		if err = unix.SetsockoptInt(sb.queries, unix.IPPROTO_IP, unix.IP_RECVORIGDSTADDR, 1); err != nil {
			return err
		}
		if sb.tcp, err = open(unix.SOCK_STREAM, 0); err != nil {
			return err
		}
		return unix.Listen(sb.tcp, connsPerSandbox)
	})
	if err != nil {
		return nil, err
	}
	moreMemory()
	sb.steered, err = steer(namespace, sb.queries, sb.tcp, first, last)
	return sb, err
}

// close may be called again.
func (sb *sandbox) close() {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	if sb.closed {
		return
	}
	sb.closed = true
	if sb.steered != nil {
		sb.steered.Close() // first, so that no query comes to a socket that is closed
	}
	for _, fd := range []int{sb.queries, sb.tcp, sb.server} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	sb.cancel()
}

// namespaceOf gives a file of the network namespace in which a socket is (SIOCGSKNS of linux/sockios.h).
func namespaceOf(socket int) (int, error) {
	fd, err := unix.IoctlRetInt(socket, unix.SIOCGSKNS)
	if err != nil {
		return -1, fmt.Errorf("namespace of a socket: %w", err)
	}
	return fd, nil
}

// Before Linux 5.11 what BPF has counts as locked memory, of which there is little.
var moreMemory = sync.OnceFunc(func() { rlimit.RemoveMemlock() }) // without the right to it, the limit is there already

// Try does all that is needed of the kernel for a container, in a namespace made for that. The error says what it lacks.
func Try() error {
	done := make(chan error, 1)
	go func() {
		done <- func() error {
			runtime.LockOSThread()
			own, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return fmt.Errorf("own namespace: %w", err)
			}
			defer unix.Close(own)
			// It may be the main thread, which never ends, and is what others see of this process.
			defer func() {
				if unix.Setns(own, unix.CLONE_NEWNET) == nil {
					runtime.UnlockOSThread()
				}
			}()
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("make a network namespace: %w", err)
			}
			path := fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())
			ready := make(chan error, 1)
			go func() {
				sb, err := openSandbox(path)
				if err == nil {
					sb.close()
				}
				ready <- err
			}()
			return <-ready
		}()
	}()
	return <-done
}
