package datapath_test

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"
)

const secondMAC, secondIP4, secondIP6 = "02:42:0a:3e:00:05", "10.62.0.5", "fd62::5"

// secondContainer makes a namespace for another container on the same host.
func secondContainer(t testing.TB) string {
	t.Helper()
	ns := fmt.Sprintf("ovtest%d-second", os.Getpid())
	must(t, exec.Command("ip", "netns", "add", ns).Run())
	t.Cleanup(func() { exec.Command("ip", "netns", "del", ns).Run() })
	return ns
}

// vtepSocket receives VXLAN as another host would, without a vxlan device.
func vtepSocket(t *testing.T) *net.UDPConn {
	t.Helper()
	var conn net.PacketConn
	inNamespace(t, peerNS, func() (err error) {
		conn, err = net.ListenPacket("udp", peerWire.String())
		return err
	})
	t.Cleanup(func() { conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	return conn.(*net.UDPConn)
}

// receiveVXLAN returns the next packet that carries the test's payload.
func receiveVXLAN(t *testing.T, conn *net.UDPConn) ([]byte, netip.AddrPort) {
	t.Helper()
	buffer := make([]byte, 65536)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buffer)
		must(t, err)
		if bytes.Contains(buffer[:n], []byte(payload)) {
			return buffer[:n], from
		}
	}
}

func TestContainersOfOneHost(t *testing.T) {
	second := secondContainer(t)
	must(t, plane.AddNetwork(vni, false))
	t.Cleanup(func() { must(t, plane.DelNetwork(vni)) })
	container(t, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24", hostIP6+"/64")
	container(t, second, "ovtest1", secondMAC, innerMTU, vni, secondIP4+"/24", secondIP6+"/64")
	for _, addr := range []string{secondIP4, secondIP6} {
		t.Run(addr, func(t *testing.T) {
			copyBulk(t, containerNS, second, addr)
			echoUDP(t, containerNS, second, addr)
		})
	}
}

func TestNetworksStayApart(t *testing.T) {
	const other = vni + 1
	second := secondContainer(t)
	for _, id := range []uint32{vni, other} {
		must(t, plane.AddNetwork(id, false))
		t.Cleanup(func() { must(t, plane.DelNetwork(id)) })
	}
	container(t, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24")
	container(t, second, "ovtest1", secondMAC, innerMTU, other, secondIP4+"/24")
	sock := rawSocket(t, containerNS)
	drops(t, 1, func() { sock.send(t, udp4(t, hostMAC, hostIP4, secondMAC, secondIP4)) }, "fdb_miss")
	drops(t, 1, func() { sock.send(t, arp(t, 1, hostMAC, hostIP4, secondIP4)) }, "arp_unknown")
}

// A group frame reaches every other container of the network here, and every VTEP that takes part, once each.
func TestGroupFramesReachAll(t *testing.T) {
	second := secondContainer(t)
	must(t, plane.AddNetwork(vni, false))
	t.Cleanup(func() { must(t, plane.DelNetwork(vni)) })
	must(t, plane.AddVTEP(vni, peerWire))
	container(t, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24")
	container(t, second, "ovtest1", secondMAC, innerMTU, vni, secondIP4+"/24")
	peer, neighbour, sock := vtepSocket(t), rawSocket(t, second), rawSocket(t, containerNS)

	for _, destination := range []string{"ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:fb"} {
		sent := udp4(t, hostMAC, hostIP4, destination, "224.0.0.251")
		sock.send(t, sent)
		if got := neighbour.receive(t); !bytes.Equal(got, sent) {
			t.Errorf("to %s the other container got\n%x, sent was\n%x", destination, got, sent)
		}
		got, from := receiveVXLAN(t, peer)
		if !bytes.Equal(got, vxlan(8, vni, sent)) {
			t.Errorf("to %s the other host got\n%x, sent was\n%x", destination, got, sent)
		}
		if from.Addr().Unmap() != hostWire || from.Port() < 49152 {
			t.Errorf("outer source %s: want %s and a dynamic port", from, hostWire)
		}
	}
}

// What comes from a VTEP goes to this host's containers and to no other VTEP.
func TestGroupFramesFromTheUnderlayStay(t *testing.T) {
	must(t, plane.AddNetwork(vni, false))
	t.Cleanup(func() { must(t, plane.DelNetwork(vni)) })
	must(t, plane.AddVTEP(vni, peerWire))
	must(t, plane.SetMAC(vni, parseMAC(peerMAC), peerWire))
	container(t, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24")
	sock, peer := rawSocket(t, containerNS), vtepSocket(t)
	sent := udp4(t, peerMAC, peerIP4, "ff:ff:ff:ff:ff:ff", "255.255.255.255")
	_, err := peer.WriteToUDPAddrPort(vxlan(8, vni, sent), netip.AddrPortFrom(hostWire, 4789))
	must(t, err)
	if got := sock.receive(t); !bytes.Equal(got, sent) {
		t.Errorf("the container got\n%x, sent was\n%x", got, sent)
	}
	marker := udp4(t, hostMAC, hostIP4, "ff:ff:ff:ff:ff:ff", "255.255.255.255")
	sock.send(t, marker)
	if got, _ := receiveVXLAN(t, peer); !bytes.Equal(got, vxlan(8, vni, marker)) {
		t.Errorf("a frame from the underlay went back to it: %x", got)
	}
}
