package datapath_test

import (
	"bytes"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// marked is a packet to or from the peer with an ECN field.
func marked(t *testing.T, version, ecn int, inwards bool) []byte {
	t.Helper()
	if version == 4 {
		packet := udp4(t, hostMAC, hostIP4, peerMAC, peerIP4)
		if inwards {
			packet = udp4(t, peerMAC, peerIP4, hostMAC, hostIP4)
		}
		packet[15] |= byte(ecn)
		sum := uint32(packet[24])<<8 | uint32(packet[25])
		sum = ^sum & 0xffff
		sum += uint32(ecn)
		sum = ^(sum&0xffff + sum>>16) & 0xffff
		packet[24], packet[25] = byte(sum>>8), byte(sum)
		return packet
	}
	packet := tcp6(t, hostMAC, hostIP6, peerMAC, peerIP6)
	if inwards {
		packet = tcp6(t, peerMAC, peerIP6, hostMAC, hostIP6)
	}
	packet[15] |= byte(ecn << 4)
	return packet
}

func ecnOf(packet []byte) int {
	if packet[14]>>4 == 4 {
		return int(packet[15] & 3)
	}
	return int(packet[15] >> 4 & 3)
}

// RFC 6040: the mark goes out with the packet, and congestion comes in.
func TestCongestionMarks(t *testing.T) {
	must(t, plane.AddNetwork(vni, false))
	t.Cleanup(func() { must(t, plane.DelNetwork(vni)) })
	must(t, plane.SetMAC(vni, parseMAC(peerMAC), peerWire))
	container(t, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24", hostIP6+"/64")
	sock, peer := rawSocket(t, containerNS), vtepSocket(t)
	connection, err := peer.SyscallConn()
	must(t, err)
	control := func(f func(fd int) error) {
		must(t, connection.Control(func(fd uintptr) { err = f(int(fd)) }))
		must(t, err)
	}
	control(func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_RECVTOS, 1) })

	for _, version := range []int{4, 6} {
		for ecn := range 4 {
			sent := marked(t, version, ecn, false)
			sock.send(t, sent)
			if got := receiveTOS(t, control); got&3 != ecn {
				t.Errorf("IPv%d with mark %d went out with mark %d", version, ecn, got&3)
			}
		}
		for outer := range 4 {
			control(func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TOS, outer) })
			for inner := range 4 {
				send := func() {
					_, err := peer.WriteToUDPAddrPort(vxlan(8, vni, marked(t, version, inner, true)), netip.AddrPortFrom(hostWire, 4789))
					must(t, err)
				}
				want := inner
				if outer == 3 && inner == 0 {
					drops(t, 1, send, "ecn")
					continue
				}
				if outer == 3 || outer == 1 && inner == 2 {
					want = outer
				}
				send()
				got := sock.receive(t)
				if ecnOf(got) != want {
					t.Errorf("IPv%d with mark %d under %d came in with %d, want %d", version, inner, outer, ecnOf(got), want)
				}
				checkHeaderSum(t, got)
			}
		}
	}
}

// receiveTOS returns the outer traffic class of the next packet of the test.
func receiveTOS(t *testing.T, control func(func(int) error)) (tos int) {
	t.Helper()
	packet, oob := make([]byte, 65536), make([]byte, 64)
	waitFor(t, "a packet", func() bool {
		var n, oobn int
		control(func(fd int) (err error) {
			n, oobn, _, _, err = unix.Recvmsg(fd, packet, oob, unix.MSG_DONTWAIT)
			if err == unix.EAGAIN {
				return nil
			}
			return err
		})
		if !bytes.Contains(packet[:max(n, 0)], []byte(payload)) {
			return false
		}
		messages, err := unix.ParseSocketControlMessage(oob[:oobn])
		must(t, err)
		tos = int(messages[0].Data[0])
		return true
	})
	return tos
}

func checkHeaderSum(t *testing.T, packet []byte) {
	t.Helper()
	if packet[14]>>4 != 4 {
		return
	}
	sum := uint32(0)
	for i := 14; i < 34; i += 2 {
		sum += uint32(packet[i])<<8 | uint32(packet[i+1])
	}
	if sum = sum&0xffff + sum>>16; sum != 0xffff {
		t.Errorf("IPv4 header sums to %#x", sum)
	}
}
