// Package vhostuser is the back-end's side of the vhost-user protocol (QEMU's docs/interop/vhost-user.rst), for one pair of rings: a
// container's program, the front-end, says where in its memory the rings of its virtio-net device lie. What it says is checked here;
// what it then writes there, by the pipeline.
package vhostuser

import (
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"github.com/overlane/overlane/datapath/dp"
)

// Regions is how many pieces of memory a front-end may share.
const Regions = dp.VhostRegions

// Bits of the features, beside those of virtio-net, and of the protocol's own features.
const (
	featureProtocol  = 1 << 30
	protocolReplyAck = 1 << 3
)

// Rings of the one pair: the front-end receives by the first.
const (
	ringTo = iota
	ringFrom
	ringCount
)

// maxRing is a split virtqueue's largest (virtio 1.2 section 2.7).
const maxRing = 32768

// Each change of rings that are in use has the workers let go of them first. A start takes twenty messages.
const (
	messageBurst = 256
	messagePause = time.Millisecond
	longestPause = 10 * time.Millisecond // whoever takes the port away waits for it
)

// Port is where the rings go.
type Port interface {
	// Start has them used from then on, until Stop returns, and sets v.Bell. Call is the eventfd by which the front-end is woken up,
	// open until then; -1: it never is.
	Start(v dp.Vhost, call int) error
	Stop()
}

type region struct {
	guest, length, user, offset uint64 // as the front-end has them; offset is that in its file
	at                          uint64 // where the file is mapped
}

type ring struct {
	size             uint32
	desc, avail, use uint64 // addresses of the front-end's own
	kick, call       int    // eventfds, or none
	enabled          bool
}

type session struct {
	conn     *net.UnixConn
	port     Port
	features uint64
	protocol uint64
	memory   []region
	rings    [ringCount]ring
	running  bool
}

// Serve speaks with a front-end until it goes or the connection's deadline is over, which are no errors, or says what can't be; then the
// connection is to be closed.
func Serve(conn *net.UnixConn, port Port) error {
	s := &session{conn: conn, port: port, rings: [ringCount]ring{{kick: none, call: none}, {kick: none, call: none}}}
	defer s.end()
	pace := rate.NewLimiter(rate.Every(messagePause), messageBurst)
	for {
		m, err := receive(conn)
		if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, unix.ECONNRESET) {
			return nil
		}
		if err == nil {
			time.Sleep(min(pace.Reserve().Delay(), longestPause))
			err = s.handle(&m)
			m.close()
		}
		if err != nil {
			return err
		}
	}
}

func (s *session) end() {
	s.stop()
	s.unmap()
	for i := range s.rings {
		setFile(&s.rings[i].kick, none)
		setFile(&s.rings[i].call, none)
	}
}

// handle does what a message asks for, and answers it.
func (s *session) handle(m *message) error {
	answer, err := s.do(m)
	if err != nil {
		err = fmt.Errorf("request %d: %w", m.request, err)
	}
	if answer == nil && m.flags&needsReply != 0 && s.protocol&protocolReplyAck != 0 {
		failed := uint64(0)
		if err != nil {
			failed = 1
		}
		answer = native.AppendUint64(nil, failed)
	}
	if answer != nil {
		err = errors.Join(err, m.reply(s.conn, answer))
	}
	if err == nil {
		err = s.start()
	}
	return err
}

// do does what a message asks for. Rings that it changes are not in use meanwhile.
func (s *session) do(m *message) (answer []byte, err error) {
	switch m.request {
	case getFeatures:
		return native.AppendUint64(nil, dp.VhostFeatures|featureProtocol), nil
	case getProtocolFeatures:
		return native.AppendUint64(nil, protocolReplyAck), nil
	case getQueueNum:
		return native.AppendUint64(nil, 1), nil
	case setProtocolFeatures:
		s.protocol, err = m.number()
	case setOwner, setVringErr, setVringBase: // a ring goes on where its memory says that it is
	case resetOwner:
		s.stop()
		for i := range s.rings {
			s.rings[i].enabled = false
		}
	case setFeatures:
		err = s.setFeatures(m)
	case setMemTable:
		err = s.setMemory(m)
	case setVringNum, setVringAddr, setVringEnable, getVringBase, setVringKick, setVringCall:
		return s.changeRing(m)
	default:
		err = errors.New("not known, and not offered")
	}
	return nil, err
}

func (s *session) setFeatures(m *message) error {
	features, err := m.number()
	if err != nil {
		return err
	}
	if unknown := features &^ (dp.VhostFeatures | featureProtocol); unknown != 0 {
		return fmt.Errorf("features %#x, which were not offered", unknown)
	}
	s.stop()
	s.features = features
	return nil
}

// changeRing does what is about one ring.
func (s *session) changeRing(m *message) (answer []byte, err error) {
	index, value, err := m.state()
	if err != nil {
		return nil, err
	}
	if m.request == setVringKick || m.request == setVringCall {
		index &= 0xff // bit 8 says that there is no file
	}
	if index >= ringCount {
		return nil, fmt.Errorf("ring %d: there are %d, a pair; start the program with one queue", index, ringCount)
	}
	s.stop()
	r := &s.rings[index]
	switch m.request {
	case setVringNum:
		if value == 0 || value > maxRing || bits.OnesCount32(value) != 1 {
			return nil, fmt.Errorf("ring of %d: want a power of two up to %d", value, maxRing)
		}
		r.size = value
	case setVringAddr:
		return nil, r.setAddresses(m.payload)
	case setVringEnable:
		r.enabled = value != 0
	case getVringBase:
		answer = native.AppendUint32(native.AppendUint32(nil, index), uint32(s.usedIndex(r)))
		r.enabled = false
		setFile(&r.kick, none)
	case setVringKick:
		return nil, s.setKick(r, m)
	case setVringCall:
		return nil, setEventFile(&r.call, m)
	}
	return answer, nil
}

// setKick is what starts a ring, too, where the protocol's own features are not spoken.
func (s *session) setKick(r *ring, m *message) error {
	if err := setEventFile(&r.kick, m); err != nil {
		return err
	}
	if r.kick == none && r == &s.rings[ringFrom] {
		return errors.New("a ring that is to be polled: want a kick file, as workers sleep when there is nothing to do")
	}
	if s.features&featureProtocol == 0 {
		r.enabled = true
	}
	return nil
}

func setFile(at *int, fd int) {
	if *at != none {
		unix.Close(*at)
	}
	*at = fd
}

// setEventFile takes an eventfd, or none.
func setEventFile(at *int, m *message) error {
	if m.payload[1]&1 != 0 { // bit 8: VHOST_USER_VRING_NOFD_MASK
		setFile(at, none)
		return nil
	}
	fd, err := m.file()
	if err != nil {
		return err
	}
	// What else can be read or written may block, or belong to somebody else.
	if kind, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); kind != "anon_inode:[eventfd]" {
		unix.Close(fd)
		return fmt.Errorf("file %s: want an eventfd", kind)
	}
	setFile(at, fd)
	return nil
}

func (r *ring) setAddresses(payload []byte) error {
	if len(payload) < 40 {
		return errShort
	}
	r.desc, r.use, r.avail = native.Uint64(payload[8:]), native.Uint64(payload[16:]), native.Uint64(payload[24:])
	return nil
}

// start has the rings used, once they are whole.
func (s *session) start() error {
	to, from := &s.rings[ringTo], &s.rings[ringFrom]
	if s.running || len(s.memory) == 0 || !to.ready() || !from.ready() || from.kick == none {
		return nil
	}
	v := dp.Vhost{Features: s.features, Kick: from.kick}
	for _, r := range s.memory {
		v.Regions = append(v.Regions, dp.VhostRegion{Guest: r.guest, Len: r.length, Host: r.at + r.offset})
	}
	var err error
	if v.To, err = s.locate(to); err != nil {
		return err
	}
	if v.From, err = s.locate(from); err != nil {
		return err
	}
	if err := s.port.Start(v, to.call); err != nil {
		return err
	}
	s.running = true
	return nil
}

func (s *session) stop() {
	if s.running {
		s.port.Stop()
		s.running = false
	}
}

func (r *ring) ready() bool { return r.enabled && r.size != 0 && r.desc != 0 }
