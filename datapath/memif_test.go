package datapath_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overlane/overlane/datapath"
)

// Frames cross between a program that speaks memif and a container with a tap, around the rings, and ARP is answered.
func TestMemif(t *testing.T) {
	for name, log2 := range map[string]byte{"large rings": 14, "small rings": 6} {
		t.Run(name, func(t *testing.T) {
			server := beside(t)
			g := memifAlone(t, "guest0", guestMAC, guestIP4, guestIP6)
			g.log2 = log2
			g.connect()
			g.frame(arp(t, 1, guestMAC, guestIP4, hostIP4))
			if got, _ := g.from(0x0806); !bytes.Equal(got[22:32], append(hardware(hostMAC), net.ParseIP(hostIP4).To4()...)) {
				t.Fatalf("ARP answer %x", got)
			}
			for range g.fill.size + 10 {
				g.echo(t, server)
			}
			stats := portStats(t, g.id)
			if stats.Kind != datapath.KindMemif || !stats.Connected || stats.RxPackets < uint64(g.fill.size) || stats.TxPackets < uint64(g.fill.size) {
				t.Errorf("%+v", stats)
			}
		})
	}
}

// echo has a datagram of the guest's answered.
func (g *memifGuest) echo(t *testing.T, server net.PacketConn) {
	t.Helper()
	g.frame(udp4(t, guestMAC, guestIP4, hostMAC, hostIP4))
	buffer := make([]byte, 2048)
	n, from, err := server.ReadFrom(buffer)
	must(t, err)
	if string(buffer[:n]) != payload {
		t.Fatalf("got %q", buffer[:n])
	}
	_, err = server.WriteTo(bytes.Repeat([]byte{7}, 1000), from)
	must(t, err)
	if got, _ := g.from(0x0800); len(got) != 42+1000 || !udpSumOK(got) {
		t.Fatalf("%d bytes, checksum right: %v", len(got), udpSumOK(got))
	}
}

// A guest's frames are checked as a tap's.
func TestMemifSpoofed(t *testing.T) {
	server := beside(t)
	g := memifPort(t, "guest0", guestMAC, guestIP4)
	before := plane.Stats().Drops
	g.frame(udp4(t, strangerMAC, guestIP4, hostMAC, hostIP4))
	g.frame(udp4(t, guestMAC, "10.62.0.99", hostMAC, hostIP4))
	g.frame([]byte("short"))
	g.frame(nil)
	g.frame(udp4(t, guestMAC, guestIP4, hostMAC, hostIP4))
	_, _, err := server.ReadFrom(make([]byte, 2048))
	must(t, err)
	for reason, want := range map[string]uint64{"spoofed_mac": 1, "spoofed_ip": 1, "runt": 2} {
		if got := plane.Stats().Drops[reason] - before[reason]; got != want {
			t.Errorf("%d dropped as %s, want %d", got, reason, want)
		}
	}
}

// A frame comes and goes in a chain of buffers; one that is too long for a frame is dropped, and the next one arrives.
func TestMemifChains(t *testing.T) {
	server := beside(t)
	g := memifPort(t, "guest0", guestMAC, guestIP4)
	other := memifPort(t, "guest1", guest2MAC, guest2IP4)
	whole := udp4(t, guestMAC, guestIP4, hostMAC, hostIP4)
	g.frame(whole[:20], nil, whole[20:33], whole[33:])
	buffer := make([]byte, 2048)
	n, _, err := server.ReadFrom(buffer)
	must(t, err)
	if string(buffer[:n]) != payload {
		t.Fatalf("got %q", buffer[:n])
	}

	long := append(whole[:14:14], bytes.Repeat([]byte{1, 2, 3, 4, 5, 6, 7}, 800)...) // to another guest, as no IP
	copy(long, hardware(guest2MAC))
	copy(long[12:], []byte{0x88, 0xb5})
	g.frame(long[:2048], long[2048:4096], long[4096:])
	got, slots := other.from(0x88b5)
	if slots != 3 || !bytes.Equal(got, long) {
		t.Errorf("%d bytes in %d slots arrive of %d", len(got), slots, len(long))
	}

	before := plane.Stats().Drops["oversize"]
	pieces := make([][]byte, 33)
	for i := range pieces {
		pieces[i] = long[:2048]
	}
	g.frame(pieces...)
	g.echo(t, server)
	if got := plane.Stats().Drops["oversize"] - before; got != 1 {
		t.Errorf("%d dropped as oversize, want 1", got)
	}
}

// Super-frames of a tap, and sums that its kernel leaves to a card, are finished for a program that knows neither.
func TestMemifOffloads(t *testing.T) {
	beside(t)
	g := memifPort(t, "guest0", guestMAC, guestIP4)
	r := rawSocket(t, containerNS)
	must(t, unix.SetsockoptInt(int(r), unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1))
	text := bytes.Repeat([]byte(payload), 800) // 32 KiB
	r.send(t, append([]byte{1, 1, 54, 0, 1000 & 255, 1000 >> 8, 34, 0, 16, 0}, tcpSuper(t, hostMAC, hostIP4, guestMAC, guestIP4, text)...))
	var got []byte
	for len(got) < len(text) {
		frame, _ := g.from(0x0800)
		if frame[23] != 6 {
			continue
		}
		if len(frame) > 1054 || !tcpSumOK(frame) {
			t.Fatalf("%d bytes, wrong checksum or too long: %x", len(frame), frame[:60])
		}
		got = append(got, frame[54:]...)
	}
	if !bytes.Equal(got, text) {
		t.Error("not what was sent")
	}
}

// Programs of both kinds of native port reach each other.
func TestMemifToVhost(t *testing.T) {
	beside(t)
	m := memifPort(t, "guest0", guestMAC, guestIP4)
	v := guestPort(t, "guest1", guest2MAC, featVersion1, 2048, guest2IP4)
	m.frame(udp4(t, guestMAC, guestIP4, guest2MAC, guest2IP4))
	if _, got := v.from(0x0800); !bytes.Contains(got, []byte(payload)) || !udpSumOK(got) {
		t.Errorf("got %x", got)
	}
	v.send(nil, udp4(t, guest2MAC, guest2IP4, guestMAC, guestIP4))
	if got, _ := m.from(0x0800); !bytes.Contains(got, []byte(payload)) || !udpSumOK(got) {
		t.Errorf("got %x", got)
	}
}

// A program that does not poll is woken up, and a worker that sleeps is told of frames by an eventfd.
func TestMemifInterrupts(t *testing.T) {
	server := beside(t)
	g := memifAlone(t, "guest0", guestMAC, guestIP4)
	g.masked = false
	g.connect()
	for range 3 {
		waitFor(t, "a worker that wants to be told", func() bool { return g.flags(&g.fill)&memifMaskInt == 0 })
		g.echo(t, server)
		poll := []unix.PollFd{{Fd: int32(g.read.fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(poll, 10_000); n != 1 {
			t.Fatalf("the program is not woken up: %v", err)
		}
		unix.Read(g.read.fd, make([]byte, 8))
	}
}

// A program that goes comes back, as it does when the datapath's side went; a full ring and one that is not there drop by name.
func TestMemifComesAndGoes(t *testing.T) {
	server := beside(t)
	g := memifPort(t, "guest0", guestMAC, guestIP4)
	g.echo(t, server)
	for range 3 {
		g.leave()
		waitFor(t, "the rings given up", func() bool { return !g.running() })
		g.connect()
		g.echo(t, server)
	}
	// A program may take its leave by a message, too.
	g.send(memifDisconnect)
	waitFor(t, "the rings given up", func() bool { return !g.running() })
	g.leave()
	g.connect()
	g.echo(t, server)
	// The datapath's side ends in the middle of nothing, and another begins. The program is told, and its memory holds nothing more.
	onHost(func() { must(t, plane.DelPort(g.id)) })
	g.want(memifDisconnect)
	if _, err := g.conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after the last message: %v", err)
	}
	g.conn.Close()
	waitFor(t, "the memory given back", func() bool { return len(bytes.Trim(g.mem, "\x00")) == 0 })
	config := memifConfig("guest0", guestMAC, guestIP4)
	config.Netns = "/proc/self/ns/net"
	onHost(func() {
		var err error
		g.id, err = plane.AddPort(config)
		must(t, err)
	})
	g.leave()
	g.connect()
	g.echo(t, server)

	drop := func(reason string, n int) {
		t.Helper()
		before := plane.Stats().Drops[reason]
		send := func() {
			_, err := server.WriteTo([]byte(payload), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(guestIP4+":1000")))
			must(t, err)
		}
		for range n {
			send()
		}
		waitFor(t, "a drop as "+reason, func() bool {
			send() // the sender's own interface drops what a busy worker leaves too long
			return plane.Stats().Drops[reason] > before
		})
	}
	drop("memif_full", g.read.size+1)
	g.leave()
	waitFor(t, "the rings given up", func() bool { return !g.running() })
	drop("memif_down", 1)
}

// What no server writes cuts the program off, says why, and harms nobody else.
func TestMemifMisuse(t *testing.T) {
	server := beside(t)
	other := memifPort(t, "guest1", guest2MAC, guest2IP4)
	set16 := func(d []byte, at int, v uint16) { binary.NativeEndian.PutUint16(d[at:], v) }
	set32 := func(d []byte, at int, v uint32) { binary.NativeEndian.PutUint32(d[at:], v) }
	spoil := func(change func(g *memifGuest, d []byte)) func(*memifGuest) {
		return func(g *memifGuest) {
			g.put(udp4(t, guestMAC, guestIP4, hostMAC, hostIP4))
			change(g, g.desc(&g.fill, g.fill.next-1))
			g.tell()
		}
	}
	for name, misuse := range map[string]func(*memifGuest){
		"tail ahead of the head": func(g *memifGuest) { g.fill.next = g.head(&g.fill) + 1; g.tell() },
		"tail behind":            func(g *memifGuest) { g.fill.next--; g.tell() },
		"another region":         spoil(func(_ *memifGuest, d []byte) { set16(d, 2, 1) }),
		"another offset":         spoil(func(_ *memifGuest, d []byte) { set32(d, 8, 0) }),
		"offset outside":         spoil(func(_ *memifGuest, d []byte) { set32(d, 8, 1<<31) }),
		"longer than the buffer": spoil(func(_ *memifGuest, d []byte) { set32(d, 4, memifBufferBytes+1) }),
		"length that wraps":      spoil(func(_ *memifGuest, d []byte) { set32(d, 4, 1<<32-1) }),
		"chain without end":      spoil(func(_ *memifGuest, d []byte) { set16(d, 0, memifNext) }),
		"chain all around": func(g *memifGuest) {
			for i := range g.fill.size {
				set16(g.desc(&g.fill, uint16(i)), 0, memifNext)
				set32(g.desc(&g.fill, uint16(i)), 4, 0)
			}
			g.fill.next += uint16(g.fill.size)
			g.tell()
		},
		"reads ahead of the head": func(g *memifGuest) {
			g.setTail(&g.read, 1<<15)
			for range g.read.size + 2 { // it is looked at when the ring seems full
				other.frame(udp4(t, guest2MAC, guest2IP4, guestMAC, guestIP4))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := memifPort(t, "guest0", guestMAC, guestIP4)
			before := plane.Stats().Drops["memif_ring"]
			misuse(g)
			waitFor(t, "the guest cut off", func() bool { return !g.running() })
			if got := plane.Stats().Drops["memif_ring"] - before; got != 1 {
				t.Errorf("it was cut off %d times", got)
			}
			other.frame(udp4(t, guest2MAC, guest2IP4, hostMAC, hostIP4))
			_, _, err := server.ReadFrom(make([]byte, 2048))
			must(t, err)
		})
	}
}

// Messages that no server sends end the connection, and the next one works.
func TestMemifMessages(t *testing.T) {
	server := beside(t)
	g := memifAlone(t, "guest0", guestMAC, guestIP4)
	for name, wrong := range map[string]func(){
		"nothing":           func() {},
		"no greeting":       func() { g.send(memifAck) },
		"too short":         func() { _, err := g.conn.Write(make([]byte, 127)); must(t, err) },
		"too long":          func() { _, err := g.conn.Write(make([]byte, 200)); must(t, err) },
		"unknown":           func() { g.send(99) },
		"other version":     func() { g.send(memifHello, make([]byte, 32), uint16(0x300), uint16(0x300)) },
		"tiny rings":        func() { g.log2 = 5; g.hello(); g.log2 = 14 },
		"refused":           func() { g.hello(); g.want(memifInit); g.send(memifDisconnect, uint32(0), []byte("ID not found")) },
		"connected at once": func() { g.hello(); g.want(memifInit); g.send(memifConnected) },
		"files": func() {
			m := append(binary.NativeEndian.AppendUint16(nil, 99), make([]byte, 126)...)
			_, _, err := g.conn.WriteMsgUnix(m, unix.UnixRights(int(os.Stdin.Fd())), nil)
			must(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			g.accept()
			wrong()
			must(t, g.conn.CloseWrite())
			must(t, g.conn.SetDeadline(time.Now().Add(10*time.Second)))
			for err := error(nil); err != io.EOF; {
				if _, err = g.conn.Read(make([]byte, 256)); err != nil && err != io.EOF {
					t.Fatalf("the connection is still there: %v", err)
				}
			}
			g.conn.Close()
		})
	}
	g.connect()
	g.send(memifHello)
	waitFor(t, "the guest cut off", func() bool { return !g.running() })
	g.leave()
	g.connect()
	g.echo(t, server)
}

// A program is not bothered by a look at whether its socket is a dead one.
func TestMemifSocketStays(t *testing.T) {
	beside(t)
	dir := filepath.Join(nativeDir, "guest0")
	must(t, os.MkdirAll(dir, 0o700))
	path := filepath.Join(dir, "memif.sock")
	listener, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	must(t, err)
	defer listener.Close()
	var id datapath.PortID
	onHost(func() { id, err = plane.AddPort(memifConfig("guest0", guestMAC, guestIP4)) })
	must(t, err)
	defer onHost(func() { plane.DelPort(id) })
	conn, err := listener.AcceptUnix()
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(300*time.Millisecond)))
	if _, err := conn.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("the first connection is not there to stay: %v", err)
	}
}
