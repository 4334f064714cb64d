package datapath

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/mdlayher/ndp"
	"golang.org/x/sys/unix"

	"github.com/overlane/overlane/datapath/dp"
)

// Frames that the control plane itself sends to containers.

// vnetLen is that of struct virtio_net_hdr (linux/virtio_net.h).
const vnetLen = 10

// inject writes a frame to the container. One whose interface is down misses it, and so does the program of a native port: only workers
// write to its rings.
func (p *port) inject(frame []byte) {
	if p.native != nil {
		return
	}
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
	return neighbourDiscovery(allNodesMAC, mac, allNodes, addr, &ndp.NeighborAdvertisement{
		Override: true, TargetAddress: addr, Options: linkAddress(ndp.Target, mac),
	})
}

// solicitation asks a MAC for an address: an ARP probe (RFC 5227 section 2.1), or a neighbour solicitation (RFC 4861 section 4.3).
func solicitation(mac MAC, addr netip.Addr) ([]byte, error) {
	prober := MAC(dp.Prober)
	if addr.Is4() {
		return arpRequest(mac, prober, netip.IPv4Unspecified(), addr)
	}
	return neighbourDiscovery(mac, prober, addr, linkLocal(prober), &ndp.NeighborSolicitation{
		TargetAddress: addr, Options: linkAddress(ndp.Source, prober),
	})
}

func linkAddress(direction ndp.Direction, mac MAC) []ndp.Option {
	return []ndp.Option{&ndp.LinkLayerAddress{Direction: direction, Addr: net.HardwareAddr(mac[:])}}
}

type ethernetHeader struct {
	To, From MAC
	Type     uint16
}

// arpRequest is a frame with a packet of RFC 826 for IPv4 over Ethernet.
func arpRequest(to, from MAC, sender, target netip.Addr) ([]byte, error) {
	return binary.Append(nil, binary.BigEndian, struct {
		ethernetHeader
		HardwareType, ProtocolType     uint16
		HardwareLength, ProtocolLength uint8
		Operation                      uint16
		SenderMAC                      MAC
		Sender                         [4]byte
		TargetMAC                      MAC
		Target                         [4]byte
	}{
		ethernetHeader: ethernetHeader{to, from, unix.ETH_P_ARP},
		HardwareType:   unix.ARPHRD_ETHER, ProtocolType: unix.ETH_P_IP, HardwareLength: 6, ProtocolLength: 4, Operation: 1,
		SenderMAC: from, Sender: sender.As4(), Target: target.As4(),
	})
}

// neighbourDiscovery is a frame with a message of RFC 4861: who gets it with another hop limit than 255 drops it.
func neighbourDiscovery(to, from MAC, destination, source netip.Addr, message ndp.Message) ([]byte, error) {
	icmp, err := ndp.MarshalMessageChecksum(message, source, destination)
	if err != nil {
		return nil, err
	}
	frame, err := binary.Append(nil, binary.BigEndian, struct { // RFC 8200 section 3
		ethernetHeader
		VersionClassFlow     uint32
		Length               uint16
		NextHeader, HopLimit uint8
		Source, Destination  [16]byte
	}{
		ethernetHeader:   ethernetHeader{to, from, unix.ETH_P_IPV6},
		VersionClassFlow: 6 << 28, Length: uint16(len(icmp)), NextHeader: unix.IPPROTO_ICMPV6, HopLimit: 255,
		Source: source.As16(), Destination: destination.As16(),
	})
	return append(frame, icmp...), err
}
