package datapath_test

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/overlane/overlane/datapath"
)

const (
	guestMAC, guestIP4, guestIP6 = "02:42:0a:3e:00:07", "10.62.0.7", "fd62::7"
	guest2MAC, guest2IP4         = "02:42:0a:3e:00:08", "10.62.0.8"
)

func prefixes(all []string) (addrs []netip.Addr) {
	for _, addr := range all {
		addrs = append(addrs, netip.MustParseAddr(addr))
	}
	return addrs
}

// beside makes a network with a container that has a tap, and gives an UDP socket there.
func beside(t testing.TB) net.PacketConn {
	t.Helper()
	must(t, plane.AddNetwork(vni, false))
	t.Cleanup(func() { must(t, plane.DelNetwork(vni)) })
	container(t, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24", hostIP6+"/64")
	server := udpServer(t, containerNS, hostIP4+":9")
	must(t, server.SetDeadline(time.Now().Add(2*time.Minute)))
	return server
}

func udpServer(t testing.TB, ns, address string) (server net.PacketConn) {
	t.Helper()
	inNamespace(t, ns, func() (err error) {
		server, err = net.ListenPacket("udp", address)
		return err
	})
	t.Cleanup(func() { server.Close() })
	return server
}

// Frames cross between a program that speaks vhost-user and a container with a tap, and ARP is answered.
func TestVhost(t *testing.T) {
	for name, test := range map[string]struct {
		features uint64
		buffer   int
		echoes   uint64
	}{
		"plain":             {0, 2048, 10},
		"version 1":         {featVersion1, 2048, 10},
		"protocol features": {featVersion1 | featProtocol, 2048, 10},
		"mergeable":         {featVersion1 | featProtocol | featMergeable, 256, ringLen + 10}, // around the rings
	} {
		t.Run(name, func(t *testing.T) {
			server := beside(t)
			g := guestPort(t, "guest0", guestMAC, test.features, test.buffer, guestIP4, guestIP6)
			g.send(nil, arp(t, 1, guestMAC, guestIP4, hostIP4))
			if _, got := g.from(0x0806); !bytes.Equal(got[22:32], append(hardware(hostMAC), net.ParseIP(hostIP4).To4()...)) {
				t.Fatalf("ARP answer %x", got)
			}
			for range test.echoes {
				g.send(nil, udp4(t, guestMAC, guestIP4, hostMAC, hostIP4))
				buffer := make([]byte, 2048)
				n, from, err := server.ReadFrom(buffer)
				must(t, err)
				if string(buffer[:n]) != payload {
					t.Fatalf("got %q", buffer[:n])
				}
				_, err = server.WriteTo(bytes.Repeat([]byte{7}, 1000), from)
				must(t, err)
				vnet, got := g.from(0x0800)
				if test.features&featGuestCsum == 0 && vnet[0] != 0 {
					t.Fatalf("virtio-net header %x, though checksums are not left to the guest", vnet)
				}
				if want := 42 + 1000; len(got) != want || !udpSumOK(got) {
					t.Fatalf("%d bytes, checksum right: %v; want %d", len(got), udpSumOK(got), want)
				}
			}
			stats := portStats(t, g.id)
			if stats.Kind != datapath.KindVhost || !stats.Connected || stats.RxPackets < test.echoes || stats.TxPackets < test.echoes {
				t.Errorf("%+v", stats)
			}
		})
	}
}

func portStats(t testing.TB, id datapath.PortID) datapath.PortStats {
	t.Helper()
	for _, p := range plane.Stats().Ports {
		if p.ID == id {
			return p
		}
	}
	t.Fatalf("no port %d", id)
	return datapath.PortStats{}
}

func udpSumOK(frame []byte) bool {
	sum := uint32(17) + uint32(len(frame)-34)
	for at := 26; at < len(frame); at += 2 {
		word := uint32(frame[at]) << 8
		if at+1 < len(frame) {
			word |= uint32(frame[at+1])
		}
		sum += word
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return sum == 0xffff
}

// Extra addresses of others and its own are announced and asked for where there is a tap: a program is left alone.
func TestVhostBesideExtraAddresses(t *testing.T) {
	server := beside(t)
	g := guestPort(t, "guest0", guestMAC, featVersion1, 2048, guestIP4)
	for _, mac := range []string{peerMAC, strangerMAC} {
		must(t, plane.SetNeighbour(vni, netip.MustParseAddr(extraIP4), parseMAC(mac), true))
	}
	must(t, plane.SetExtra(g.id, datapath.MAC{}, netip.MustParseAddr(extraIP6), false))
	must(t, plane.AskExtra(g.id, netip.MustParseAddr(extraIP6)))
	g.send(nil, udp4(t, guestMAC, guestIP4, hostMAC, hostIP4))
	_, _, err := server.ReadFrom(make([]byte, 2048))
	must(t, err)
}

// A guest's frames are checked as a tap's.
func TestVhostSpoofed(t *testing.T) {
	server := beside(t)
	g := guestPort(t, "guest0", guestMAC, featVersion1, 2048, guestIP4)
	before := plane.Stats().Drops
	g.send(nil, udp4(t, strangerMAC, guestIP4, hostMAC, hostIP4))
	g.send(nil, udp4(t, guestMAC, "10.62.0.99", hostMAC, hostIP4))
	g.send([]byte{1, 0, 0, 0, 0, 0, 26, 0, 0, 0}, udp4(t, guestMAC, guestIP4, hostMAC, hostIP4)) // checksum over the addresses
	g.send(nil, udp4(t, guestMAC, guestIP4, hostMAC, hostIP4))
	_, _, err := server.ReadFrom(make([]byte, 2048))
	must(t, err)
	for _, reason := range []string{"spoofed_mac", "spoofed_ip", "offload"} {
		if got := plane.Stats().Drops[reason] - before[reason]; got != 1 {
			t.Errorf("%d dropped as %s, want 1", got, reason)
		}
	}
}

// Super-frames and unfinished checksums cross whole between a guest that takes them and a tap, and are finished for one that does not.
func TestVhostOffloads(t *testing.T) {
	for name, test := range map[string]struct {
		features uint64
		buffer   int
		whole    bool
	}{
		"taken": {featVersion1 | featCsum | featHostTSO4 | featGuestCsum | featGuestTSO4 | featGuestTSO6 | featMergeable, 2048, true},
		"not":   {featVersion1, 2048, false},
	} {
		t.Run(name, func(t *testing.T) {
			beside(t)
			g := guestPort(t, "guest0", guestMAC, test.features, test.buffer, guestIP4)
			r := rawSocket(t, containerNS)
			must(t, unix.SetsockoptInt(int(r), unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1))
			text := bytes.Repeat([]byte(payload), 800) // 32 KiB
			super := tcpSuper(t, hostMAC, hostIP4, guestMAC, guestIP4, text)
			r.send(t, append([]byte{1, 1, 54, 0, 1000 & 255, 1000 >> 8, 34, 0, 16, 0}, super...))
			var got []byte
			for len(got) < len(text) {
				vnet, frame := g.from(0x0800)
				if frame[23] != 6 {
					continue
				}
				if whole := vnet[1] != 0; whole != test.whole {
					t.Fatalf("virtio-net header %x, %d bytes", vnet, len(frame))
				}
				if !test.whole && !tcpSumOK(frame) {
					t.Fatalf("wrong checksum: %x", frame[:60])
				}
				got = append(got, frame[54:]...)
			}
			if !bytes.Equal(got, text) {
				t.Error("not what was sent")
			}
			if !test.whole {
				return
			}
			g.send([]byte{1, 1, 54, 0, 1000 & 255, 1000 >> 8, 34, 0, 16, 0}, tcpSuper(t, guestMAC, guestIP4, hostMAC, hostIP4, text))
			for {
				frame := r.next(t)[10:]
				if bytes.Equal(frame[6:12], hardware(guestMAC)) && len(frame) > 1000 {
					if !bytes.Equal(frame[54:], text) {
						t.Errorf("%d bytes arrive", len(frame))
					}
					return
				}
			}
		})
	}
}

// tcpSuper is a super-frame whose checksum is yet to be computed.
func tcpSuper(t *testing.T, sourceMAC, source, destinationMAC, destination string, text []byte) []byte {
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: net.ParseIP(source), DstIP: net.ParseIP(destination)}
	f := frame(t, sourceMAC, destinationMAC, ip, &layers.TCP{SrcPort: 1000, DstPort: 9, ACK: true, Window: 100}, gopacket.Payload(text))
	sum := uint32(6) + uint32(len(f)-34)
	for at := 26; at < 34; at += 2 {
		sum += uint32(binary.BigEndian.Uint16(f[at:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(f[50:], uint16(sum))
	return f
}

func tcpSumOK(f []byte) bool {
	sum := uint32(6) + uint32(len(f)-34)
	for at := 26; at < len(f); at += 2 {
		word := uint32(f[at]) << 8
		if at+1 < len(f) {
			word |= uint32(f[at+1])
		}
		sum += word
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return sum == 0xffff
}

// A program that goes comes back, as it does when the datapath's side went; a full ring and one that is not there drop by name.
func TestVhostComesAndGoes(t *testing.T) {
	server := beside(t)
	g := guestPort(t, "guest0", guestMAC, featVersion1, 2048, guestIP4)
	echo := func() {
		t.Helper()
		g.send(nil, udp4(t, guestMAC, guestIP4, hostMAC, hostIP4))
		_, from, err := server.ReadFrom(make([]byte, 2048))
		must(t, err)
		_, err = server.WriteTo([]byte(payload), from)
		must(t, err)
		g.from(0x0800)
	}
	echo()
	for range 3 {
		g.conn.Close()
		waitFor(t, "the rings given up", func() bool { return !g.running() })
		g.connect()
		echo()
	}
	// The datapath's side ends in the middle of nothing, and another begins.
	onHost(func() { must(t, plane.DelPort(g.id)) })
	onHost(func() {
		var err error
		g.id, err = plane.AddPort(datapath.PortConfig{Name: "guest0", Alias: testAlias + "guest0", Netns: "/proc/self/ns/net", VNI: vni, MAC: parseMAC(guestMAC), MTU: 1430, Addrs: prefixes([]string{guestIP4}), Native: &datapath.Native{Kind: datapath.KindVhost, Name: "guest0"}})
		must(t, err)
	})
	g.connect()
	echo()

	config := captureConfig("udp and dst host " + guestIP4)
	config.Points = []datapath.Point{datapath.PointDropped}
	captured := capturing(t, config)
	drop := func(reason string, n int) {
		t.Helper()
		before := plane.Stats().Drops[reason]
		for range n {
			_, err := server.WriteTo([]byte(payload), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(guestIP4+":1000")))
			must(t, err)
		}
		waitFor(t, "a drop as "+reason, func() bool { return plane.Stats().Drops[reason] > before })
		waitFor(t, "it is captured whole", func() bool {
			return slices.ContainsFunc(captured(), func(c datapath.Captured) bool { return c.Drop == reason && bytes.HasSuffix(c.Data, []byte(payload)) })
		})
	}
	drop("vhost_full", ringLen+1)
	g.conn.Close()
	waitFor(t, "the rings given up", func() bool { return !g.running() })
	drop("vhost_down", 1)
}

// What no driver writes cuts the guest off, and harms nobody else.
func TestVhostMisuse(t *testing.T) {
	server := beside(t)
	other := guestPort(t, "guest1", guest2MAC, featVersion1, 2048, guest2IP4)
	for name, misuse := range map[string]func(*guest){
		"index ahead of the ring": func(g *guest) {
			g.setIndex(availAt(fromRing), g.avail[fromRing]+ringLen+1)
			unix.Write(g.kick[fromRing], binary.NativeEndian.AppendUint64(nil, 1))
		},
		"head outside the ring": func(g *guest) { g.give(fromRing, ringLen) },
		"next outside the ring": func(g *guest) { g.setDesc(fromRing, 0, guestBase, 1, descNext, ringLen); g.give(fromRing, 0) },
		"loop":                  func(g *guest) { g.setDesc(fromRing, 0, guestBase, 0, descNext, 0); g.give(fromRing, 0) },
		"memory that is not shared": func(g *guest) {
			g.setDesc(fromRing, 0, guestBase+guestMem-10, 100, 0, 0)
			g.give(fromRing, 0)
		},
		"address that wraps around": func(g *guest) { g.setDesc(fromRing, 0, ^uint64(0)-10, 100, 0, 0); g.give(fromRing, 0) },
		"for writing":               func(g *guest) { g.setDesc(fromRing, 0, guestBase, 100, descWrite, 0); g.give(fromRing, 0) },
		"table cut short":           func(g *guest) { g.setDesc(fromRing, 0, guestBase+txBuffers, 17, descIndirect, 0); g.give(fromRing, 0) },
		"table in a table": func(g *guest) {
			putDesc(g.mem[txBuffers:], guestBase+txBuffers, 16, descIndirect, 0)
			g.setDesc(fromRing, 0, guestBase+txBuffers, 16, descIndirect, 0)
			g.give(fromRing, 0)
		},
		"memory cut short": func(g *guest) {
			must(g.t, unix.Ftruncate(g.fd, 4096))
			unix.Write(g.kick[fromRing], binary.NativeEndian.AppendUint64(nil, 1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := guestPort(t, "guest0", guestMAC, featVersion1|featIndirect, 2048, guestIP4)
			misuse(g)
			waitFor(t, "the guest cut off", func() bool { return !g.running() })
			other.send(nil, udp4(t, guest2MAC, guest2IP4, hostMAC, hostIP4))
			_, _, err := server.ReadFrom(make([]byte, 2048))
			must(t, err)
		})
	}
}

// Messages that no front-end sends end the connection, and the next one works.
func TestVhostMessages(t *testing.T) {
	beside(t)
	number := func(n uint64) []byte { return binary.NativeEndian.AppendUint64(nil, n) }
	table := func(fields ...uint64) (payload []byte) {
		payload = number(1)
		for _, f := range fields {
			payload = append(payload, number(f)...)
		}
		return payload
	}
	g := guestPort(t, "guest0", guestMAC, featVersion1, 2048, guestIP4)
	null, err := os.Open(os.DevNull)
	must(t, err)
	defer null.Close()
	huge, err := unix.MemfdCreate("huge", 0)
	must(t, err)
	defer unix.Close(huge)
	must(t, unix.Ftruncate(huge, 1<<46))
	for name, m := range map[string]struct {
		request, flags uint32
		payload        []byte
		files          []int
	}{
		"unknown request":      {99, 1, nil, nil},
		"other version":        {1, 2, nil, nil},
		"too long":             {2, 1, make([]byte, 5000), nil},
		"cut short":            {2, 1, make([]byte, 4), nil},
		"features not offered": {2, 1, number(1 << 63), nil},
		"third ring":           {8, 1, number(2 | 256<<32), nil},
		"ring of no power":     {8, 1, number(100 << 32), nil},
		"no eventfd":           {12, 1, number(1), []int{int(null.Fd())}},
		"no kick":              {12, 1, number(1 | 1<<8), nil},
		"no file":              {5, 1, table(0, 4096, 0, 0), nil},
		"no memory":            {5, 1, table(0, 4096, 0, 0), []int{int(null.Fd())}},
		"more than the file":   {5, 1, table(0, guestMem+1, 0, 0), []int{g.fd}},
		"length out of range":  {5, 1, table(0, ^uint64(0), 0, 4096), []int{g.fd}},
		"more than the host":   {5, 1, table(0, 1<<46, 0, 0), []int{huge}},
		"ring outside":         {9, 1, table(1<<40, 1<<40, 1<<40, 0), nil},
	} {
		t.Run(name, func(t *testing.T) {
			g.t = t
			must(t, g.raw(m.request, m.flags, m.payload, m.files))
			waitFor(t, "the guest cut off", func() bool { return !g.running() })
			if _, err := g.conn.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
				t.Errorf("the connection is still there: %v", err)
			}
			g.conn.Close()
			g.connect()
		})
	}
}

// The directory lets its owner in and nobody else, and what lies there leads nowhere.
func TestNativeDir(t *testing.T) {
	must(t, plane.AddNetwork(vni, false))
	t.Cleanup(func() { must(t, plane.DelNetwork(vni)) })
	add := func(name, alias, mac string, uid int) (id datapath.PortID, err error) {
		onHost(func() {
			id, err = plane.AddPort(datapath.PortConfig{Name: alias, Alias: testAlias + alias, VNI: vni, MAC: parseMAC(mac), MTU: 1430, Native: &datapath.Native{Kind: datapath.KindVhost, Name: name, UID: uid, GID: uid}})
		})
		return id, err
	}
	for _, name := range []string{"", "..", "a/b", ".hidden", strings.Repeat("a", 64), "a\x00"} {
		if _, err := add(name, "guest0", guestMAC, 0); err == nil || !strings.Contains(err.Error(), "socket directory") {
			t.Errorf("%q: %v", name, err)
		}
	}
	t.Cleanup(func() { must(t, os.RemoveAll(nativeDir)) })
	must(t, os.MkdirAll(nativeDir, 0o711))
	must(t, os.Symlink("/tmp", filepath.Join(nativeDir, "link")))
	if _, err := add("link", "guest0", guestMAC, 0); err == nil {
		t.Error("a link was followed")
	}
	dir := filepath.Join(nativeDir, "mine")
	must(t, os.MkdirAll(dir, 0o777))
	stale, err := net.Listen("unix", filepath.Join(dir, "vhost.sock"))
	must(t, err)
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	must(t, stale.Close())
	id, err := add("mine", "guest0", guestMAC, 1234)
	must(t, err)
	defer onHost(func() { plane.DelPort(id) })
	var st unix.Stat_t
	must(t, unix.Stat(dir, &st))
	if st.Uid != 1234 || st.Gid != 1234 || st.Mode&0o7777 != 0o700 {
		t.Errorf("owner %d:%d, mode %o", st.Uid, st.Gid, st.Mode&0o7777)
	}
	if _, err := os.Stat(filepath.Join(dir, "vhost.sock")); err == nil {
		t.Error("a socket on which nobody listens is still there")
	}
	if _, err := add("mine", "guest1", guest2MAC, 0); err == nil || !strings.Contains(err.Error(), "mine is port guest0's") {
		t.Errorf("two ports of one directory: %v", err)
	}

	// A link to a socket elsewhere is not connected to.
	elsewhere, err := net.Listen("unix", filepath.Join(t.TempDir(), "host.sock"))
	must(t, err)
	defer elsewhere.Close()
	must(t, os.Symlink(elsewhere.Addr().String(), filepath.Join(dir, "vhost.sock")))
	must(t, elsewhere.(*net.UnixListener).SetDeadline(time.Now().Add(500*time.Millisecond)))
	if conn, err := elsewhere.Accept(); err == nil {
		conn.Close()
		t.Error("the datapath has connected to a socket behind a link")
	}
}
