package datapath

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"github.com/overlane/overlane/datapath/dp"
	"github.com/overlane/overlane/datapath/vhostuser"
)

// vhostPace goes before each look for the socket of a container's program. DPDK's net_virtio_user deals with the end of a connection
// several times over, for some milliseconds, and takes a new one for the old one meanwhile.
const (
	vhostPace    = 100 * time.Millisecond
	vhostPaceMax = time.Second // where nobody was there for a while
)

// vhost is a port's side of vhost-user.
type vhost struct {
	id     uint32
	dir    *os.File
	log    logrus.FieldLogger
	cancel context.CancelFunc
	done   sync.WaitGroup

	bell *os.File       // eventfd(2) of the workers
	seen time.Time      // when a program was there, or the port was made
	tell rate.Sometimes // what a program that comes and goes without end has in the log

	mu      sync.Mutex
	running bool         // the program's rings are in use
	call    int          // its eventfd then; -1: none
	hangUp  func() error // ends the connection; nil: there is none
}

// newVhost looks for the program of a port's container from then on.
func newVhost(id uint32, dir *os.File, log logrus.FieldLogger) (*vhost, error) {
	bell, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	v := &vhost{id: id, dir: dir, log: log, cancel: cancel, bell: os.NewFile(uintptr(bell), "bell"), seen: time.Now(), call: -1, tell: rate.Sometimes{First: 20, Interval: 10 * time.Second}}
	v.done.Go(func() { v.run(ctx) })
	go v.ring()
	return v, nil
}

// stop returns when nothing of the program's is touched any more, but for its eventfd: see ring.
func (v *vhost) stop() {
	v.cancel()
	v.done.Wait()
	v.bell.Close()
	v.dir.Close()
}

// ring wakes the program up when the workers say so. They leave it to this thread, since whoever writes to another's eventfd may be
// made to wait: by one that fills it up, and takes O_NONBLOCK off again. Only its own container's wake-ups wait then.
func (v *vhost) ring() {
	for count := make([]byte, 8); ; {
		if _, err := v.bell.Read(count); err != nil {
			return
		}
		v.mu.Lock()
		if v.running && dp.VhostBroken(v.id) && v.hangUp != nil {
			v.tell.Do(func() {
				v.log.Error("a vhost-user program has written what no driver does into its rings, or taken its memory back: it is cut off until it connects anew")
			})
			v.hangUp()
		}
		call, err := unix.FcntlInt(uintptr(v.call), unix.F_DUPFD_CLOEXEC, 0)
		v.mu.Unlock()
		if err != nil {
			continue // it polls
		}
		unix.SetNonblock(call, true)
		unix.Write(call, native.AppendUint64(nil, 1))
		unix.Close(call)
	}
}

var native = binary.NativeEndian

// run connects to the program whenever there is one.
func (v *vhost) run(ctx context.Context) {
	told, pace := "", vhostPace
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pace):
		}
		err := v.serve(ctx)
		absent := errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED)
		pace = vhostPace
		if absent {
			pace = min(vhostPaceMax, time.Since(v.seen)/10+vhostPace)
		} else {
			v.seen = time.Now()
		}
		text := ""
		if err != nil && !absent {
			text = err.Error()
		}
		if text != "" && text != told {
			v.tell.Do(func() { v.log.WithField("error", text).Error("vhost-user does not work in this container") })
		}
		told = text
	}
}

// serve speaks with the program until it goes, or the context ends.
func (v *vhost) serve(ctx context.Context) error {
	conn, err := dialNative(v.dir)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	v.mu.Lock()
	v.hangUp = conn.Close
	v.mu.Unlock()
	v.tell.Do(func() { v.log.Info("a vhost-user program is connected") })
	err = vhostuser.Serve(conn, v)
	v.mu.Lock()
	v.hangUp = nil
	v.mu.Unlock()
	if err == nil {
		v.tell.Do(func() { v.log.Info("the vhost-user program is gone") })
	}
	return err
}

// Start implements vhostuser.Port.
func (v *vhost) Start(rings dp.Vhost, call int) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	bell, err := v.bell.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = bell.Control(func(fd uintptr) {
		rings.Bell = int(fd)
		failed = dp.StartVhost(v.id, rings)
	})
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	v.call, v.running = call, true
	return nil
}

// Stop implements vhostuser.Port.
func (v *vhost) Stop() {
	v.mu.Lock()
	defer v.mu.Unlock()
	dp.StopVhost(v.id)
	v.call, v.running = -1, false
}

func (v *vhost) isRunning() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.running
}
