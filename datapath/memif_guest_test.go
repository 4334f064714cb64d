package datapath_test

import (
	"bytes"
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/overlane/overlane/datapath"
)

// Messages of memif, and what its rings and descriptors have where.
const (
	memifAck = iota + 1
	memifHello
	memifInit
	memifAddRegion
	memifAddRing
	memifConnect
	memifConnected
	memifDisconnect

	memifVersion     = 0x200
	memifMaskInt     = 1
	memifNext        = 1
	memifHeadAt      = 4 // beside the flags
	memifTailAt      = 64
	memifDescAt      = 128
	memifBufferBytes = 2048
)

// memifRing is a ring as a server has it.
type memifRing struct {
	at   int
	size int
	fd   int
	next uint16 // slot that the server reads or fills
}

// memifGuest is a container's program that speaks memif: a server.
type memifGuest struct {
	t        testing.TB
	id       datapath.PortID
	name     string
	listener *net.UnixListener
	conn     *net.UnixConn
	file     int
	mem      []byte
	read     memifRing
	fill     memifRing
	log2     byte // of the largest ring that it says it takes
	masked   bool // it polls
}

// memifPort makes a memif port on the network, and a program for it that is connected.
func memifPort(t testing.TB, name, mac string, addrs ...string) *memifGuest {
	t.Helper()
	g := memifAlone(t, name, mac, addrs...)
	g.connect()
	return g
}

// memifAlone does so for a program that listens and does no more.
func memifAlone(t testing.TB, name, mac string, addrs ...string) *memifGuest {
	t.Helper()
	g := &memifGuest{t: t, name: name, file: -1, log2: 14, masked: true}
	config := memifConfig(name, mac, addrs...)
	var err error
	onHost(func() { g.id, err = plane.AddPort(config) })
	must(t, err)
	t.Cleanup(func() { onHost(func() { err = plane.DelPort(g.id) }); must(t, err) })
	path := filepath.Join(nativeDir, name, "memif.sock")
	os.Remove(path)
	g.listener, err = net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	must(t, err)
	t.Cleanup(func() { g.listener.Close(); g.leave() })
	return g
}

func memifConfig(name, mac string, addrs ...string) datapath.PortConfig {
	return datapath.PortConfig{Name: name, Alias: testAlias + name, VNI: vni, MAC: parseMAC(mac), MTU: 1430, Addrs: prefixes(addrs), Native: &datapath.Native{Kind: datapath.KindMemif, Name: name}}
}

// leave has the connection and the memory gone.
func (g *memifGuest) leave() {
	if g.conn != nil {
		g.conn.Close()
	}
	if g.mem != nil {
		unix.Munmap(g.mem)
		for _, fd := range []int{g.file, g.read.fd, g.fill.fd} {
			unix.Close(fd)
		}
	}
	g.conn, g.mem = nil, nil
}

func (g *memifGuest) accept() {
	g.t.Helper()
	must(g.t, g.listener.SetDeadline(time.Now().Add(10*time.Second)))
	var err error
	g.conn, err = g.listener.AcceptUnix()
	must(g.t, err)
}

func (g *memifGuest) hello() {
	g.t.Helper()
	g.send(memifHello, make([]byte, 32), uint16(memifVersion), uint16(memifVersion), uint16(255), uint16(255), uint16(255), g.log2)
}

// connect waits for the datapath, and goes through the protocol with it.
func (g *memifGuest) connect() {
	g.t.Helper()
	g.accept()
	g.hello()
	g.want(memifInit)
	g.send(memifAck)
	body, file := g.want(memifAddRegion)
	length := binary.NativeEndian.Uint64(body[2:])
	g.file = file
	seals, err := unix.FcntlInt(uintptr(file), unix.F_GET_SEALS, 0)
	must(g.t, err)
	if want := unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL; seals != want {
		g.t.Errorf("seals %#x of the memory, want %#x", seals, want)
	}
	g.mem, err = unix.Mmap(file, 0, int(length), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(g.t, err)
	g.send(memifAck)
	for range 2 {
		body, file := g.want(memifAddRing)
		r := memifRing{at: int(binary.NativeEndian.Uint32(body[6:])), size: 1 << body[10], fd: file}
		if binary.NativeEndian.Uint16(body)&1 != 0 {
			g.read = r
		} else {
			g.fill = r
		}
		g.send(memifAck)
	}
	g.want(memifConnect)
	if cookie := *g.word(g.read.at); cookie != 0x3e31f20 {
		g.t.Errorf("cookie %#x", cookie)
	}
	if g.masked {
		g.setHigh(g.read.at+memifHeadAt, memifMaskInt, 0)
	}
	g.send(memifConnected, make([]byte, 32))
	waitFor(g.t, "the rings in use", g.running)
}

func (g *memifGuest) running() bool { return portStats(g.t, g.id).Connected }

func (g *memifGuest) send(kind uint16, fields ...any) {
	g.t.Helper()
	m := bytes.NewBuffer(binary.NativeEndian.AppendUint16(nil, kind))
	for _, f := range fields {
		must(g.t, binary.Write(m, binary.NativeEndian, f))
	}
	_, err := g.conn.Write(append(m.Bytes(), make([]byte, 128-m.Len())...))
	must(g.t, err)
}

// want reads the next message, which is to be of a kind, and the file that comes with it.
func (g *memifGuest) want(kind uint16) (body []byte, file int) {
	g.t.Helper()
	m, control := make([]byte, 256), make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := g.conn.ReadMsgUnix(m, control)
	must(g.t, err)
	if got := binary.NativeEndian.Uint16(m); n != 128 || got != kind {
		g.t.Fatalf("message %d of %d bytes (%q), want %d", got, n, m[:n], kind)
	}
	file = -1
	if messages, err := unix.ParseSocketControlMessage(control[:oobn]); err == nil && len(messages) == 1 {
		files, err := unix.ParseUnixRights(&messages[0])
		must(g.t, err)
		file = files[0]
	}
	return m[2:n], file
}

func (g *memifGuest) word(at int) *uint32 { return (*uint32)(unsafe.Pointer(&g.mem[at])) }

// head is the client's index, beside the flags; tail is the server's.
func (g *memifGuest) head(r *memifRing) uint16 {
	return uint16(atomic.LoadUint32(g.word(r.at+memifHeadAt)) >> 16)
}

func (g *memifGuest) flags(r *memifRing) uint16 {
	return uint16(atomic.LoadUint32(g.word(r.at + memifHeadAt)))
}

func (g *memifGuest) setTail(r *memifRing, tail uint16) {
	atomic.StoreUint32(g.word(r.at+memifTailAt), uint32(tail))
}

func (g *memifGuest) setHigh(at int, low, high uint16) {
	atomic.StoreUint32(g.word(at), uint32(high)<<16|uint32(low))
}

// desc is a slot's descriptor: flags, region, length, offset and metadata.
func (g *memifGuest) desc(r *memifRing, slot uint16) []byte {
	return g.mem[r.at+memifDescAt+16*(int(slot)&(r.size-1)):][:16]
}

// put writes pieces into slots that follow each other, as one frame, and nothing else.
func (g *memifGuest) put(pieces ...[]byte) {
	g.t.Helper()
	waitFor(g.t, "free slots", func() bool { return int(g.head(&g.fill)-g.fill.next) >= len(pieces) })
	for i, piece := range pieces {
		d := g.desc(&g.fill, g.fill.next)
		copy(g.mem[binary.NativeEndian.Uint32(d[8:]):], piece)
		binary.NativeEndian.PutUint32(d[4:], uint32(len(piece)))
		var flags uint16
		if i+1 < len(pieces) {
			flags = memifNext
		}
		binary.NativeEndian.PutUint16(d, flags)
		g.fill.next++
	}
}

// tell gives what was put to the datapath.
func (g *memifGuest) tell() {
	g.setTail(&g.fill, g.fill.next)
	if g.flags(&g.fill)&memifMaskInt == 0 {
		unix.Write(g.fill.fd, binary.NativeEndian.AppendUint64(nil, 1))
	}
}

func (g *memifGuest) frame(pieces ...[]byte) {
	g.t.Helper()
	g.put(pieces...)
	g.tell()
}

// receive waits for a frame, and says in how many slots it came.
func (g *memifGuest) receive() (frame []byte, slots int) {
	g.t.Helper()
	waitFor(g.t, "a frame for the program", func() bool { return g.head(&g.read) != g.read.next })
	for more := true; more; slots++ {
		d := g.desc(&g.read, g.read.next)
		length, at := binary.NativeEndian.Uint32(d[4:]), binary.NativeEndian.Uint32(d[8:])
		frame = append(frame, g.mem[at:at+length]...)
		more = binary.NativeEndian.Uint16(d)&memifNext != 0
		g.read.next++
	}
	g.setTail(&g.read, g.read.next)
	return frame, slots
}

// from waits for a frame of an Ethernet type.
func (g *memifGuest) from(ethertype uint16) (frame []byte, slots int) {
	g.t.Helper()
	for {
		if frame, slots = g.receive(); binary.BigEndian.Uint16(frame[12:]) == ethertype {
			return frame, slots
		}
	}
}
