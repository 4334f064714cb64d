package datapath_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/overlane/overlane/datapath"
)

// farPeer puts a Linux host behind a router, the peer's namespace, and returns its own namespace. The way on carries 1400 bytes.
func farPeer(t *testing.T, vtep netip.AddrPort) (ns string) {
	t.Helper()
	ns = fmt.Sprintf("ovtest%d-far", os.Getpid())
	must(t, exec.Command("ip", "netns", "add", ns).Run())
	t.Cleanup(func() {
		run(t, peerNS, "ip link del onward") // the namespace may outlive its name for a while
		must(t, exec.Command("ip", "netns", "del", ns).Run())
	})
	run(t, peerNS, "ip link add onward type veth peer name back netns "+ns+" && ip link set onward mtu 1400 up && ip addr add 10.9.4.1/24 dev onward && ip addr add fd09:4::1/64 dev onward nodad")
	run(t, peerNS, "echo 1 >/proc/sys/net/ipv4/ip_forward && echo 1 >/proc/sys/net/ipv6/conf/all/forwarding")
	run(t, ns, "ip link set lo up && ip addr add 10.9.4.2/24 dev back && ip addr add fd09:4::2/64 dev back nodad && ip link set back up")
	run(t, ns, "ip route add default via 10.9.4.1 && ip route add default via fd09:4::1")
	for _, route := range []string{"10.9.4.0/24 via 10.9.2.2", "fd09:4::/64 via fd09:2::2"} {
		run(t, hostNS, "ip route add "+route)
		t.Cleanup(func() { run(t, hostNS, "ip route del "+route) })
	}
	kernelPeerIn(t, ns, vtep)
	return ns
}

// carries waits until the datapath has the path for one of so many bytes.
func carries(t *testing.T, vtep netip.AddrPort, mtu int) {
	t.Helper()
	waitFor(t, fmt.Sprintf("the path to %s to carry %d", vtep, mtu), func() bool { return pathMTU(vtep) == mtu })
}

func pathMTU(vtep netip.AddrPort) int {
	for _, path := range plane.Stats().Paths {
		if path.VTEP == vtep {
			return path.MTU
		}
	}
	return 0
}

// A container behind a path that carries less than its interface says reaches all with packets of every size, without a long silence.
func TestPathThatCarriesLess(t *testing.T) {
	for name, c := range map[string]struct {
		vtep       netip.AddrPort
		inner      int
		host, peer string
	}{
		"IPv4 over IPv4": {netip.MustParseAddrPort("10.9.4.2:4789"), 1350, hostIP4, peerIP4},
		"IPv6 over IPv6": {netip.MustParseAddrPort("[fd09:4::2]:4789"), 1330, hostIP6, peerIP6},
	} {
		t.Run(name, func(t *testing.T) {
			far := farPeer(t, c.vtep)
			container(t, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24", hostIP6+"/64")
			carries(t, c.vtep, 1500)
			before := plane.Stats().Drops["too_big"]
			began := time.Now()
			copyBulk(t, containerNS, far, c.peer)
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("TCP took %s", took)
			}
			if got := pathMTU(c.vtep); got != 1400 {
				t.Errorf("the path carries %d, want 1400", got)
			}
			if told := run(t, containerNS, "ip route get "+c.peer); !strings.Contains(told, fmt.Sprintf("mtu %d", c.inner)) {
				t.Errorf("the container's kernel has %q, want mtu %d", told, c.inner)
			}
			if plane.Stats().Drops["too_big"] == before {
				t.Error("nothing was counted")
			}
			run(t, far, fmt.Sprintf("ip link set vx0 mtu %d", c.inner)) // for the answers, of which Linux tells nobody
			echoUDP(t, containerNS, far, c.peer)
			// What may be fragmented is, where nobody has to be told.
			run(t, containerNS, fmt.Sprintf("ping -q -c 3 -i 0.05 -W 5 -M dont -s 1402 %s && ping -q -c 3 -i 0.05 -W 5 -M dont -s 8000 %s", peerIP4, peerIP4))
		})
	}
}

// The host's own routes and devices are followed as they change.
func TestPathFollowsRoutesAndDevices(t *testing.T) {
	vtep := netip.MustParseAddrPort("10.9.4.2:4789")
	farPeer(t, vtep)
	carries(t, vtep, 1500)
	run(t, hostNS, "ip route change 10.9.4.0/24 via 10.9.2.2 mtu 1300")
	carries(t, vtep, 1300)
	run(t, hostNS, "ip route change 10.9.4.0/24 via 10.9.2.2")
	carries(t, vtep, 1500)
	if plane.Stats().Device != nil {
		return // which an XDP program or DPDK holds at its MTU
	}
	run(t, hostNS, "ip link set wire mtu 1450")
	defer run(t, hostNS, "ip link set wire mtu 1500")
	carries(t, vtep, 1450)
}

// Whoever makes up ICMP messages can at most have a packet sent that nobody answers.
func TestForgedICMP(t *testing.T) {
	kernelPeer(t, peerWire)
	carries(t, peerWire, 1500)
	var to net.PacketConn
	inNamespace(t, peerNS, func() (err error) { to, err = net.ListenPacket("ip4:icmp", "10.9.2.2"); return err })
	defer to.Close()
	wire := rawSocketOn(t, peerNS, "wire")
	forge := func(message []byte) {
		t.Helper()
		_, err := to.WriteTo(message, &net.IPAddr{IP: hostWire.AsSlice()})
		must(t, err)
	}
	for _, message := range [][]byte{
		fragmentationNeeded(t, "10.9.2.9", "10.9.2.2", 4789, 1000, 1500), // another host's packet
		fragmentationNeeded(t, "10.9.2.1", "10.9.2.8", 4789, 1000, 1500), // to nobody we know
		fragmentationNeeded(t, "10.9.2.1", "10.9.2.2", 53, 1000, 1500),   // no VXLAN
		fragmentationNeeded(t, "10.9.2.1", "10.9.2.2", 4789, 1000, 900),  // that fits
		fragmentationNeeded(t, "10.9.2.1", "10.9.2.2", 4789, 1000, 1500)[:30],
		append(fragmentationNeeded(t, "10.9.2.1", "10.9.2.8", 4789, 1000, 1500), make([]byte, 1400)...),
	} {
		forge(message)
	}
	for range 2 { // the second is sent when the first one's time is over
		waitFor(t, "a probe", func() bool {
			forge(fragmentationNeeded(t, "10.9.2.1", "10.9.2.2", 4789, 1000, 1500))
			for {
				frame := wire.next(t)
				udp, ok := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Lazy).TransportLayer().(*layers.UDP)
				if ok && udp.DstPort == 4789 && len(frame) == 14+1500 {
					return true
				}
				if len(frame) > 34 && frame[23] == 1 { // what was just forged: no probe yet
					return false
				}
			}
		})
		if mtu := pathMTU(peerWire); mtu != 1500 {
			t.Fatalf("the path carries %d after forged messages", mtu)
		}
	}
}

// fragmentationNeeded is the message that a router would send of a VXLAN packet of so many bytes.
func fragmentationNeeded(t testing.TB, from, to string, port layers.UDPPort, mtu uint16, length int) []byte {
	ip := &layers.IPv4{Version: 4, TTL: 60, Protocol: layers.IPProtocolUDP, SrcIP: net.ParseIP(from), DstIP: net.ParseIP(to), Flags: layers.IPv4DontFragment}
	udp := &layers.UDP{SrcPort: 50000, DstPort: port}
	buffer := gopacket.NewSerializeBuffer()
	must(t, udp.SetNetworkLayerForChecksum(ip))
	must(t, gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, udp, gopacket.Payload(make([]byte, length-28))))
	quoted := buffer.Bytes()[:28]
	buffer = gopacket.NewSerializeBuffer()
	icmp := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4CodeFragmentationNeeded), Seq: mtu}
	must(t, gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{ComputeChecksums: true}, icmp, gopacket.Payload(quoted)))
	return buffer.Bytes()
}

func TestHints(t *testing.T) {
	message := fragmentationNeeded(t, "10.9.2.1", "10.9.2.2", 4789, 1400, 1500)
	to, mtu, ok := datapath.ParseHint(message, hostWire)
	if !ok || to != peerWire || mtu != 1400 {
		t.Errorf("%s %d %v", to, mtu, ok)
	}
	for n := range message[:len(message)-4] {
		if _, _, ok := datapath.ParseHint(message[:n], hostWire); ok {
			t.Errorf("a message cut to %d bytes is taken", n)
		}
	}
	quoted := append(append([]byte{0x60, 0, 0, 0, 0x05, 0xb4, 17, 60}, netip.MustParseAddr("fd09:2::1").AsSlice()...), netip.MustParseAddr("fd09:2::2").AsSlice()...)
	six := append(append([]byte{2, 0, 0, 0, 0, 0, 0x05, 0x78}, quoted...), 0xc3, 0x50, 0x12, 0xb5, 0, 0, 0, 0)
	to, mtu, ok = datapath.ParseHint(six, netip.MustParseAddr("fd09:2::1"))
	if !ok || to != peerWire6 || mtu != 1400 {
		t.Errorf("%s %d %v", to, mtu, ok)
	}
}

func FuzzHints(f *testing.F) {
	f.Add(fragmentationNeeded(f, "10.9.2.1", "10.9.2.2", 4789, 1400, 1500), true)
	f.Add(append([]byte{2, 0, 0, 0, 0, 0, 0x05, 0x78, 0x60}, make([]byte, 60)...), false)
	f.Fuzz(func(t *testing.T, message []byte, four bool) {
		own := hostWire
		if !four {
			own = netip.MustParseAddr("fd09:2::1")
		}
		if to, mtu, ok := datapath.ParseHint(message, own); ok && (to.Addr().Is4() != four || mtu < 0 || mtu > 65536) {
			t.Errorf("%s %d", to, mtu)
		}
	})
}

func FuzzErrorQueue(f *testing.F) {
	extended := binary.NativeEndian.AppendUint32(nil, 90)
	f.Add(append(extended, make([]byte, 12)...))
	f.Fuzz(func(t *testing.T, control []byte) {
		if mtu, _ := datapath.TooLong(control); mtu < 0 || mtu > 65535 {
			t.Error(mtu)
		}
	})
}

// A host that receives less than this one sends hears all, although what lies between says nothing.
func TestHostThatReceivesLess(t *testing.T) {
	if plane.Stats().Device != nil {
		return // its MTU is that of the day on which it was opened
	}
	run(t, hostNS, "ip link set wire mtu 9000")
	defer run(t, hostNS, "ip link set wire mtu 1500")
	kernelPeer(t, peerWire)
	container(t, containerNS, "ovtest0", hostMAC, 8950, vni, hostIP4+"/24", hostIP6+"/64")
	carries(t, peerWire, 9000)
	onHost(func() { plane.SetReceiveMTUs(map[netip.AddrPort]int{peerWire: 1480}) })
	defer onHost(func() { plane.SetReceiveMTUs(nil) })
	carries(t, peerWire, 1480)
	run(t, containerNS, "ping -q -c 3 -i 0.05 -W 5 -M dont -s 4000 "+peerIP4)
	copyBulk(t, containerNS, peerNS, peerIP4)
	copyBulk(t, containerNS, peerNS, peerIP6)
	onHost(func() { plane.SetReceiveMTUs(map[netip.AddrPort]int{peerWire: 100}) }) // no host means that
	carries(t, peerWire, 9000)
}
