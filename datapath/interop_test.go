package datapath_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

const (
	hostIP4 = "10.62.0.1"
	peerIP4 = "10.62.0.2"
	hostIP6 = "fd62::1"
	peerIP6 = "fd62::2"
)

// pairs are the ways between the container and the container that the Linux host stands for.
var pairs = []struct{ name, from, to, addr string }{
	{"IPv4 out", containerNS, peerNS, peerIP4},
	{"IPv4 in", peerNS, containerNS, hostIP4},
	{"IPv6 out", containerNS, peerNS, peerIP6},
	{"IPv6 in", peerNS, containerNS, hostIP6},
}

// kernelPeer makes the Linux vxlan device on the other side and tells the datapath what discovery would.
func kernelPeer(t testing.TB, vtep netip.AddrPort) {
	t.Helper()
	kernelPeerIn(t, peerNS, vtep)
}

func kernelPeerIn(t testing.TB, ns string, vtep netip.AddrPort) {
	t.Helper()
	remote := "10.9.2.1"
	if vtep.Addr().Is6() {
		remote = "fd09:2::1"
	}
	run(t, ns, fmt.Sprintf("ip link add vx0 address %s type vxlan id %d dstport 4789 local %s remote %s udpcsum udp6zerocsumrx && ip link set vx0 mtu %d up", peerMAC, vni, vtep.Addr(), remote, innerMTU))
	t.Cleanup(func() { run(t, ns, "ip link del vx0") })
	run(t, ns, "ip addr add "+peerIP4+"/24 dev vx0 && ip addr add "+peerIP6+"/64 dev vx0 nodad")
	must(t, plane.AddNetwork(vni, false))
	t.Cleanup(func() { must(t, plane.DelNetwork(vni)) })
	must(t, plane.AddVTEP(vni, vtep))
	must(t, plane.SetMAC(vni, parseMAC(peerMAC), vtep))
	must(t, plane.SetNeighbour(vni, netip.MustParseAddr(peerIP4), parseMAC(peerMAC), false))
	must(t, plane.SetNeighbour(vni, netip.MustParseAddr(peerIP6), parseMAC(peerMAC), false))
}

func TestInteropWithLinux(t *testing.T) {
	for name, vtep := range map[string]netip.AddrPort{"over IPv4": peerWire, "over IPv6": peerWire6} {
		t.Run(name, func(t *testing.T) {
			kernelPeer(t, vtep)
			container(t, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24", hostIP6+"/64")
			for _, pair := range pairs {
				t.Run("ping "+pair.name, func(t *testing.T) { pingEverySize(t, pair.from, pair.addr, innerMTU) })
				t.Run("TCP "+pair.name, func(t *testing.T) { copyBulk(t, pair.from, pair.to, pair.addr) })
				t.Run("TCP of every size "+pair.name, func(t *testing.T) { echoTCP(t, pair.from, pair.to, pair.addr) })
				t.Run("UDP "+pair.name, func(t *testing.T) { echoUDP(t, pair.from, pair.to, pair.addr, sizes(65507)...) })
				t.Run("UDP in segments "+pair.name, func(t *testing.T) { segmentedUDP(t, pair.from, pair.to, pair.addr) })
			}
			t.Run("on the wire", checkWire)
		})
	}
}

// pingEverySize pings with IP packets of 64 bytes to the MTU, and of one more: that one travels in fragments, and is
// refused where fragments are forbidden.
func pingEverySize(t *testing.T, ns, to string, mtu int) {
	network, headers := "ip4:icmp", 28
	if strings.Contains(to, ":") {
		network, headers = "ip6:ipv6-icmp", 48
	}
	var socket net.Conn
	inNamespace(t, ns, func() (err error) {
		socket, err = net.Dial(network, to)
		return err
	})
	defer socket.Close()
	for size := 64; size <= mtu+1; size++ {
		echo(t, socket.(*net.IPConn), size-headers)
	}
	out := run(t, ns, fmt.Sprintf(`ping -q -c 1 -W 0.2 -M do -s %d %s 2>&1 || true`, mtu+1-headers, to))
	if strings.Contains(out, "1 received") {
		t.Errorf("a packet longer than the MTU was carried whole: %s", out)
	}
}

// echo sends so many bytes in an ICMP echo request, and waits until they come back.
func echo(t *testing.T, socket *net.IPConn, size int) {
	t.Helper()
	content := make([]byte, size)
	rand.New(rand.NewSource(int64(size))).Read(content)
	buffer := gopacket.NewSerializeBuffer()
	request := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0), Id: uint16(os.Getpid()), Seq: uint16(size)}
	must(t, gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{ComputeChecksums: true}, request, gopacket.Payload(content)))
	sent, reply := buffer.Bytes(), byte(layers.ICMPv4TypeEchoReply)
	if socket.RemoteAddr().(*net.IPAddr).IP.To4() == nil { // ICMPv6's differs in its type, and in the checksum, which the kernel writes
		sent[0], reply = layers.ICMPv6TypeEchoRequest, layers.ICMPv6TypeEchoReply
	}
	_, err := socket.Write(sent)
	must(t, err)
	must(t, socket.SetDeadline(time.Now().Add(5*time.Second)))
	for got := make([]byte, 2048); ; {
		n, _, err := socket.ReadFrom(got)
		if err != nil {
			t.Fatalf("no echo of %d bytes from %s: %v", size, socket.RemoteAddr(), err)
		}
		if n > 4 && got[0] == reply && bytes.Equal(got[4:n], sent[4:]) {
			return
		}
	}
}

// copyBulk sends bytes through one TCP connection and compares their digest.
func copyBulk(t *testing.T, from, to, addr string) {
	var listener net.Listener
	inNamespace(t, to, func() (err error) {
		listener, err = net.Listen("tcp", net.JoinHostPort(addr, "7000"))
		return err
	})
	defer listener.Close()
	got := make(chan [32]byte, 1)
	go func() {
		digest := sha256.New()
		if conn, err := listener.Accept(); err == nil {
			io.Copy(digest, conn)
			conn.Close()
		}
		got <- [32]byte(digest.Sum(nil))
	}()
	var conn net.Conn
	inNamespace(t, from, func() (err error) {
		conn, err = net.DialTimeout("tcp", net.JoinHostPort(addr, "7000"), 5*time.Second)
		return err
	})
	must(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	sent := sha256.New()
	_, err := io.Copy(io.MultiWriter(conn, sent), io.LimitReader(rand.New(rand.NewSource(1)), bulkBytes))
	must(t, err)
	conn.Close()
	if digest := <-got; digest != [32]byte(sent.Sum(nil)) {
		t.Errorf("%d bytes to %s arrived changed", bulkBytes, addr)
	}
}

// echoUDP sends datagrams of sizes from empty to several fragments, and more, one after the other, and compares what comes back.
func echoUDP(t *testing.T, from, to, addr string, more ...int) {
	var server net.PacketConn
	inNamespace(t, to, func() (err error) {
		server, err = net.ListenPacket("udp", net.JoinHostPort(addr, "7001"))
		return err
	})
	defer server.Close()
	go func() {
		buffer := make([]byte, 65536)
		for {
			n, client, err := server.ReadFrom(buffer)
			if err != nil {
				return
			}
			server.WriteTo(buffer[:n], client)
		}
	}()
	var conn net.Conn
	inNamespace(t, from, func() (err error) {
		conn, err = net.Dial("udp", net.JoinHostPort(addr, "7001"))
		return err
	})
	defer conn.Close()
	source := rand.New(rand.NewSource(1))
	reply := make([]byte, 65536)
	for _, size := range append([]int{0, 1, 2, 17, 63, 64, 511, 1000, 1381, 1382, 1383, 1401, 1402, 1403, 4000, 20000}, more...) {
		sent := make([]byte, size)
		source.Read(sent)
		must(t, conn.SetDeadline(time.Now().Add(5*time.Second)))
		_, err := conn.Write(sent)
		must(t, err)
		n, err := conn.Read(reply)
		if err != nil {
			t.Fatalf("no echo of %d bytes from %s: %v", size, addr, err)
		}
		if !bytes.Equal(reply[:n], sent) {
			t.Errorf("%d bytes to %s came back changed", size, addr)
		}
	}
}
