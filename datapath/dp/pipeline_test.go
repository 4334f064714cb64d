//go:build dptest

package dp

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The bench: one worker that runs and one that the test plays, a port on a socket pair, a VTEP on the loopback.
type testBench struct {
	port, vtep uint32
	container  int          // what the container would read
	peer       *net.UDPConn // what the VTEP would
}

const benchVNI = 4200

var bench = sync.OnceValue(func() testBench {
	try := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	log, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	try(err)
	try(Start(Config{CPUs: []int{0}, VTEP: netip.MustParseAddr("127.0.0.1"), DeviceBuffers: 4096, Log: log}))
	idle, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0)
	try(err)
	tap, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0)
	try(err)
	try(AddNet(benchVNI, false))
	port, err := AddPort(Port{VNI: benchVNI, MAC: [6]byte(srcMAC), Addrs: []netip.Addr{src4, src6}, FDs: []int{idle[0], tap[0]}})
	try(err)
	peer, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.2:0")))
	try(err)
	vtep, err := AddVTEP(peer.LocalAddr().(*net.UDPAddr).AddrPort())
	try(err)
	try(SetMACPort(benchVNI, [6]byte(srcMAC), port))
	try(SetMACVTEP(benchVNI, [6]byte(dstMAC), vtep))
	try(SetNeighbour(benchVNI, dst4, [6]byte(dstMAC), false))
	try(SetNeighbour(benchVNI, dst6, [6]byte(dstMAC), false))
	try(SetFlood(benchVNI, []uint32{port}, []uint32{vtep}))
	return testBench{port, vtep, tap[1], peer}
})

// delivered reads what arrived at the container since the last call.
func (b testBench) delivered() (frames [][]byte) {
	for _, u := range b.units() {
		frames = append(frames, u.Data)
	}
	return frames
}

// units are the same with their virtio-net headers.
func (b testBench) units() (units []groUnit) {
	buffer := make([]byte, 1<<17)
	for {
		n, err := unix.Read(b.container, buffer)
		if err != nil {
			return units
		}
		u := groUnit{Data: bytes.Clone(buffer[vnetLen:n])}
		binary.Decode(buffer, binary.NativeEndian, &u.VNet)
		units = append(units, u)
	}
}

// arrived is the size of the next datagram at the VTEP.
func (b testBench) arrived(t *testing.T) int {
	t.Helper()
	if err := b.peer.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, _, err := b.peer.ReadFrom(make([]byte, 65536))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// drain throws away the datagrams that are at the VTEP.
func (b testBench) drain(t *testing.T) {
	t.Helper()
	conn, err := b.peer.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = conn.Control(func(fd uintptr) {
		for buffer := make([]byte, 65536); ; {
			if _, _, err := unix.Recvfrom(int(fd), buffer, unix.MSG_DONTWAIT); err != nil {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// examples are frames of each kind that the pipeline looks into, from the container's MAC to the other's.
func examples(t testing.TB) map[string][]byte {
	long := make([]byte, 100)
	arp := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, srcMAC...)
	arp = append(arp, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1)
	arp = append(append(append(arp, srcMAC...), src4.AsSlice()...), append(make([]byte, 6), dst4.AsSlice()...)...)
	solicitation := append([]byte{0x33, 0x33, 0xff, 0, 0, 3}, srcMAC...)
	solicitation = append(solicitation, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 24, 58, 255)
	solicitation = append(append(solicitation, src6.AsSlice()...), netip.MustParseAddr("ff02::1:ff00:3").AsSlice()...)
	solicitation = append(append(solicitation, 135, 0, 0, 0, 0, 0, 0, 0), dst6.AsSlice()...)
	return map[string][]byte{
		"TCP over IPv4": flow{}.frame(t, 1, 1, 16, long),
		"TCP over IPv6": flow{v6: true}.frame(t, 1, 1, 16, long),
		"UDP over IPv4": flow{udp: true}.frame(t, 1, 1, 0, long),
		"UDP over IPv6": flow{v6: true, udp: true}.frame(t, 1, 1, 0, long),
		"ARP":           arp,
		"solicitation":  solicitation,
	}
}

// back turns addresses of a frame round, Ethernet ones and those of ARP: the other container says the same.
func back(frame []byte) []byte {
	turned := append([]byte{}, frame...)
	copy(turned, frame[6:12])
	copy(turned[6:], frame[:6])
	if frame[0]&1 != 0 {
		copy(turned, frame[:6])
		copy(turned[6:], dstMAC)
	}
	if turned[12] == 8 && turned[13] == 6 {
		copy(turned[22:], dstMAC)
		copy(turned[28:], dst4.AsSlice())
		copy(turned[38:], src4.AsSlice())
	}
	return turned
}

func packed(frame []byte) []byte {
	return append([]byte{8, 0, 0, 0, 0, benchVNI >> 8, benchVNI & 0xff, 0}, frame...)
}

// The way in, cut short at every byte: dropped or delivered as it is, and nothing is touched behind the end.
func TestDecapCutShort(t *testing.T) {
	b := bench()
	for name, frame := range examples(t) {
		t.Run(name, func(t *testing.T) {
			whole := packed(back(frame))
			for n := range whole {
				before := harnessDrops()
				decapExact(b.vtep, 3, whole[:n])
				if got := b.delivered(); harnessDrops() == before && len(got) != 1 {
					t.Fatalf("cut to %d of %d bytes: neither counted nor delivered", n, len(whole))
				}
			}
			decapExact(b.vtep, 0, whole)
			if got := b.delivered(); len(got) != 1 || string(got[0]) != string(whole[8:]) {
				t.Fatalf("the whole packet was not delivered as it is: %x", got)
			}
		})
	}
}

// The way out, cut short at every byte, with and without wishes in the virtio-net header.
func TestEncapCutShort(t *testing.T) {
	b := bench()
	for name, frame := range examples(t) {
		t.Run(name, func(t *testing.T) {
			for _, vnet := range [][]byte{make([]byte, vnetLen), {1, 0, 0, 0, 0, 0, 34, 0, 6, 0}, {1, 1, 66, 0, 20, 0, 34, 0, 16, 0}, {1, 5, 42, 0, 20, 0, 34, 0, 6, 0}} {
				for n := range len(frame) + 1 {
					before := harnessDrops() + harnessSent()
					encapExact(b.port, append(append([]byte{}, vnet...), frame[:n]...))
					if len(b.delivered()) == 0 && harnessDrops()+harnessSent() == before {
						t.Fatalf("cut to %d of %d bytes: neither counted, answered nor sent", n, len(frame))
					}
				}
			}
		})
	}
}

// A super-frame leaves as datagrams of equal size; where the kernel refuses to segment, what follows leaves one by one.
func TestSegmentsLeave(t *testing.T) {
	b := bench()
	frame := flow{}.frame(t, 1, 1, 16, make([]byte, 2500))
	vnet := []byte{vnetNeedsCsum, gsoTCP4, 54, 0, 1000 & 0xff, 1000 >> 8, 34, 0, 16, 0}
	leaves := func() {
		t.Helper()
		b.drain(t) // of other tests
		encapExact(b.port, append(vnet, frame...))
		for i, payload := range []int{1000, 1000, 500} {
			if got, want := b.arrived(t), 8+54+payload; got != want {
				t.Fatalf("datagram %d has %d bytes, want %d", i, got, want)
			}
		}
	}
	leaves()
	oneByOne(b.vtep, true)
	defer oneByOne(b.vtep, false)
	leaves()
}

func FuzzDecap(f *testing.F) {
	for _, frame := range examples(f) {
		f.Add(byte(3), packed(back(frame)))
	}
	b := bench()
	f.Fuzz(func(t *testing.T, tos byte, packet []byte) {
		if len(packet) > 65535 {
			return
		}
		decapDatagram(b.vtep, tos&3, int(tos>>2)*16, packet)
		b.delivered()
	})
}

func FuzzEncap(f *testing.F) {
	for _, frame := range examples(f) {
		f.Add(append(make([]byte, vnetLen), frame...))
		f.Add(append([]byte{1, 1, 66, 0, 20, 0, 34, 0, 16, 0}, frame...))
	}
	b := bench()
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) < vnetLen || len(frame) > 65471 {
			return
		}
		encapExact(b.port, frame)
		b.delivered()
	})
}
