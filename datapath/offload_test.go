package datapath_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sizes are lengths of payload from 64 bytes to 64 KiB.
func sizes(most int) (all []int) {
	for size := 64; size < most; size += sizeStep {
		all = append(all, size)
	}
	return append(all, most-1, most)
}

// echoTCP sends messages of all sizes on one connection, one after the other, and compares what comes back.
func echoTCP(t *testing.T, from, to, addr string) {
	var listener net.Listener
	inNamespace(t, to, func() (err error) {
		listener, err = net.Listen("tcp", net.JoinHostPort(addr, "7003"))
		return err
	})
	defer listener.Close()
	go func() {
		if conn, err := listener.Accept(); err == nil {
			io.Copy(conn, conn)
			conn.Close()
		}
	}()
	var conn net.Conn
	inNamespace(t, from, func() (err error) {
		conn, err = net.DialTimeout("tcp", net.JoinHostPort(addr, "7003"), 5*time.Second)
		return err
	})
	defer conn.Close()
	source := rand.New(rand.NewSource(1))
	for _, size := range append(sizes(65536), 1361, 1362, 1363, 1377, 1378, 1379, 2724, 2756) {
		sent, got := make([]byte, size), make([]byte, size)
		source.Read(sent)
		must(t, conn.SetDeadline(time.Now().Add(5*time.Second)))
		go conn.Write(sent)
		if _, err := io.ReadFull(conn, got); err != nil {
			t.Fatalf("no echo of %d bytes from %s: %v", size, addr, err)
		}
		if !bytes.Equal(got, sent) {
			t.Fatalf("%d bytes to %s came back changed", size, addr)
		}
	}
}

// inSegments has the socket send what it is given in datagrams of so many bytes: UDP_SEGMENT of udp(7).
func inSegments(t *testing.T, conn net.Conn, size int) {
	t.Helper()
	raw, err := conn.(syscall.Conn).SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, size) }))
	must(t, err)
}

// receiver is a socket for UDP, with room for what a test sends.
func receiver(t *testing.T, ns, address string) (server net.PacketConn) {
	t.Helper()
	inNamespace(t, ns, func() (err error) {
		server, err = net.ListenPacket("udp", address)
		return err
	})
	t.Cleanup(func() { server.Close() })
	must(t, server.(*net.UDPConn).SetReadBuffer(1<<20))
	return server
}

// sender sends UDP to the address.
func sender(t *testing.T, ns, address string) (conn net.Conn) {
	t.Helper()
	inNamespace(t, ns, func() (err error) {
		conn, err = net.Dial("udp", address)
		return err
	})
	t.Cleanup(func() { conn.Close() })
	return conn
}

// arrive wants the content to arrive in datagrams of so many bytes.
func arrive(t *testing.T, server net.PacketConn, content []byte, size int) {
	t.Helper()
	got := make([]byte, 65536)
	must(t, server.SetReadDeadline(time.Now().Add(5*time.Second)))
	for at := 0; at < len(content); at += size {
		n, _, err := server.ReadFrom(got)
		if err != nil {
			t.Fatalf("byte %d of %d in segments of %d did not arrive: %v", at, len(content), size, err)
		}
		if want := content[at:min(at+size, len(content))]; !bytes.Equal(got[:n], want) {
			t.Fatalf("byte %d of %d in segments of %d: got %d bytes, want %d, or other ones", at, len(content), size, n, len(want))
		}
	}
}

// segmentedUDP sends what a kernel leaves in one piece as long as it can, and wants the datagrams that it stands for.
func segmentedUDP(t *testing.T, from, to, addr string) {
	server, conn := receiver(t, to, net.JoinHostPort(addr, "7004")), sender(t, from, net.JoinHostPort(addr, "7004"))
	longest := innerMTU - 28
	if strings.Contains(addr, ":") {
		longest = innerMTU - 48
	}
	for _, size := range []int{1, 64, 513, 1000, longest} {
		for _, segments := range []int{2, 3, 13, 45, 64} {
			content := make([]byte, min((segments-1)*size+(size+1)/2, 65000))
			rand.New(rand.NewSource(int64(size))).Read(content)
			inSegments(t, conn, size)
			_, err := conn.Write(content)
			must(t, err)
			arrive(t, server, content, size)
		}
	}
}

// What goes to a group goes to whoever takes it as it is, and to the others finished.
func TestGroupFromLinux(t *testing.T) {
	kernelPeer(t, peerWire)
	container(t, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24")
	run(t, containerNS, "ip route add 239.62.0.0/16 dev eth0")
	run(t, peerNS, "ip route add 239.62.0.0/16 dev vx0")
	var server net.PacketConn
	inNamespace(t, containerNS, func() (err error) {
		device, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		server, err = net.ListenMulticastUDP("udp4", device, &net.UDPAddr{IP: net.IPv4(239, 62, 0, 1), Port: 7005})
		return err
	})
	t.Cleanup(func() { server.Close() })
	conn := sender(t, peerNS, "239.62.0.1:7005")
	content := bytes.Repeat([]byte(payload), 100)
	_, err := conn.Write(content[:1000])
	must(t, err)
	arrive(t, server, content[:1000], 1000)
	inSegments(t, conn, 1000)
	_, err = conn.Write(content)
	must(t, err)
	arrive(t, server, content, 1000)
}

// Who sends a super-frame can't have it taken for packets of others', nor his packet for a super-frame of which others' are a part.
func TestSuperFrameLikePackets(t *testing.T) {
	if device := plane.Stats().Device; device != nil && device.Driver == "net_af_xdp" {
		return // it has Linux cut all before
	}
	kernelPeer(t, peerWire)
	container(t, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24")
	sock := rawSocket(t, containerNS)
	forged := vxlan(8, vni, udp4(t, peerMAC, "10.62.0.9", hostMAC, hostIP4))
	size := len(forged)
	mark := vxlan(8, vni, udp4(t, peerMAC, peerIP4, hostMAC, hostIP4))
	const headers = 8 + 14 + 20 + 8
	like := bytes.Repeat(forged, 5)

	conn := sender(t, peerNS, hostIP4+":9")
	inSegments(t, conn, size)
	drops(t, 1, func() {
		_, err := conn.Write(append(make([]byte, size-headers), like...))
		must(t, err)
	}, "underlay_ambiguous")

	vtep := sender(t, peerNS, "10.9.2.1:4789")
	inSegments(t, vtep, size)
	first := bytes.Clone(mark)
	binary.BigEndian.PutUint16(first[8+14+2:], uint16(6*size-8-14))
	binary.BigEndian.PutUint16(first[8+14+20+4:], uint16(6*size-8-14-20))
	sum := uint32(17 + 6*size - 8 - 14 - 20)
	for at := 8 + 14 + 12; at < 8+14+20; at += 2 {
		sum += uint32(binary.BigEndian.Uint16(first[at:]))
	}
	binary.BigEndian.PutUint16(first[8+14+20+6:], uint16(sum+sum>>16))
	drops(t, 1, func() {
		_, err := vtep.Write(append(first, like...))
		must(t, err)
	}, "underlay_ambiguous")

	_, err := vtep.Write(mark)
	must(t, err)
	if got := sock.receive(t); !bytes.Equal(got, mark[8:]) {
		t.Errorf("the container got\n%x, sent was\n%x", got, mark[8:])
	}
}
