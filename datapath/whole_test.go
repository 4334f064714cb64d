package datapath_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overlane/overlane/datapath"
)

// ownTap says whether this run is one with a tap for super-frames.
func ownTap() bool { return os.Getenv(underlayEnv) == datapath.UnderlayTun }

// whole is how many super-frames have left in one piece.
func whole() uint64 { return plane.Stats().Whole.Packets }

// cut is why super-frames to the VTEP do not; empty when they do.
func cut(vtep netip.AddrPort) string {
	for _, path := range plane.Stats().Paths {
		if path.VTEP == vtep {
			return path.Cut
		}
	}
	return "no path"
}

// ownPeer is the peer's address in the family of this host's.
func ownPeer() netip.AddrPort {
	if ownVTEP().Is6() {
		return peerWire6
	}
	return peerWire
}

// What a container sends in super-frames crosses a virtual wire in them, and arrives unchanged.
func TestSuperFramesStayWhole(t *testing.T) {
	if !ownTap() {
		return
	}
	kernelPeer(t, ownPeer())
	container(t, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24", hostIP6+"/64")
	for _, addr := range []string{peerIP4, peerIP6} {
		before, packets, bytes := whole(), received(t, peerNS, "wire", "packets"), received(t, peerNS, "wire", "bytes")
		copyBulk(t, containerNS, peerNS, addr)
		packets, bytes = received(t, peerNS, "wire", "packets")-packets, received(t, peerNS, "wire", "bytes")-bytes
		if whole() == before || bytes/packets < 2*1500 {
			t.Errorf("TCP to %s: %d super-frames in one piece, %d bytes in %d packets on the wire", addr, whole()-before, bytes, packets)
		}
	}
}

// received is a counter of a device.
func received(t *testing.T, ns, device, what string) (n uint64) {
	t.Helper()
	_, err := fmt.Sscan(run(t, ns, "cat /sys/class/net/"+device+"/statistics/rx_"+what), &n)
	must(t, err)
	return n
}

// A device behind that can do nothing has the kernel cut them up, and compute all checksums, by what the tap was told. The receiver's kernel
// looks at each.
func TestSuperFramesAreCutUpByTheKernel(t *testing.T) {
	if !ownTap() {
		return
	}
	vtep := netip.MustParseAddrPort("10.9.4.2:4789")
	if ownVTEP().Is6() {
		vtep = netip.MustParseAddrPort("[fd09:4::2]:4789")
	}
	far := farPeer(t, vtep)
	run(t, peerNS, "ip link set onward mtu 1500 && ethtool -K onward tx off gso off")
	run(t, far, "ethtool -K back gro off rx off")
	container(t, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24", hostIP6+"/64")
	for _, addr := range []string{peerIP4, peerIP6} {
		before, packets, bytes := whole(), received(t, far, "back", "packets"), received(t, far, "back", "bytes")
		copyBulk(t, containerNS, far, addr)
		segmentedUDP(t, containerNS, far, addr)
		packets, bytes = received(t, far, "back", "packets")-packets, received(t, far, "back", "bytes")-bytes
		if whole() == before || bytes/packets > 1500 {
			t.Errorf("to %s: %d super-frames in one piece, %d bytes in %d packets behind", addr, whole()-before, bytes, packets)
		}
	}
}

// Datagrams of a flow keep their order, those alone and those in super-frames.
func TestSuperFramesKeepOrder(t *testing.T) {
	if !ownTap() {
		return
	}
	kernelPeer(t, ownPeer())
	container(t, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24", hostIP6+"/64")
	for _, addr := range []string{peerIP4, peerIP6} {
		before := whole()
		receiver, sender := udpPair(t, containerNS, peerNS, addr)
		next := uint32(0)
		for burst := range 200 {
			end := next + uint32(1+burst%2*15)
			segments := make([]byte, 0, 16*1000)
			for sent := next; sent < end; sent++ {
				segments = append(binary.BigEndian.AppendUint32(segments, sent), make([]byte, 996)...)
			}
			_, err := sender.Write(segments)
			must(t, err)
			for ; next < end; next++ {
				got := make([]byte, 2000)
				n, err := receiver.Read(got)
				must(t, err)
				if n != 1000 || binary.BigEndian.Uint32(got) != next {
					t.Fatalf("to %s: datagram %d of %d bytes in the place of %d", addr, binary.BigEndian.Uint32(got), n, next)
				}
			}
		}
		// The last is counted after it has gone.
		waitFor(t, "100 super-frames in one piece to "+addr, func() bool { return whole()-before >= 100 })
	}
}

// Over IPv6 routers may choose the path by the flow label: super-frames and single packets have the same.
func TestSuperFramesHaveNoFlowLabel(t *testing.T) {
	if !ownTap() || ownVTEP().Is4() {
		return
	}
	kernelPeer(t, ownPeer())
	container(t, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24", hostIP6+"/64")
	wire := rawSocketOn(t, peerNS, "wire")
	_, sender := udpPair(t, containerNS, peerNS, peerIP4)
	for _, size := range []int{1000, 16000} {
		_, err := sender.Write(make([]byte, size))
		must(t, err)
	}
	const toVXLAN = 14 + 40 + 2
	for single, super := false, false; !single || !super; {
		packet := wire.next(t)
		if len(packet) < 1000 || binary.BigEndian.Uint16(packet[12:]) != unix.ETH_P_IPV6 || binary.BigEndian.Uint16(packet[toVXLAN:]) != 4789 {
			continue
		}
		if label := binary.BigEndian.Uint32(packet[14:]) & 0xfffff; label != 0 {
			t.Fatalf("a packet of %d bytes has flow label %#x", len(packet), label)
		}
		single, super = single || len(packet) < 2000, super || len(packet) > 2000
	}
}

// udpPair is a receiver, and a sender whose longer payloads are cut into datagrams of 1000 bytes.
func udpPair(t *testing.T, from, to, addr string) (receiver, sender *net.UDPConn) {
	t.Helper()
	inNamespace(t, to, func() (err error) {
		receiver, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(addr), 7001)))
		return err
	})
	t.Cleanup(func() { receiver.Close() })
	inNamespace(t, from, func() (err error) {
		sender, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(addr), 7001)))
		return err
	})
	t.Cleanup(func() { sender.Close() })
	raw, err := sender.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, 1000) }))
	must(t, err)
	must(t, receiver.SetDeadline(time.Now().Add(10*time.Second)))
	return receiver, sender
}

// Where the device can't cut super-frames up inside of VXLAN, and where the tap is down, the sockets send them; so they do where
// the host has IPsec or the route is none for the tap.
func TestSuperFramesFallBack(t *testing.T) {
	if !ownTap() {
		return
	}
	kernelPeer(t, ownPeer())
	container(t, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24", hostIP6+"/64")
	tap := plane.Stats().Whole.Tap
	policy := "ip xfrm policy %s src ::/0 dst 2001:db8::/32 dir out"
	rule := "ip rule %s ipproto udp dport 4444 lookup main; ip route add 10.99.0.0/24 dev wire; ip route del 10.99.0.0/24" // of a route the kernel tells
	other := "ip link add other type veth peer name another && ip link set another up && ip addr add 10.9.5.1/24 dev other && ip addr add fd09:5::1/64 dev other nodad && ip link set other up && "
	gateway := map[bool]string{true: "10.9.5.2", false: "fd09:5::2"}[ownVTEP().Is4()]
	for _, c := range []struct {
		because, begin, end string
		carries             bool // then too
	}{
		{"tx-udp_tnl-segmentation", "ethtool -K wire tx-udp_tnl-segmentation off", "ethtool -K wire tx-udp_tnl-segmentation on", true},
		{tap + " is gone or down", "ip link set " + tap + " down", "ip link set " + tap + " up", true},
		{"IPsec", fmt.Sprintf(policy, "add") + " action block", fmt.Sprintf(policy, "del"), true},
		{"ip rule", fmt.Sprintf(rule, "add"), fmt.Sprintf(rule, "del"), true},
		{"several next hops", other + fmt.Sprintf("ip route add %s nexthop via %s dev wire nexthop via %s dev other", ownPeer().Addr(), ownPeer().Addr().Next(), gateway), "ip link del other; ip route del " + ownPeer().Addr().String() + " 2>/dev/null || true", false},
		{"no route", "ip route add unreachable " + ownPeer().Addr().String(), "ip route del unreachable " + ownPeer().Addr().String(), false},
	} {
		waitFor(t, "super-frames to stay whole before: "+c.because, func() bool { return cut(ownPeer()) == "" })
		run(t, hostNS, c.begin)
		waitFor(t, "them to be cut up: "+c.because, func() bool { return strings.Contains(cut(ownPeer()), c.because) })
		before := whole()
		if c.carries {
			copyBulk(t, containerNS, peerNS, peerIP4)
		}
		if whole() != before {
			t.Errorf("%d super-frames in one piece: %s", whole()-before, cut(ownPeer()))
		}
		run(t, hostNS, c.end)
	}
	waitFor(t, "super-frames to stay whole again", func() bool { return cut(ownPeer()) == "" })
	before := whole()
	copyBulk(t, containerNS, peerNS, peerIP4)
	if whole() == before {
		t.Error("super-frames stay whole, and none does")
	}
}

// Without being asked for, super-frames stay whole for those hosts alone that take them so; a host of an older version never gets them.
func TestSuperFramesGoToWhoTakesThem(t *testing.T) {
	kind := os.Getenv(underlayEnv)
	if kind != "" && !ownTap() {
		return
	}
	if s := plane.Stats(); s.Whole == nil {
		if !strings.Contains(s.Cut, "Linux 6.17") {
			t.Errorf("all are cut up, and why is %q", s.Cut)
		}
		return
	}
	kernelPeer(t, ownPeer())
	container(t, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24", hostIP6+"/64")
	defer plane.SetTakeWhole(nil)
	for _, c := range []struct {
		takes map[netip.AddrPort]bool
		cut   string
	}{
		{nil, map[string]string{"": "does not say", datapath.UnderlayTun: ""}[kind]},
		{map[netip.AddrPort]bool{ownPeer(): true}, ""},
		{map[netip.AddrPort]bool{ownPeer(): false}, "version"},
	} {
		plane.SetTakeWhole(c.takes)
		if got := cut(ownPeer()); !strings.Contains(got, c.cut) || got != "" && c.cut == "" {
			t.Errorf("%v: cut up because of %q, want %q", c.takes, got, c.cut)
		}
		before := whole()
		copyBulk(t, containerNS, peerNS, peerIP4)
		if left := whole() - before; (left > 0) != (c.cut == "") {
			t.Errorf("%v: %d super-frames left in one piece", c.takes, left)
		}
	}
}

// A flow that fills what a slow device leaves room for stops no other's super-frames.
func TestSuperFramesOfSlowFlow(t *testing.T) {
	if !ownTap() {
		return
	}
	kernelPeer(t, ownPeer())
	container(t, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24", hostIP6+"/64")
	waitFor(t, "super-frames to stay whole", func() bool { return cut(ownPeer()) == "" })
	run(t, containerNS, "ping -q -c 1 "+peerIP4)
	run(t, hostNS, "tc qdisc add dev wire root tbf rate 1mbit burst 100k limit 200m")
	defer run(t, hostNS, "tc qdisc del dev wire root")
	slow := sender(t, containerNS, peerIP4+":9")
	inSegments(t, slow, 1000)
	full := plane.Stats().Drops["underlay_full"]
	waitFor(t, "a flow to be slowed down", func() bool {
		slow.Write(make([]byte, 16000))
		return plane.Stats().Drops["underlay_full"] > full
	})
	before := whole()
	const others = 32
	for range others {
		other := sender(t, containerNS, peerIP4+":9")
		inSegments(t, other, 1000)
		_, err := other.Write(make([]byte, 16000))
		must(t, err)
	}
	waitFor(t, "super-frames of other flows to leave", func() bool { return whole()-before >= others/2 })
}

// The tap and what is on it go with the process, and nothing is on the host's devices.
func TestSuperFramesLeaveNothing(t *testing.T) {
	if !ownTap() {
		return
	}
	if out := run(t, hostNS, "ip -d link show "+plane.Stats().Whole.Tap); !strings.Contains(out, "persist off") || !strings.Contains(out, "NO-CARRIER") {
		t.Errorf("the tap stays, or speaks: %s", out)
	}
	if out := run(t, hostNS, "tc qdisc show dev wire; tc filter show dev wire ingress; tc filter show dev wire egress; ip rule; ip route show table all type unicast"); strings.Contains(out, "clsact") || strings.Contains(out, "overlane") {
		t.Errorf("left on the host: %s", out)
	}
}
