package datapath_test

import (
	"bytes"
	"encoding/binary"
	"net"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"
)

const (
	strangerMAC = "02:42:0a:3e:00:99"
	payload     = "long enough that Ethernet needs no padding"
)

// raw sends and receives whole frames on an interface.
type raw int

func rawSocket(t *testing.T, ns string) raw {
	t.Helper()
	return rawSocketOn(t, ns, "eth0")
}

func rawSocketOn(t *testing.T, ns, name string) raw {
	t.Helper()
	var socket int
	inNamespace(t, ns, func() (err error) {
		device, err := net.InterfaceByName(name)
		if err != nil {
			return err
		}
		const everything = 0x0300 // ETH_P_ALL in network order
		socket, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, everything)
		if err != nil {
			return err
		}
		return unix.Bind(socket, &unix.SockaddrLinklayer{Ifindex: device.Index, Protocol: everything})
	})
	t.Cleanup(func() { unix.Close(socket) })
	must(t, unix.SetsockoptTimeval(socket, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}))
	return raw(socket)
}

func (r raw) send(t *testing.T, frame []byte) {
	t.Helper()
	_, err := unix.Write(int(r), frame)
	must(t, err)
}

// next returns the next frame of any kind.
func (r raw) next(t *testing.T) []byte {
	t.Helper()
	buffer := make([]byte, 65536)
	n, err := unix.Read(int(r), buffer)
	must(t, err)
	return buffer[:n]
}

// receive returns the next frame that carries the test's payload.
func (r raw) receive(t *testing.T) []byte {
	t.Helper()
	for {
		if frame := r.next(t); bytes.Contains(frame, []byte(payload)) {
			return frame
		}
	}
}

// frame is an Ethernet frame with an inner packet; checksums and lengths are right.
func frame(t *testing.T, source, destination string, network gopacket.NetworkLayer, rest ...gopacket.SerializableLayer) []byte {
	t.Helper()
	ethernet := &layers.Ethernet{SrcMAC: hardware(source), DstMAC: hardware(destination), EthernetType: layers.EthernetTypeIPv4}
	stack := []gopacket.SerializableLayer{ethernet}
	switch ip := network.(type) {
	case *layers.IPv6:
		ethernet.EthernetType = layers.EthernetTypeIPv6
		stack = append(stack, ip)
	case *layers.IPv4:
		stack = append(stack, ip)
	case nil:
		ethernet.EthernetType = layers.EthernetTypeARP
	}
	for _, layer := range rest {
		if sum, ok := layer.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			must(t, sum.SetNetworkLayerForChecksum(network))
		}
	}
	buffer := gopacket.NewSerializeBuffer()
	must(t, gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, append(stack, rest...)...))
	return buffer.Bytes()
}

func hardware(text string) net.HardwareAddr { m := parseMAC(text); return m[:] }

func udp4(t *testing.T, sourceMAC, source, destinationMAC, destination string) []byte {
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.ParseIP(source), DstIP: net.ParseIP(destination)}
	return frame(t, sourceMAC, destinationMAC, ip, &layers.UDP{SrcPort: 1000, DstPort: 9}, gopacket.Payload(payload))
}

func tcp6(t *testing.T, sourceMAC, source, destinationMAC, destination string) []byte {
	ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP, SrcIP: net.ParseIP(source), DstIP: net.ParseIP(destination)}
	return frame(t, sourceMAC, destinationMAC, ip, &layers.TCP{SrcPort: 1000, DstPort: 9, ACK: true, Window: 100}, gopacket.Payload(payload))
}

func arp(t *testing.T, operation uint16, sourceMAC, source, target string) []byte {
	return frame(t, sourceMAC, "ff:ff:ff:ff:ff:ff", nil, &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: operation,
		SourceHwAddress: hardware(sourceMAC), SourceProtAddress: net.ParseIP(source).To4(),
		DstHwAddress: make([]byte, 6), DstProtAddress: net.ParseIP(target).To4(),
	})
}

func neighbour(t *testing.T, kind uint8, target string) []byte {
	ip := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: net.ParseIP(hostIP6), DstIP: net.ParseIP("ff02::1")}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)}
	if kind == layers.ICMPv6TypeNeighborAdvertisement {
		return frame(t, hostMAC, "33:33:00:00:00:01", ip, icmp, &layers.ICMPv6NeighborAdvertisement{TargetAddress: net.ParseIP(target)})
	}
	return frame(t, hostMAC, "33:33:00:00:00:01", ip, icmp, &layers.ICMPv6NeighborSolicitation{TargetAddress: net.ParseIP(target)})
}

func routerAdvertisement(t *testing.T) []byte {
	ip := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: net.ParseIP(hostIP6), DstIP: net.ParseIP("ff02::1")}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeRouterAdvertisement, 0)}
	return frame(t, hostMAC, "33:33:00:00:00:01", ip, icmp, &layers.ICMPv6RouterAdvertisement{RouterLifetime: 1800})
}

func routerSolicitation(t *testing.T) []byte {
	ip := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: net.ParseIP(hostIP6), DstIP: net.ParseIP("ff02::2")}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeRouterSolicitation, 0)}
	return frame(t, hostMAC, "33:33:00:00:00:02", ip, icmp, &layers.ICMPv6RouterSolicitation{})
}

func tagged(plain []byte) []byte {
	return append(append(append([]byte{}, plain[:12]...), 0x81, 0, 0, 5), plain[12:]...)
}

func vxlan(flags byte, id uint32, inner []byte) []byte {
	header := make([]byte, 8, 8+len(inner))
	binary.BigEndian.PutUint32(header[4:], id<<8)
	header[0] = flags
	return append(header, inner...)
}
