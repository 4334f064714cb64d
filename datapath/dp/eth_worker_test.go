//go:build dptest

package dp

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"golang.org/x/sys/unix"
)

// within waits for a condition, and tells whether it came about in time.
func within(limit time.Duration, holds func() bool) bool {
	for deadline := time.Now().Add(limit); !holds(); time.Sleep(10 * time.Microsecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// awaitSent waits until a device has sent so many packets.
func awaitSent(t *testing.T, device uint32, n uint64) {
	t.Helper()
	var sent Traffic
	if !within(30*time.Second, func() bool {
		var err error
		sent, err = ReadDevice(device)
		check(t, err)
		return sent.TxPackets == n
	}) {
		t.Fatalf("%d of %d packets sent; drops: %v", sent.TxPackets, n, ReadStats().Drops)
	}
}

// capture is a file of frames for net_pcap.
func capture(t *testing.T, frames ...[]byte) string {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "in.pcap"))
	check(t, err)
	writer := pcapgo.NewWriter(file)
	check(t, writer.WriteFileHeader(65535, layers.LinkTypeEthernet))
	for _, frame := range frames {
		check(t, writer.WritePacket(gopacket.CaptureInfo{CaptureLength: len(frame), Length: len(frame)}, frame))
	}
	check(t, file.Close())
	return file.Name()
}

// A worker polls: what comes out of a capture leaves in VXLAN, whole and in order.
func TestWorkerPolls(t *testing.T) {
	const vni, n = 4202, 500
	bench()
	dir := t.TempDir()
	out := filepath.Join(dir, "out.pcap")
	var frames [][]byte
	for i := range n {
		frames = append(frames, flow{port: uint16(1000 + i)}.frame(t, uint16(i), 1, 16, make([]byte, i)))
	}
	in := capture(t, frames...)

	underlay, err := OpenDevice("net_pcap1,tx_pcap=" + out)
	check(t, err)
	container, err := OpenDevice("net_pcap0,rx_pcap=" + in)
	check(t, err)
	check(t, AddNet(vni, false))
	vtep, err := AddVTEP(netip.MustParseAddrPort("192.0.2.3:4789"))
	check(t, err)
	check(t, SetNextHop(vtep, underlay, nextHopMAC))
	check(t, SetMACVTEP(vni, [6]byte(dstMAC), vtep))
	port, err := AddPort(Port{VNI: vni, MAC: [6]byte(srcMAC), Addrs: []netip.Addr{src4}, Device: &container})
	check(t, err)
	awaitSent(t, underlay, n)
	// A tap's frame takes the place in the worker where one of the device's was, whose mbuf is gone.
	tapMAC := []byte{2, 0x42, 10, 0, 0, 4}
	tap, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0)
	check(t, err)
	other, err := AddPort(Port{VNI: vni, MAC: [6]byte(tapMAC), Addrs: []netip.Addr{src6}, FDs: []int{tap[0]}})
	check(t, err)
	last := slices.Concat(dstMAC, tapMAC, flow{v6: true, port: 1}.frame(t, 1, 1, 16, fill(100))[12:])
	_, err = unix.Write(tap[1], append(make([]byte, vnetLen), last...))
	check(t, err)
	frames = append(frames, last)
	awaitSent(t, underlay, n+1)
	check(t, DelPort(other))
	unix.Close(tap[0])
	unix.Close(tap[1])
	check(t, DelPort(port))
	check(t, DelMAC(vni, [6]byte(dstMAC)))
	check(t, DelVTEP(vtep))
	check(t, CloseDevice(container))
	check(t, CloseDevice(underlay))
	captured, err := os.Open(out)
	check(t, err)
	defer captured.Close()
	reader, err := pcapgo.NewReader(captured)
	check(t, err)
	for i, frame := range frames {
		packet, _, err := reader.ReadPacketData()
		check(t, err)
		if !bytes.Equal(packet[50:], frame) || packet[48] != vni&0xff {
			t.Fatalf("packet %d: %x", i, packet)
		}
	}
}
