//go:build dptest

package dp

import (
	"encoding/binary"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A worker rests after sixteen datagrams, whichever way they went and however many the kernel gave at once; once, and not for TCP.
func TestModeration(t *testing.T) {
	b := bench()
	sent := func(vnet vnetHdr, n, payload int) func() {
		frame := make([]byte, vnetLen+42+payload)
		_, err := binary.Encode(frame, binary.LittleEndian, vnet)
		check(t, err)
		return func() {
			for range n {
				_, err := unix.Write(b.container, frame)
				check(t, err)
				turn(b.port, 0)
			}
		}
	}
	received := func(f flow, n int) func() {
		packet := packed(back(f.frame(t, 1, 1, 16, fill(100))))
		return func() {
			for range n {
				decapExact(b.vtep, 0, packet)
			}
			b.units()
		}
	}
	for name, c := range map[string]struct {
		moves func()
		want  bool
	}{
		"nothing":                 {func() {}, false},
		"a request":               {sent(vnetHdr{}, 1, 100), false},
		"datagrams sent":          {sent(vnetHdr{}, 16, 100), true},
		"fewer":                   {sent(vnetHdr{}, 15, 100), false},
		"a super-frame of them":   {sent(vnetHdr{Type: gsoUDP, GSOSize: 100}, 1, 1600), true},
		"TCP sent":                {sent(vnetHdr{Flags: vnetNeedsCsum, CsumStart: 34, CsumOffset: 16}, 100, 100), false},
		"datagrams received":      {received(flow{udp: true}, 16), true},
		"IPv6 datagrams received": {received(flow{udp: true, v6: true}, 16), true},
		"fewer received":          {received(flow{udp: true}, 15), false},
		"TCP received":            {received(flow{}, 100), false},
		"TCP and a few datagrams": {func() { received(flow{}, 100)(); received(flow{udp: true}, 15)() }, false},
		"as many both ways":       {func() { sent(vnetHdr{}, 8, 100)(); received(flow{udp: true}, 8)() }, true},
	} {
		rests(false)
		c.moves()
		if got := rests(false); got != c.want {
			t.Errorf("%s: the worker rests: %v, want %v", name, got, c.want)
		}
		if rests(false) {
			t.Errorf("%s: the worker rests twice", name)
		}
	}
	drain(t, b)
}

// Rings of devices, and those that a container shares, are short: nobody rests while there is one.
func TestNoModerationBesideRings(t *testing.T) {
	b := bench()
	packet := packed(back(flow{udp: true}.frame(t, 1, 1, 16, fill(100))))
	rests(false)
	for range 100 {
		decapExact(b.vtep, 0, packet)
	}
	b.units()
	if rests(true) {
		t.Error("a worker rests that has rings to read")
	}
	before := sharedPorts()
	expect := func(more int, when string) {
		t.Helper()
		if got := sharedPorts() - before; got != more {
			t.Errorf("%s: %d more ports with rings, want %d", when, got, more)
		}
	}
	port, err := AddPort(Port{VNI: benchVNI, MAC: [6]byte{2, 0, 0, 0, 2, 1}, Rings: MemifRings})
	check(t, err)
	expect(0, "nobody is connected")
	connect := func() {
		check(t, StartMemif(port, Memif{Memory: memifMemory(t), Log2: MemifMin, Kick: eventFD(t), Bell: eventFD(t)}))
		expect(1, "a container is connected")
	}
	connect()
	StopShared(port)
	StopShared(port)
	expect(0, "it has gone")
	connect()
	check(t, DelPort(port))
	expect(0, "its port has gone")
}

// memifMemory is mapped memory with rings of the smallest size.
func memifMemory(t *testing.T) uint64 {
	t.Helper()
	memory, err := unix.Mmap(-1, 0, int(MemifLen(MemifMin)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	check(t, err)
	t.Cleanup(func() { check(t, unix.Munmap(memory)) })
	at := uint64(uintptr(unsafe.Pointer(unsafe.SliceData(memory))))
	FormatMemif(at, MemifMin)
	return at
}

func eventFD(t *testing.T) int {
	t.Helper()
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	check(t, err)
	t.Cleanup(func() { check(t, unix.Close(fd)) })
	return fd
}
