package datapath

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"github.com/overlane/overlane/datapath/dp"
	"github.com/overlane/overlane/datapath/memif"
)

// nativePace goes before each look for the socket of a container's program. DPDK's net_virtio_user deals with the end of a connection
// several times over, for some milliseconds, and takes a new one for the old one meanwhile.
const (
	nativePace    = 100 * time.Millisecond
	nativePaceMax = time.Second // where nobody was there for a while
)

// nativePatience is for how long a program may refuse connections before that is told: net_memif does between the moments when its program
// has made the socket and started the interface.
const nativePatience = 5 * time.Second

// nativeKind is what the kinds of native port do their own way.
type nativeKind struct {
	rings  dp.Rings
	socket string // its name in the directory
	typ    int    // of socket
	// serve speaks with a program until it goes, which is no error, or says what can't be.
	serve func(conn *net.UnixConn, p *nativePort) error
}

var nativeKinds = map[string]nativeKind{
	KindVhost: {dp.VhostRings, "vhost.sock", unix.SOCK_STREAM, serveVhost},
	KindMemif: {dp.MemifRings, "memif.sock", unix.SOCK_SEQPACKET, serveMemif},
}

// nativePort is a port's side of the connection with its container's program.
type nativePort struct {
	nativeKind
	id     uint32
	name   string // of the kind
	dir    *os.File
	log    logrus.FieldLogger
	cancel context.CancelFunc
	done   sync.WaitGroup

	bell *os.File       // eventfd(2) of the workers
	seen time.Time      // when a program was there, or the port was made
	tell rate.Sometimes // what a program that comes and goes without end has in the log

	mu      sync.Mutex
	running bool         // the rings are in use
	call    int          // the program's eventfd then; -1: none
	hangUp  func() error // has it ended; nil: there is none
	ringing int          // a duplicate of call that ring writes to; -1: none

	silent chan struct{} // closed when ring has ended
}

// newNativePort looks for the program of a port's container from then on.
func newNativePort(id uint32, kind string, dir *os.File, log logrus.FieldLogger) (*nativePort, error) {
	bell, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &nativePort{nativeKind: nativeKinds[kind], id: id, name: kind, dir: dir, log: log, cancel: cancel, bell: os.NewFile(uintptr(bell), "bell"), seen: time.Now(), call: -1, ringing: -1, silent: make(chan struct{}), tell: rate.Sometimes{First: 20, Interval: 10 * time.Second}}
	p.done.Go(func() { p.run(ctx) })
	go p.ring()
	return p, nil
}

// stop returns when nothing of the program's is touched any more.
func (p *nativePort) stop() {
	p.cancel()
	p.done.Wait()
	p.bell.Close()
	for {
		select {
		case <-p.silent:
			p.dir.Close()
			return
		case <-time.After(time.Millisecond):
			p.unblock()
		}
	}
}

// unblock empties the eventfd that ring waits for, if it does.
func (p *nativePort) unblock() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ringing >= 0 {
		unix.SetNonblock(p.ringing, true)
		unix.Read(p.ringing, make([]byte, 8))
	}
}

// ring wakes the program up when the workers say so. They leave it to this thread, since whoever writes to an eventfd that is shared may be
// made to wait: by one that fills it up, and takes O_NONBLOCK off again. Only its own container's wake-ups wait then.
func (p *nativePort) ring() {
	defer close(p.silent)
	for count := make([]byte, 8); ; {
		if _, err := p.bell.Read(count); err != nil {
			return
		}
		p.mu.Lock()
		if fault := p.fault(); fault != "" && p.hangUp != nil {
			p.tell.Do(func() {
				p.log.WithField("fault", fault).Errorf("a %s program is cut off until it connects anew", p.name)
			})
			p.hangUp()
		}
		call, err := unix.FcntlInt(uintptr(p.call), unix.F_DUPFD_CLOEXEC, 0)
		if err == nil {
			p.ringing = call
		}
		p.mu.Unlock()
		if err != nil {
			continue // it polls
		}
		unix.SetNonblock(call, true)
		unix.Write(call, native.AppendUint64(nil, 1))
		p.mu.Lock()
		p.ringing = -1
		p.mu.Unlock()
		unix.Close(call)
	}
}

func (p *nativePort) fault() string {
	if !p.running {
		return ""
	}
	return dp.SharedFault(p.id)
}

var native = binary.NativeEndian

// run connects to the program whenever there is one.
func (p *nativePort) run(ctx context.Context) {
	told, pace, refused := "", nativePace, time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pace):
		}
		err := p.connect(ctx)
		absent := errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED)
		pace = nativePace
		if absent {
			pace = min(nativePaceMax, time.Since(p.seen)/10+nativePace)
		} else {
			p.seen = time.Now()
		}
		if !errors.Is(err, memif.ErrRefused) {
			refused = time.Time{}
		} else if refused.IsZero() {
			refused = time.Now()
		}
		text := ""
		if err != nil && !absent && (refused.IsZero() || time.Since(refused) > nativePatience) {
			text = err.Error()
		}
		if text != "" && text != told {
			p.tell.Do(func() { p.log.WithField("error", text).Errorf("%s does not work in this container", p.name) })
		}
		told = text
	}
}

// connect speaks with the program until it goes, or the context ends.
func (p *nativePort) connect(ctx context.Context) error {
	conn, err := p.dial(p.dir)
	if err != nil {
		return err
	}
	defer conn.Close()
	hangUp := func() error { return conn.SetDeadline(time.Unix(1, 0)) }
	defer context.AfterFunc(ctx, func() { hangUp() })()
	p.setHangUp(hangUp)
	err = p.serve(conn, p)
	p.setHangUp(nil)
	if err == nil {
		p.tell.Do(func() { p.log.Infof("the %s program is gone", p.name) })
	}
	return err
}

func (p *nativePort) tellConnected() {
	p.tell.Do(func() { p.log.Infof("a %s program is connected", p.name) })
}

func (p *nativePort) setHangUp(hangUp func() error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hangUp = hangUp
}

// start has rings used, by a function that does so with the workers' eventfd. Call is the program's, open until stopRings; -1: none.
func (p *nativePort) start(call int, rings func(bell int) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	bell, err := p.bell.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = bell.Control(func(fd uintptr) { failed = rings(int(fd)) })
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	p.call, p.running = call, true
	return nil
}

// Stop implements vhostuser.Port and memif.Port.
func (p *nativePort) Stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	dp.StopShared(p.id)
	p.call, p.running = -1, false
}

func (p *nativePort) isRunning() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running
}

// openNativePort waits for the program of a port's container.
func (d *Datapath) openNativePort(c PortConfig) (PortID, *port, error) {
	for _, p := range d.ports {
		if p.native != nil && p.config.Native.Name == c.Native.Name {
			return 0, nil, fmt.Errorf("socket directory %s is port %s's: remove its container, or choose another; that of a container which ended with its engine is free again within a minute", c.Native.Name, p.config.Name)
		}
	}
	dir, err := openNativeDir(d.nativeDir, c.Native)
	if err != nil {
		return 0, nil, err
	}
	id, err := dp.AddPort(c.port(nil))
	if err != nil {
		dir.Close()
		return 0, nil, err
	}
	log := d.log.WithFields(logrus.Fields{"port": c.Name, "socket": c.Native.Name})
	if c.Netns == "" {
		if err := nativeKinds[c.Native.Kind].clear(dir); err != nil {
			log.WithError(err).Warn("a socket that nobody listens on stays")
		}
	}
	n, err := newNativePort(id, c.Native.Kind, dir, log)
	if err != nil {
		dir.Close()
		dp.DelPort(id)
		return 0, nil, err
	}
	return PortID(id), &port{native: n}, nil
}
