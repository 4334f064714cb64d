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

// Features of virtio-net (virtio 1.2 section 5.1.3) and of vhost-user.
const (
	featCsum      = 1 << 0
	featGuestCsum = 1 << 1
	featGuestTSO4 = 1 << 7
	featGuestTSO6 = 1 << 8
	featHostTSO4  = 1 << 11
	featMergeable = 1 << 15
	featIndirect  = 1 << 28
	featProtocol  = 1 << 30
	featVersion1  = 1 << 32
)

const (
	ringLen   = 256
	guestBase = 0x100000 // where the guest's memory begins, as descriptors have it
	userBase  = 0x7f0000000000
	guestMem  = 24 << 20
	txBuffers = 1 << 20
	txBuffer  = 128 << 10
	nTx       = 64
	rxBuffers = 10 << 20
	toRing    = 0
	fromRing  = 1

	descNext, descWrite, descIndirect = 1, 2, 4
)

// guest is a container's program that speaks vhost-user: one pair of split rings in a memfd.
type guest struct {
	t        testing.TB
	id       datapath.PortID
	features uint64
	rxBuffer int // bytes of a receive buffer
	listener *net.UnixListener
	conn     *net.UnixConn
	fd       int
	mem      []byte
	kick     [2]int
	call     [2]int
	avail    [2]uint16
	used     [2]uint16
}

// guestPort makes a vhost-user port on the network, and a program for it that is connected.
func guestPort(t testing.TB, name, mac string, features uint64, rxBuffer int, addrs ...string) *guest {
	t.Helper()
	return (&guest{t: t, features: features, rxBuffer: rxBuffer}).open(name, mac, addrs...)
}

func (g *guest) open(name, mac string, addrs ...string) *guest {
	t := g.t
	t.Helper()
	config := datapath.PortConfig{Name: name, Alias: testAlias + name, VNI: vni, MAC: parseMAC(mac), MTU: 1430, Addrs: prefixes(addrs), Native: &datapath.Native{Kind: datapath.KindVhost, Name: name}}
	var err error
	onHost(func() { g.id, err = plane.AddPort(config) })
	must(t, err)
	t.Cleanup(func() { onHost(func() { err = plane.DelPort(g.id) }); must(t, err) })
	g.fd, err = unix.MemfdCreate("guest", 0)
	must(t, err)
	must(t, unix.Ftruncate(g.fd, guestMem))
	g.mem, err = unix.Mmap(g.fd, 0, guestMem, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, err)
	for i := range g.kick {
		g.kick[i], err = unix.Eventfd(0, unix.EFD_NONBLOCK)
		must(t, err)
		g.call[i], err = unix.Eventfd(0, unix.EFD_NONBLOCK)
		must(t, err)
	}
	g.listen(name)
	t.Cleanup(func() {
		g.listener.Close()
		if g.conn != nil {
			g.conn.Close()
		}
		unix.Munmap(g.mem)
		for _, fd := range append(append(g.kick[:], g.call[:]...), g.fd) {
			unix.Close(fd)
		}
	})
	g.connect()
	return g
}

func (g *guest) listen(name string) {
	g.t.Helper()
	path := filepath.Join(nativeDir, name, "vhost.sock")
	os.Remove(path)
	var err error
	g.listener, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	must(g.t, err)
}

// connect waits for the datapath, says where all is, and until it is used.
func (g *guest) connect() {
	g.t.Helper()
	g.accept()
	for i := range 2 {
		g.setRing(i)
	}
	g.fill()
	if g.features&featProtocol != 0 {
		for i := range uint32(2) {
			g.message(18, nil, i, uint32(1))
		}
	}
	g.offered() // what was said before is done by then
	waitFor(g.t, "the rings in use", g.running)
}

func (g *guest) accept() {
	g.t.Helper()
	must(g.t, g.listener.SetDeadline(time.Now().Add(10*time.Second)))
	var err error
	g.conn, err = g.listener.AcceptUnix()
	must(g.t, err)
	g.message(3, nil)
	if offered := g.offered(); offered&g.features != g.features {
		g.t.Fatalf("features %#x are offered, not all of %#x", offered, g.features)
	}
	g.message(2, nil, g.features)
	g.message(5, []int{g.fd}, uint32(1), uint32(0), uint64(guestBase), uint64(guestMem), uint64(userBase), uint64(0))
}

// offered asks for the features.
func (g *guest) offered() uint64 {
	g.t.Helper()
	g.message(1, nil)
	answer := make([]byte, 20)
	_, err := g.conn.Read(answer)
	must(g.t, err)
	return binary.NativeEndian.Uint64(answer[12:])
}

func (g *guest) running() (is bool) {
	for _, p := range plane.Stats().Ports {
		is = is || p.ID == g.id && p.Connected
	}
	return is
}

func (g *guest) message(request uint32, files []int, fields ...any) {
	g.t.Helper()
	var payload bytes.Buffer
	for _, f := range fields {
		must(g.t, binary.Write(&payload, binary.NativeEndian, f))
	}
	must(g.t, g.raw(request, 1, payload.Bytes(), files))
}

func (g *guest) raw(request, flags uint32, payload []byte, files []int) error {
	m := binary.NativeEndian.AppendUint32(nil, request)
	m = binary.NativeEndian.AppendUint32(m, flags)
	m = append(binary.NativeEndian.AppendUint32(m, uint32(len(payload))), payload...)
	var rights []byte
	if len(files) > 0 {
		rights = unix.UnixRights(files...)
	}
	_, _, err := g.conn.WriteMsgUnix(m, rights, nil)
	return err
}

// Where a ring's parts are, from the beginning of the memory.
func descAt(ring int) int  { return ring << 16 }
func availAt(ring int) int { return ring<<16 + 0x4000 }
func usedAt(ring int) int  { return ring<<16 + 0x8000 }

func (g *guest) setRing(ring int) {
	g.t.Helper()
	index := uint32(ring)
	g.message(8, nil, index, uint32(ringLen))
	g.message(10, nil, index, uint32(0))
	g.message(9, nil, index, uint32(0), uint64(userBase+descAt(ring)), uint64(userBase+usedAt(ring)), uint64(userBase+availAt(ring)), uint64(0))
	g.message(12, []int{g.kick[ring]}, uint64(ring))
	g.message(13, []int{g.call[ring]}, uint64(ring))
}

func (g *guest) word(at int) *uint32 { return (*uint32)(unsafe.Pointer(&g.mem[at])) }

// index is a ring's index behind its flags.
func (g *guest) index(at int) uint16 { return uint16(atomic.LoadUint32(g.word(at)) >> 16) }

func (g *guest) setIndex(at int, index uint16) {
	flags := atomic.LoadUint32(g.word(at)) & 0xffff
	atomic.StoreUint32(g.word(at), uint32(index)<<16|flags)
}

func (g *guest) setDesc(ring, i int, addr uint64, length uint32, flags, next uint16) {
	putDesc(g.mem[descAt(ring)+16*i:], addr, length, flags, next)
}

func putDesc(at []byte, addr uint64, length uint32, flags, next uint16) {
	binary.NativeEndian.PutUint64(at, addr)
	binary.NativeEndian.PutUint32(at[8:], length)
	binary.NativeEndian.PutUint16(at[12:], flags)
	binary.NativeEndian.PutUint16(at[14:], next)
}

// give makes the chain that begins with a descriptor available.
func (g *guest) give(ring int, head uint16) {
	binary.NativeEndian.PutUint16(g.mem[availAt(ring)+4+2*int(g.avail[ring]%ringLen):], head)
	g.avail[ring]++
	g.setIndex(availAt(ring), g.avail[ring])
	if atomic.LoadUint32(g.word(usedAt(ring)))&1 == 0 {
		unix.Write(g.kick[ring], binary.NativeEndian.AppendUint64(nil, 1))
	}
}

// fill gives all receive buffers.
func (g *guest) fill() {
	for i := int(g.avail[toRing] - g.used[toRing]); i < ringLen; i++ {
		at := int(g.avail[toRing]) % ringLen
		g.setDesc(toRing, at, guestBase+rxBuffers+uint64(at*g.rxBuffer), uint32(g.rxBuffer), descWrite, 0)
		g.give(toRing, uint16(at))
	}
}

// header is the virtio-net header's length.
func (g *guest) header() int {
	if g.features&(featVersion1|featMergeable) != 0 {
		return 12
	}
	return 10
}

// send has a frame sent, whose virtio-net header may be cut short: zeros follow. It waits until it was taken.
func (g *guest) send(vnet, frame []byte) {
	g.t.Helper()
	i := int(g.avail[fromRing]) % nTx
	at := txBuffers + i*txBuffer
	clear(g.mem[at : at+g.header()])
	copy(g.mem[at:], vnet)
	copy(g.mem[at+g.header():], frame)
	g.setDesc(fromRing, i, uint64(guestBase+at), uint32(g.header()+len(frame)), 0, 0)
	g.give(fromRing, uint16(i))
	waitFor(g.t, "a frame taken from the guest", func() bool { return g.index(usedAt(fromRing)) == g.avail[fromRing] })
	g.used[fromRing] = g.avail[fromRing]
}

// receive waits for a frame, and gives its virtio-net header, too.
func (g *guest) receive() (vnet, frame []byte) {
	g.t.Helper()
	waitFor(g.t, "a frame for the guest", func() bool { return g.index(usedAt(toRing)) != g.used[toRing] })
	var all []byte
	for left := 1; left > 0; left-- {
		at := g.mem[usedAt(toRing)+4+8*int(g.used[toRing]%ringLen):]
		head, length := binary.NativeEndian.Uint32(at), binary.NativeEndian.Uint32(at[4:])
		buffer := g.mem[rxBuffers+int(head)*g.rxBuffer:]
		if all == nil && g.header() == 12 {
			left = int(binary.NativeEndian.Uint16(buffer[10:]))
		}
		all = append(all, buffer[:length]...)
		g.used[toRing]++
	}
	g.fill()
	return all[:g.header()], all[g.header():]
}

// from waits for a frame whose Ethernet type is one: others may come from the container's kernel on its own.
func (g *guest) from(ethertype uint16) (vnet, frame []byte) {
	for {
		vnet, frame = g.receive()
		if binary.BigEndian.Uint16(frame[12:]) == ethertype {
			return vnet, frame
		}
	}
}
