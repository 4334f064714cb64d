package memif

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// kind is that of a message.
type kind uint16

const (
	ack kind = iota + 1
	hello
	initialise
	addRegion
	addRing
	connect
	connected
	disconnect
)

func (k kind) String() string {
	names := [...]string{"none", "ACK", "HELLO", "INIT", "ADD_REGION", "ADD_RING", "CONNECT", "CONNECTED", "DISCONNECT"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("message %d", uint16(k))
}

const (
	messageLen = 128 // of every message, whatever its kind
	nameLen    = 32
	secretLen  = 24
	reasonLen  = 96

	version = 2 << 8 // 2.0

	ringToServer = 1 // a flag of ADD_RING
)

var native = binary.NativeEndian

// receive reads the next message. Files that come with it are not taken: no message of a server has one.
func receive(conn *net.UnixConn) (k kind, body []byte, err error) {
	m := make([]byte, messageLen+1)
	n, err := conn.Read(m)
	if err != nil {
		return 0, nil, err
	}
	switch {
	case n > messageLen:
		return 0, nil, fmt.Errorf("a message of more than %d bytes", messageLen)
	case n < messageLen:
		return 0, nil, fmt.Errorf("a message of %d bytes: want %d", n, messageLen)
	}
	return kind(native.Uint16(m)), m[2:messageLen], nil
}

// send sends a message with a file; none: without.
func send(conn *net.UnixConn, k kind, body []byte, file int) error {
	m := append(native.AppendUint16(nil, uint16(k)), body...)
	m = append(m, make([]byte, messageLen-len(m))...)
	var rights []byte
	if file != none {
		rights = unix.UnixRights(file)
	}
	_, _, err := conn.WriteMsgUnix(m, rights, nil)
	return err
}

// none is no file.
const none = -1

// expect reads the next message, which is to be of a kind.
func expect(conn *net.UnixConn, want kind) (body []byte, err error) {
	k, body, err := receive(conn)
	switch {
	case err != nil:
		return nil, err
	case k == disconnect:
		return nil, fmt.Errorf("%w: %q", ErrRefused, text(body[4:4+reasonLen]))
	case k != want:
		return nil, fmt.Errorf("%v where %v is due", k, want)
	}
	return body, nil
}

// ErrRefused is a server's own word: as a rule that its interface is not started yet.
var ErrRefused = errors.New("the program refuses the connection")

// text is what is before the first zero.
func text(field []byte) []byte {
	before, _, _ := bytes.Cut(field, []byte{0})
	return before
}

// fixed is a text, cut off if need be, in a field with a zero at its end.
func fixed(s string, length int) []byte {
	field := make([]byte, length)
	copy(field[:length-1], s)
	return field
}

// greeting is what a server says of itself that matters.
type greeting struct {
	log2 uint // of the largest ring
}

func parseHello(body []byte) (greeting, error) {
	body = body[nameLen:]
	lowest, highest, log2 := native.Uint16(body), native.Uint16(body[2:]), uint(body[10])
	if lowest > version || highest < version {
		return greeting{}, fmt.Errorf("the program speaks memif %d.%d to %d.%d: want 2.0", lowest>>8, lowest&0xff, highest>>8, highest&0xff)
	}
	return greeting{log2}, nil
}

func initBody() []byte {
	b := native.AppendUint16(nil, version)
	b = native.AppendUint32(b, 0) // id of the interface
	b = append(b, 0)              // Ethernet
	b = append(b, make([]byte, secretLen)...)
	return append(b, fixed("overlane", nameLen)...)
}

func regionBody(length uint64) []byte {
	return native.AppendUint64(native.AppendUint16(nil, 0), length)
}

func ringBody(flags uint16, offset uint32, log2 uint) []byte {
	b := native.AppendUint16(nil, flags)
	b = native.AppendUint16(b, 0) // number of the ring
	b = native.AppendUint16(b, 0) // region that it is in
	b = native.AppendUint32(b, offset)
	b = append(b, byte(log2))
	return native.AppendUint16(b, 0) // bytes of a header of its own
}

func disconnectBody(why string) []byte {
	return append(native.AppendUint32(nil, 0), fixed(why, reasonLen)...)
}

var errNotMade = errors.New("the program has ended the connection before it was made: is its interface started, with id=0 and no secret?")
