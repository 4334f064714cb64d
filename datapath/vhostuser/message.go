package vhostuser

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/sys/unix"
)

// request is the kind of a message.
type request uint32

// The requests of a frontend that mean something here; the others are refused.
const (
	getFeatures         request = 1
	setFeatures         request = 2
	setOwner            request = 3
	resetOwner          request = 4
	setMemTable         request = 5
	setVringNum         request = 8
	setVringAddr        request = 9
	setVringBase        request = 10
	getVringBase        request = 11
	setVringKick        request = 12
	setVringCall        request = 13
	setVringErr         request = 14
	getProtocolFeatures request = 15
	setProtocolFeatures request = 16
	getQueueNum         request = 17
	setVringEnable      request = 18
)

// Flags of a message.
const (
	version     = 1
	versionMask = 3
	isReply     = 1 << 2
	needsReply  = 1 << 3
)

const (
	headerLen = 12
	// The longest message is a table of memory: 8 bytes, and 32 for each region.
	maxPayload = 8 + 32*Regions
)

// message is one of a frontend's.
type message struct {
	request request
	flags   uint32
	payload []byte
	files   []int // those that were not taken are closed behind the message
}

var native = binary.NativeEndian

// receive reads the next message.
func receive(conn *net.UnixConn) (m message, err error) {
	header, control := make([]byte, headerLen), make([]byte, unix.CmsgSpace(Regions*4))
	n, oobn, flags, _, err := conn.ReadMsgUnix(header, control)
	m.files = filesOf(control[:oobn])
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err == nil {
		_, err = io.ReadFull(conn, header[n:])
	}
	m.request, m.flags = request(native.Uint32(header)), native.Uint32(header[4:])
	size := native.Uint32(header[8:])
	switch {
	case err != nil:
	case flags&unix.MSG_CTRUNC != 0:
		err = fmt.Errorf("request %d: more than %d files", m.request, Regions)
	case m.flags&versionMask != version:
		err = fmt.Errorf("request %d: flags %#x: want version %d of the protocol", m.request, m.flags, version)
	case size > maxPayload:
		err = fmt.Errorf("request %d: %d bytes: want at most %d", m.request, size, maxPayload)
	default:
		m.payload = make([]byte, size)
		_, err = io.ReadFull(conn, m.payload)
	}
	if err != nil {
		m.close()
	}
	return m, err
}

// filesOf are the files in control messages.
func filesOf(control []byte) (files []int) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil
	}
	for i := range messages {
		fds, _ := unix.ParseUnixRights(&messages[i])
		files = append(files, fds...)
	}
	return files
}

// file takes the only file of a message.
func (m *message) file() (int, error) {
	if len(m.files) != 1 {
		return none, fmt.Errorf("%d files: want one", len(m.files))
	}
	f := m.files[0]
	m.files = nil
	return f, nil
}

func (m *message) close() {
	for _, fd := range m.files {
		unix.Close(fd)
	}
	m.files = nil
}

// none is no file.
const none = -1

var errShort = errors.New("the message is cut short")

// number is a payload of 64 bits.
func (m *message) number() (uint64, error) {
	if len(m.payload) < 8 {
		return 0, errShort
	}
	return native.Uint64(m.payload), nil
}

// state is a payload of two numbers: of a ring, and something about it.
func (m *message) state() (ring, value uint32, err error) {
	if len(m.payload) < 8 {
		return 0, 0, errShort
	}
	return native.Uint32(m.payload), native.Uint32(m.payload[4:]), nil
}

// reply answers a message.
func (m *message) reply(conn *net.UnixConn, payload []byte) error {
	answer := make([]byte, headerLen, headerLen+len(payload))
	native.PutUint32(answer, uint32(m.request))
	native.PutUint32(answer[4:], version|isReply)
	native.PutUint32(answer[8:], uint32(len(payload)))
	_, err := conn.Write(append(answer, payload...))
	return err
}
