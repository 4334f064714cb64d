//go:build dptest

package dp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"
)

const (
	ethVNI    = 4201
	vxlanPort = 4789
)

var (
	ethPeer    = netip.MustParseAddr("192.0.2.2")
	ethOwn     = netip.MustParseAddr("127.0.0.1") // the bench's VTEP
	nextHopMAC = [6]byte{2, 0, 0, 0, 0, 2}
)

// devices is a network of its own: one container on a device, one behind a VTEP that another device leads to.
type devices struct {
	port, vtep           uint32
	container, underlay  uint32
	underlayMAC, notOurs [6]byte
}

var onDevices = sync.OnceValue(func() (d devices) {
	try := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	bench()
	setVXLANPort(vxlanPort)
	var err error
	d.container, err = OpenDevice("net_null0,no-rx=1")
	try(err)
	d.underlay, err = OpenDevice("net_null1,no-rx=1")
	try(err)
	d.underlayMAC, d.notOurs = deviceMAC(d.underlay), [6]byte{2, 9, 9, 9, 9, 9}
	try(AddNet(ethVNI, false))
	d.port, err = AddPort(Port{VNI: ethVNI, MAC: [6]byte(srcMAC), Addrs: []netip.Addr{src4, src6}, Device: &d.container})
	try(err)
	d.vtep, err = AddVTEP(netip.AddrPortFrom(ethPeer, vxlanPort))
	try(err)
	try(SetNextHop(d.vtep, d.underlay, nextHopMAC))
	try(SetMACPort(ethVNI, [6]byte(srcMAC), d.port))
	try(SetMACVTEP(ethVNI, [6]byte(dstMAC), d.vtep))
	try(SetNeighbour(ethVNI, dst4, [6]byte(dstMAC), false))
	try(SetNeighbour(ethVNI, dst6, [6]byte(dstMAC), false))
	try(SetFlood(ethVNI, []uint32{d.port}, []uint32{d.vtep}))
	return d
})

// outer is what is around a frame on the wire.
type outer struct {
	srcMAC, dstMAC [6]byte
	src, dst       netip.Addr
	srcPort        uint16
	tos            uint8
	checksum       bool // of UDP
}

func (o outer) packet(t testing.TB, frame []byte) []byte {
	t.Helper()
	udp := &layers.UDP{SrcPort: layers.UDPPort(o.srcPort), DstPort: vxlanPort}
	ether := &layers.Ethernet{SrcMAC: o.srcMAC[:], DstMAC: o.dstMAC[:], EthernetType: layers.EthernetTypeIPv4}
	var ip interface {
		gopacket.SerializableLayer
		gopacket.NetworkLayer
	} = &layers.IPv4{Version: 4, TOS: o.tos, TTL: 64, Flags: layers.IPv4DontFragment, Protocol: layers.IPProtocolUDP, SrcIP: o.src.AsSlice(), DstIP: o.dst.AsSlice()}
	checksum := 40
	if o.src.Is6() {
		ether.EthernetType = layers.EthernetTypeIPv6
		ip = &layers.IPv6{Version: 6, TrafficClass: o.tos, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: o.src.AsSlice(), DstIP: o.dst.AsSlice()}
		checksum = 60
	}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	buffer := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		ether, ip, udp, &layers.VXLAN{ValidIDFlag: true, VNI: ethVNI}, gopacket.Payload(frame))
	if err != nil {
		t.Fatal(err)
	}
	packet := buffer.Bytes()
	if !o.checksum {
		packet[checksum], packet[checksum+1] = 0, 0
	}
	return packet
}

// inwards is what the peer sends back.
func (d devices) inwards() outer {
	return outer{srcMAC: nextHopMAC, dstMAC: d.underlayMAC, src: ethPeer, dst: ethOwn, srcPort: 50000}
}

// outwards is what our packets look like for a frame.
func (d devices) outwards(frame []byte, tos uint8) outer {
	return outer{srcMAC: d.underlayMAC, dstMAC: nextHopMAC, src: ethOwn, dst: ethPeer, srcPort: uint16(49152 | flowHash(frame)&0x3fff), tos: tos}
}

// Every byte of the outer headers is as another's code writes it, and the mbuf that came in is the one that leaves.
func TestDeviceEncap(t *testing.T) {
	d := onDevices()
	ports := map[uint16]bool{}
	for port := uint16(1000); port < 1064; port++ {
		for _, f := range []flow{{port: port}, {port: port, udp: true}, {port: port, v6: true}, {port: port, v6: true, udp: true}} {
			for ecn := range uint8(4) {
				f.tos = 0x28 | ecn
				frame := f.frame(t, 1, 1, 16, make([]byte, port%97))
				got := fromPort(d.port, d.underlay, frame)
				if want := d.outwards(frame, ecn).packet(t, frame); !bytes.Equal(got.frame, want) || !got.zeroCopy {
					t.Fatalf("%+v: zeroCopy %v,\n got %x\nwant %x", f, got.zeroCopy, got.frame, want)
				}
				ports[uint16(got.frame[34])<<8|uint16(got.frame[35])] = true
			}
		}
	}
	if len(ports) < 200 {
		t.Errorf("256 flows leave from %d source ports", len(ports))
	}
}

// Broadcast leaves in a copy, since each receiver would write its own headers; a question is answered to its port.
func TestDeviceGroups(t *testing.T) {
	d := onDevices()
	frame := flow{udp: true}.frame(t, 1, 1, 0, make([]byte, 20))
	copy(frame, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	got := fromPort(d.port, d.underlay, frame)
	if want := d.outwards(frame, 0).packet(t, frame); !bytes.Equal(got.frame, want) || got.zeroCopy {
		t.Errorf("broadcast: zeroCopy %v,\n got %x\nwant %x", got.zeroCopy, got.frame, want)
	}
	answer := fromPort(d.port, d.container, examples(t)["ARP"]).frame
	if len(answer) != 42 || answer[21] != 2 || !bytes.Equal(answer[22:28], dstMAC) {
		t.Errorf("answer to ARP: %x", answer)
	}
}

func TestDeviceDecap(t *testing.T) {
	d := onDevices()
	for name, frame := range examples(t) {
		frame = back(frame)
		for _, checksum := range []bool{false, true} {
			o := d.inwards()
			o.checksum = checksum
			got := fromUnderlay(d.underlay, d.container, o.packet(t, frame))
			if !bytes.Equal(got.frame, frame) || got.zeroCopy != (frame[0]&1 == 0) {
				t.Errorf("%s, UDP checksum %v: zeroCopy %v,\n got %x\nwant %x", name, checksum, got.zeroCopy, got.frame, frame)
			}
		}
	}
	// Options are passed over.
	packet := d.inwards().packet(t, back(examples(t)["TCP over IPv4"]))
	options := slices.Concat(packet[:34], []byte{1, 1, 1, 0}, packet[34:])
	options[14], options[17] = 0x46, options[17]+4
	sumIP(options, 24)
	if got := fromUnderlay(d.underlay, d.container, options); !bytes.Equal(got.frame, packet[50:]) {
		t.Errorf("outer IPv4 options: got %x", got.frame)
	}
}

// sumIP makes the outer IPv4 checksum right again.
func sumIP(packet []byte, length int) {
	packet[24], packet[25] = 0, 0
	sum := ^csumFold(packet[14:14+length], 0)
	packet[24], packet[25] = byte(sum), byte(sum>>8)
}

func TestDeviceDecapDrops(t *testing.T) {
	d := onDevices()
	frame := back(flow{}.frame(t, 1, 1, 16, make([]byte, 100)))
	for _, c := range []struct {
		what, drop string
		edit       func(p []byte)
	}{
		{"MAC of someone else", "underlay_foreign", func(p []byte) { copy(p, d.notOurs[:]) }},
		{"IPv6", "underlay_foreign", func(p []byte) { p[12], p[13], p[14] = 0x86, 0xdd, 0x60 }},
		{"IPv6 in name alone", "underlay_malformed", func(p []byte) { p[12], p[13] = 0x86, 0xdd }},
		{"another protocol", "underlay_foreign", func(p []byte) { p[23] = 6 }},
		{"another address", "underlay_foreign", func(p []byte) { p[33]++ }},
		{"another port", "underlay_foreign", func(p []byte) { p[37]++ }},
		{"version 5", "underlay_malformed", func(p []byte) { p[14] = 0x55 }},
		{"header of 16 bytes", "underlay_malformed", func(p []byte) { p[14] = 0x44 }},
		{"total length behind the end", "underlay_malformed", func(p []byte) { p[16] = 0xff }},
		{"total length inside of the UDP header", "underlay_malformed", func(p []byte) { p[16], p[17] = 0, 27 }},
		{"UDP length behind the end", "underlay_malformed", func(p []byte) { p[38] = 0xff }},
		{"UDP length inside of its header", "underlay_malformed", func(p []byte) { p[38], p[39] = 0, 7 }},
		{"first fragment", "underlay_fragment", func(p []byte) { p[20] = 0x20 }},
		{"last fragment", "underlay_fragment", func(p []byte) { p[20], p[21] = 0, 1 }},
		{"UDP checksum", "underlay_checksum", func(p []byte) { p[41] = 1 }},
		{"unknown VTEP", "vtep_unknown", func(p []byte) { p[29]++ }},
		{"no I flag", "vxlan_flags", func(p []byte) { p[42] = 0 }},
		{"unknown VNI", "vni_unknown", func(p []byte) { p[46] = 0xee }},
		{"unknown source", "src_unknown", func(p []byte) { p[61]++ }},
		{"unknown destination", "fdb_miss", func(p []byte) { p[54]++ }},
		{"destination on the other host", "not_local", func(p []byte) { copy(p[50:], dstMAC) }},
		{"our own MAC from outside", "spoofed_mac", func(p []byte) { copy(p[56:], srcMAC) }},
		{"VLAN", "vlan", func(p []byte) { p[62], p[63] = 0x81, 0 }},
		{"inner length", "malformed", func(p []byte) { p[66] = 0xff }},
		{"congestion that cannot be told", "ecn", func(p []byte) { p[15] = 3 }},
	} {
		packet := d.inwards().packet(t, frame)
		c.edit(packet)
		sumIP(packet, 20)
		before, all := harnessDrop(c.drop), harnessDrops()
		if got := fromUnderlay(d.underlay, d.container, packet); len(got.frame) > 0 || harnessDrop(c.drop) != before+1 || harnessDrops() != all+1 {
			t.Errorf("%s: %d bytes delivered, %s counted %d times, all drops %d", c.what, len(got.frame), c.drop, harnessDrop(c.drop)-before, harnessDrops()-all)
		}
	}
	packet := d.inwards().packet(t, frame)
	packet[25]++
	before := harnessDrop("underlay_checksum")
	if fromUnderlay(d.underlay, d.container, packet); harnessDrop("underlay_checksum") != before+1 {
		t.Error("a wrong IPv4 checksum was taken")
	}
}

// Both ways, cut short at every byte: nothing is touched behind the end, and each packet is counted or leaves.
func TestDeviceCutShort(t *testing.T) {
	d := onDevices()
	for name, frame := range examples(t) {
		t.Run(name, func(t *testing.T) {
			packet := d.inwards().packet(t, back(frame))
			for n := range packet {
				before := harnessDrops()
				if got := fromUnderlay(d.underlay, d.container, packet[:n]); len(got.frame) > 0 || harnessDrops() != before+1 {
					t.Fatalf("in, cut to %d of %d bytes: %d bytes delivered, %d drops", n, len(packet), len(got.frame), harnessDrops()-before)
				}
			}
			for n := range frame {
				before := harnessDrops()
				out := d.underlay
				if name == "ARP" || name == "solicitation" {
					out = d.container
				}
				if got := fromPort(d.port, out, frame[:n]); len(got.frame) == 0 && harnessDrops() == before {
					t.Fatalf("out, cut to %d of %d bytes: neither counted nor sent", n, len(frame))
				}
			}
		})
	}
}

// Over IPv6 too, where the checksum of UDP is not left out.
func TestDeviceIPv6(t *testing.T) {
	d := onDevices()
	own, peer := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	setOwnVTEP(own)
	defer setOwnVTEP(ethOwn)
	vtep, err := AddVTEP(netip.AddrPortFrom(peer, vxlanPort))
	check(t, err)
	check(t, SetNextHop(vtep, d.underlay, nextHopMAC))
	check(t, SetMACVTEP(ethVNI, [6]byte(dstMAC), vtep))
	defer func() {
		check(t, SetMACVTEP(ethVNI, [6]byte(dstMAC), d.vtep))
		check(t, DelVTEP(vtep))
	}()
	for name, frame := range examples(t) {
		if name == "ARP" || name == "solicitation" {
			continue
		}
		for ecn := range uint8(4) {
			got := fromPort(d.port, d.underlay, frame)
			want := outer{srcMAC: d.underlayMAC, dstMAC: nextHopMAC, src: own, dst: peer, checksum: true,
				srcPort: uint16(got.frame[54])<<8 | uint16(got.frame[55]), tos: got.frame[14]<<4 | got.frame[15]>>4}.packet(t, frame)
			if !bytes.Equal(got.frame, want) || got.frame[54] < 0xc0 {
				t.Fatalf("%s:\n got %x\nwant %x", name, got.frame, want)
			}
			in := outer{srcMAC: nextHopMAC, dstMAC: d.underlayMAC, src: peer, dst: own, srcPort: 50000, checksum: ecn&1 > 0, tos: 2}
			packet := in.packet(t, back(frame))
			if got := fromUnderlay(d.underlay, d.container, packet); !bytes.Equal(got.frame, back(frame)) {
				t.Errorf("%s: got %x\nwant %x", name, got.frame, back(frame))
			}
			for n := range packet {
				before := harnessDrops()
				if got := fromUnderlay(d.underlay, d.container, packet[:n]); len(got.frame) > 0 || harnessDrops() != before+1 {
					t.Fatalf("%s, cut to %d of %d bytes: %d bytes delivered, %d drops", name, n, len(packet), len(got.frame), harnessDrops()-before)
				}
			}
		}
	}
	frame := back(flow{}.frame(t, 1, 1, 16, make([]byte, 100)))
	for what, c := range map[string]struct {
		drop string
		edit func(p []byte)
	}{
		"another address":        {"underlay_foreign", func(p []byte) { p[53]++ }},
		"another protocol":       {"underlay_foreign", func(p []byte) { p[20] = 6 }},
		"fragment":               {"underlay_fragment", func(p []byte) { p[20] = 44 }},
		"payload behind the end": {"underlay_malformed", func(p []byte) { p[18] = 0xff }},
		"payload inside of UDP":  {"underlay_malformed", func(p []byte) { p[18], p[19] = 0, 7 }},
		"version 5":              {"underlay_malformed", func(p []byte) { p[14] = 0x50 }},
		"UDP length":             {"underlay_malformed", func(p []byte) { p[58] = 0xff }},
		"UDP checksum":           {"underlay_checksum", func(p []byte) { p[60]++ }},
		"unknown VTEP":           {"vtep_unknown", func(p []byte) { p[37]++; p[60], p[61] = 0, 0 }},
	} {
		packet := outer{srcMAC: nextHopMAC, dstMAC: d.underlayMAC, src: peer, dst: own, srcPort: 50000, checksum: true}.packet(t, frame)
		c.edit(packet)
		before, all := harnessDrop(c.drop), harnessDrops()
		if got := fromUnderlay(d.underlay, d.container, packet); len(got.frame) > 0 || harnessDrop(c.drop) != before+1 || harnessDrops() != all+1 {
			t.Errorf("%s: %d bytes delivered, %s counted %d times, all drops %d", what, len(got.frame), c.drop, harnessDrop(c.drop)-before, harnessDrops()-all)
		}
	}
}

// A packet that is longer than the device's MTU is dropped, not cut or fragmented.
func TestDeviceMTU(t *testing.T) {
	d := onDevices()
	for size, fits := range map[int]bool{1500 - 36 - 42: true, 1500 - 36 - 41: false} {
		frame := flow{udp: true}.frame(t, 1, 1, 0, make([]byte, size))
		before := harnessDrop("underlay_mtu")
		got := fromPort(d.port, d.underlay, frame)
		if sent := len(got.frame) > 0; sent != fits || harnessDrop("underlay_mtu")-before == 1 == fits {
			t.Errorf("frame of %d bytes: sent %v, want %v", len(frame), sent, fits)
		}
	}
}

// What a worker remembers ends with the entry.
func TestForwardingFollowsChanges(t *testing.T) {
	d := onDevices()
	frame := flow{}.frame(t, 1, 1, 16, nil)
	sent := func() bool { return len(fromPort(d.port, d.underlay, frame).frame) > 0 }
	for range 3 {
		if first, again := sent(), sent(); !first || !again {
			t.Fatal("not sent to a known MAC")
		}
		if err := DelMAC(ethVNI, [6]byte(dstMAC)); err != nil {
			t.Fatal(err)
		}
		if sent() {
			t.Fatal("sent to a MAC that was forgotten")
		}
		if err := SetMACVTEP(ethVNI, [6]byte(dstMAC), d.vtep); err != nil {
			t.Fatal(err)
		}
	}
}

// A device that is ours alone is the host's as well: what is not VXLAN reaches its tap, and its frames leave, cut to size.
func TestDeviceHost(t *testing.T) {
	d := onDevices()
	tap, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0)
	check(t, err)
	defer unix.Close(tap[0])
	defer unix.Close(tap[1])
	check(t, SetUnderlay(d.underlay))
	host, err := SetHost(d.underlay, []int{tap[0], tap[0]})
	check(t, err)
	defer func() { check(t, DelPort(host)) }()

	vxlan := d.inwards().packet(t, back(flow{}.frame(t, 1, 1, 16, make([]byte, 100))))
	fragment := slices.Clone(vxlan)
	fragment[20] = 0x20
	sumIP(fragment, 20)
	for what, packet := range map[string][]byte{"ARP": examples(t)["ARP"], "TCP": flow{}.frame(t, 1, 1, 16, nil), "a fragment": fragment} {
		before := harnessDrops()
		fromUnderlay(d.underlay, d.container, packet)
		got := make([]byte, 2000)
		n, err := unix.Read(tap[1], got)
		if err != nil || !bytes.Equal(got[:n], append(make([]byte, vnetLen), packet...)) || harnessDrops() != before {
			t.Errorf("%s to the host: %x (%v), %d drops", what, got[:max(n, 0)], err, harnessDrops()-before)
		}
	}
	fromUnderlay(d.underlay, d.container, vxlan)
	if n, err := unix.Read(tap[1], make([]byte, 2000)); err != unix.EAGAIN {
		t.Errorf("VXLAN reaches the host: %d bytes (%v)", n, err)
	}

	sent, err := ReadDevice(d.underlay)
	check(t, err)
	super, vnet := flow{}.super(flow{}.frame(t, 1, 1, 16, fill(3000)), 1000)
	wish, err := binary.Append(nil, binary.NativeEndian, vnet)
	check(t, err)
	for _, frame := range [][]byte{append(make([]byte, vnetLen), examples(t)["ARP"]...), append(wish, super...)} {
		_, err = unix.Write(tap[1], frame)
		check(t, err)
	}
	awaitSent(t, d.underlay, sent.TxPackets+1+3)
}

// A device in use stays, and an underlay is no port.
func TestDeviceInUse(t *testing.T) {
	d := onDevices()
	for _, device := range []uint32{d.container, d.underlay} {
		if err := CloseDevice(device); err != syscall.EBUSY {
			t.Errorf("closing device %d, which is in use: %v", device, err)
		}
	}
	if err := SetUnderlay(d.container); err != syscall.EBUSY {
		t.Errorf("a port's device as underlay: %v", err)
	}
	if err := SetNextHop(d.vtep, d.container, nextHopMAC); err != syscall.EBUSY {
		t.Errorf("a next hop through a port's device: %v", err)
	}
	if _, err := OpenDevice("net_nothing0"); err != syscall.ENODEV {
		t.Errorf("a device without a driver: %v", err)
	}
}

// The short way to parse finds what the long one does, whatever a byte says.
func TestPlainAgrees(t *testing.T) {
	for name, frame := range examples(t) {
		took := false
		for at := range frame {
			for bit := range 8 {
				changed := slices.Clone(frame)
				changed[at] ^= 1 << bit
				for _, n := range []int{at + 1, len(frame)} {
					agrees, plain := plainAgrees(changed[:n])
					if !agrees {
						t.Fatalf("%s, cut to %d, bit %d of byte %d changed: they differ", name, n, bit, at)
					}
					took = took || plain
				}
			}
		}
		if want := name == "TCP over IPv4" || name == "UDP over IPv4"; took != want {
			t.Errorf("%s: plain %v, want %v", name, took, want)
		}
	}
}

// The short way to read the outer headers finds what the long one does, whatever a byte says.
func TestOuterPlainAgrees(t *testing.T) {
	d := onDevices()
	packet := d.inwards().packet(t, back(examples(t)["UDP over IPv4"]))
	try := func(what string, packet []byte, want bool) {
		t.Helper()
		if agrees, plain := outerAgrees(d.underlay, packet); !agrees || (plain && !want) {
			t.Fatalf("%s: agrees %v, plain %v", what, agrees, plain)
		}
	}
	if agrees, plain := outerAgrees(d.underlay, packet); !agrees || !plain {
		t.Fatalf("what most packets are: agrees %v, plain %v", agrees, plain)
	}
	for n := range packet {
		try(fmt.Sprint("cut to ", n), packet[:n], false)
	}
	try("longer", append(slices.Clone(packet), 0), false)
	for at := range packet {
		for bit := range 8 {
			for _, sum := range []bool{false, true} {
				changed := slices.Clone(packet)
				changed[at] ^= 1 << bit
				if sum {
					sumIP(changed, 20)
				}
				try(fmt.Sprintf("bit %d of byte %d, header summed anew %v", bit, at, sum), changed, true)
			}
		}
	}
	setOwnVTEP(netip.MustParseAddr("2001:db8::7f00:1"))
	defer setOwnVTEP(ethOwn)
	try("over IPv6", packet, false)
}

// A packet whose mbuf is forwarded and one that is copied meet the same checks, whatever a byte says.
func TestTravellingAgrees(t *testing.T) {
	d := onDevices()
	try := func(what string, tos uint8, frame []byte, at int, flip byte) {
		o := d.inwards()
		o.tos = tos
		packet := o.packet(t, frame)
		packet[42+at] ^= flip
		before := allDrops()
		forwarded := fromUnderlay(d.underlay, d.container, packet)
		between := allDrops()
		copied := copied(d.vtep, tos, packet[42:], d.container)
		after := allDrops()
		for i := range after {
			if between[i]-before[i] != after[i]-between[i] {
				t.Fatalf("%s, TOS %d, byte %d ^ %#x: dropped for reason %d: %d forwarded, %d copied", what, tos, at, flip, i, between[i]-before[i], after[i]-between[i])
			}
		}
		if !bytes.Equal(forwarded.frame, copied.frame) {
			t.Fatalf("%s, TOS %d, byte %d ^ %#x:\nforwarded %x\n   copied %x", what, tos, at, flip, forwarded.frame, copied.frame)
		}
	}
	for name, frame := range examples(t) {
		frame = back(frame)
		for tos := range uint8(4) {
			for at := range 8 + len(frame) {
				for bit := range 8 {
					try(name, tos, frame, at, 1<<bit)
				}
			}
			for n := range frame {
				try(name, tos, frame[:n], 0, 0)
			}
		}
	}
}

// Packets that come together fare as each would alone, and in order, whatever lies between those of one destination.
func TestDeviceDecapBurst(t *testing.T) {
	d := onDevices()
	packet := func(n byte, edit func(p []byte)) []byte {
		p := d.inwards().packet(t, back(flow{}.frame(t, uint16(n), 1, 16, make([]byte, n))))
		edit(p)
		sumIP(p, 20)
		return p
	}
	kinds := []func(p []byte){
		func([]byte) {}, func([]byte) {}, func([]byte) {},
		func(p []byte) { p[54]++ },                                  // unknown destination
		func(p []byte) { p[46]++ },                                  // unknown network
		func(p []byte) { p[42] = 0 },                                // no I flag
		func(p []byte) { p[37]++ },                                  // not VXLAN
		func(p []byte) { p[61]++ },                                  // unknown source
		func(p []byte) { p[66] = 0xff },                             // inner length
		func(p []byte) { copy(p[50:], "\xff\xff\xff\xff\xff\xff") }, // to all
		func(p []byte) { p[14]++; p[15] = 1 },                       // outer header that lies
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		packets := make([][]byte, 1+random.IntN(63))
		for i := range packets {
			packets[i] = packet(byte(i), kinds[random.IntN(len(kinds))])
		}
		before := allDrops()
		got := burstFromUnderlay(d.underlay, d.container, packets)
		between := allDrops()
		var want [][]byte
		for _, p := range packets {
			if l := fromUnderlay(d.underlay, d.container, p); len(l.frame) > 0 {
				want = append(want, l.frame)
			}
		}
		after := allDrops()
		for i := range after {
			if between[i]-before[i] != after[i]-between[i] {
				t.Fatalf("dropped for reason %d: %d together, %d alone", i, between[i]-before[i], after[i]-between[i])
			}
		}
		if !slices.EqualFunc(got, want, bytes.Equal) {
			t.Fatalf("%d leave together, %d alone, or in another order", len(got), len(want))
		}
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
