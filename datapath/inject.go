package datapath

import (
	"net"
	"net/netip"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/overlane/overlane/datapath/dp"
)

// Frames that the control plane itself sends to containers.

// vnetLen is that of struct virtio_net_hdr (linux/virtio_net.h).
const vnetLen = 10

// inject writes a frame to the container. One whose interface is down misses it.
func (p *port) inject(frame []byte) {
	unix.Write(p.fds[0], append(make([]byte, vnetLen, vnetLen+len(frame)), frame...))
}

var (
	broadcastMAC = MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	allNodesMAC  = MAC{0x33, 0x33, 0, 0, 0, 1} // RFC 2464 section 7
	allNodes     = netip.MustParseAddr("ff02::1")
)

// announcement says that an address is at a MAC: gratuitous ARP (RFC 5227 section 3), or an unsolicited neighbour advertisement that
// overrides (RFC 4861 section 4.4).
func announcement(mac MAC, addr netip.Addr) ([]byte, error) {
	if addr.Is4() {
		return arpRequest(broadcastMAC, mac, addr, addr)
	}
	const override = 0x20
	return icmp6(allNodesMAC, mac, allNodes, addr, layers.ICMPv6TypeNeighborAdvertisement, &layers.ICMPv6NeighborAdvertisement{
		Flags: override, TargetAddress: addr.AsSlice(), Options: linkAddress(layers.ICMPv6OptTargetAddress, mac),
	})
}

// solicitation asks a MAC for an address: an ARP probe (RFC 5227 section 2.1), or a neighbour solicitation (RFC 4861 section 4.3).
func solicitation(mac MAC, addr netip.Addr) ([]byte, error) {
	prober := MAC(dp.Prober)
	if addr.Is4() {
		return arpRequest(mac, prober, netip.IPv4Unspecified(), addr)
	}
	return icmp6(mac, prober, addr, linkLocal(prober), layers.ICMPv6TypeNeighborSolicitation, &layers.ICMPv6NeighborSolicitation{
		TargetAddress: addr.AsSlice(), Options: linkAddress(layers.ICMPv6OptSourceAddress, prober),
	})
}

func arpRequest(to, from MAC, sender, target netip.Addr) ([]byte, error) {
	return serialize(
		&layers.Ethernet{DstMAC: to[:], SrcMAC: from[:], EthernetType: layers.EthernetTypeARP},
		&layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: layers.ARPRequest,
			SourceHwAddress: from[:], SourceProtAddress: sender.AsSlice(), DstHwAddress: make([]byte, 6), DstProtAddress: target.AsSlice(),
		})
}

func icmp6(to, from MAC, destination, source netip.Addr, kind uint8, message gopacket.SerializableLayer) ([]byte, error) {
	ip := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: source.AsSlice(), DstIP: destination.AsSlice()}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)}
	if err := icmp.SetNetworkLayerForChecksum(ip); err != nil {
		return nil, err
	}
	return serialize(&layers.Ethernet{DstMAC: to[:], SrcMAC: from[:], EthernetType: layers.EthernetTypeIPv6}, ip, icmp, message)
}

func linkAddress(kind layers.ICMPv6Opt, mac MAC) layers.ICMPv6Options {
	return layers.ICMPv6Options{{Type: kind, Data: net.HardwareAddr(mac[:])}}
}

func serialize(all ...gopacket.SerializableLayer) ([]byte, error) {
	buffer := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, all...)
	return buffer.Bytes(), err
}
