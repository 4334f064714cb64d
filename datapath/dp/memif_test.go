//go:build dptest && soak

package dp

import (
	"net/netip"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The ends of a memif lose each other while a worker sends at full rate, and one looks for the other all the time. The last test
// of devices: a server that is closed is freed by its driver while its listener's callback stays registered. Now and then, once in ten
// runs with a sanitizer, EAL's interrupt thread ends the process over a descriptor when the ends are closed (DPDK 22.11).
func TestPeerLost(t *testing.T) {
	const vni = 4203
	bench()
	dir := t.TempDir()
	// The driver knows a socket by its path, and each for one role.
	server, err := OpenDevice("net_memif1,role=server,socket-abstract=no,socket=" + dir + "/cable")
	check(t, err)
	client, err := OpenDevice("net_memif0,role=client,socket-abstract=no,socket=" + dir + "/./cable")
	check(t, err)
	container, err := OpenDevice("net_pcap2,infinite_rx=1,rx_pcap=" + capture(t, flow{port: 1}.frame(t, 1, 1, 16, fill(1000))))
	check(t, err)
	check(t, AddNet(vni, false))
	vtep, err := AddVTEP(netip.MustParseAddrPort("192.0.2.4:4789"))
	check(t, err)
	check(t, SetNextHop(vtep, client, nextHopMAC))
	check(t, SetMACVTEP(vni, [6]byte(dstMAC), vtep))
	peer, err := AddPort(Port{VNI: vni, MAC: [6]byte{2, 9, 9, 9, 9, 1}, Device: &server})
	check(t, err)
	port, err := AddPort(Port{VNI: vni, MAC: [6]byte(srcMAC), Addrs: []netip.Addr{src4}, Device: &container})
	check(t, err)
	for range lossRounds {
		// The driver does not survive that a client goes before it was accepted.
		for tries := 0; !within(2*time.Second, func() bool { return linkUp(client) && linkUp(server) }); tries++ {
			if tries == 10 {
				t.Fatal("the ends don't find each other")
			}
			RestartDevice(client)
		}
		before, err := ReadDevice(server)
		check(t, err)
		if !within(30*time.Second, func() bool {
			now, err := ReadDevice(server)
			check(t, err)
			return now.RxPackets > before.RxPackets
		}) {
			t.Fatalf("nothing arrives; drops: %v", ReadStats().Drops)
		}
		loseSight(t)
		if !within(30*time.Second, func() bool { return !linkUp(client) }) {
			t.Fatal("the link is still up")
		}
		RestartDevice(client)
	}
	check(t, DelPort(port))
	check(t, DelPort(peer))
	check(t, DelMAC(vni, [6]byte(dstMAC)))
	check(t, DelVTEP(vtep))
	check(t, DelNet(vni))
	check(t, CloseDevice(container))
	check(t, CloseDevice(client))
	check(t, CloseDevice(server))
}

// loseSight ends the connection over which the ends of a memif speak, as the end of a process does.
func loseSight(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	check(t, err)
	for _, entry := range entries {
		fd, err := strconv.Atoi(entry.Name())
		check(t, err)
		if kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || kind != unix.SOCK_SEQPACKET {
			continue
		}
		if _, err := unix.Getpeername(fd); err == nil {
			unix.Shutdown(fd, unix.SHUT_RDWR)
			return
		}
	}
}
