package main

import (
	"errors"
	"net"
	"net/netip"
	"os"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

const (
	vni       = 4200
	vxlanPort = 4789
	fcsLen    = 4  // counted in a frame's size, as testers do, but not in a pcap file
	headerLen = 42 // Ethernet, IPv4, UDP
)

var (
	localMAC  = [6]byte{2, 0x42, 0x0a, 1, 0, 1}
	localAddr = netip.MustParseAddr("10.1.0.1")
	ourVTEP   = netip.MustParseAddr("172.31.0.1")
	peerVTEP  = netip.MustParseAddr("172.31.0.2")
	peerMAC   = [6]byte{2, 0, 0, 0, 0, 2}
	// underlayMAC is what the first net_pcap of a process has; the peers are told to take it.
	underlayMAC = [6]byte{2, 0x70, 0x63, 0x61, 0x70, 0}
)

// remoteMAC and remoteAddr are those of the remote container n.
func remoteMAC(n int) [6]byte { return [6]byte{2, 0x42, 0x0a, 0, byte(n >> 8), byte(n)} }

func remoteAddr(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}) }

// datagram has UDP checksum 0: testers and tunnels write none.
func datagram(srcMAC, dstMAC [6]byte, src, dst netip.Addr, srcPort, dstPort uint16, payload []byte) ([]byte, error) {
	ip := &layers.IPv4{Version: 4, TTL: 64, Flags: layers.IPv4DontFragment, Protocol: layers.IPProtocolUDP, SrcIP: net.IP(src.AsSlice()), DstIP: net.IP(dst.AsSlice())}
	udp := &layers.UDP{SrcPort: layers.UDPPort(srcPort), DstPort: layers.UDPPort(dstPort)}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		return nil, err
	}
	buffer := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: srcMAC[:], DstMAC: dstMAC[:], EthernetType: layers.EthernetTypeIPv4}, ip, udp, gopacket.Payload(payload))
	if err != nil {
		return nil, err
	}
	frame := buffer.Bytes()
	frame[headerLen-2], frame[headerLen-1] = 0, 0
	return frame, nil
}

// writeFrames writes inner.pcap, what the local container sends, and outer.pcap, what its peers send back in VXLAN.
func writeFrames(inner, outer string, flows, macs, size int) error {
	out, err := newCapture(inner)
	if err != nil {
		return err
	}
	in, err := newCapture(outer)
	if err != nil {
		return err
	}
	payload := make([]byte, size-fcsLen-headerLen)
	for i := range flows {
		n, srcPort := i%macs, uint16(1000+i%50000)
		frame, err := datagram(localMAC, remoteMAC(n), localAddr, remoteAddr(n), srcPort, 2000, payload)
		if err != nil {
			return err
		}
		back, err := datagram(remoteMAC(n), localMAC, remoteAddr(n), localAddr, srcPort, 2000, payload)
		if err != nil {
			return err
		}
		vxlan := append([]byte{8, 0, 0, 0, 0, vni >> 8, vni & 0xff, 0}, back...)
		packet, err := datagram(peerMAC, underlayMAC, peerVTEP, ourVTEP, uint16(49152|i&0x3fff), vxlanPort, vxlan)
		if err != nil {
			return err
		}
		if err := errors.Join(out.write(frame), in.write(packet)); err != nil {
			return err
		}
	}
	return errors.Join(out.file.Close(), in.file.Close())
}

type capture struct {
	file   *os.File
	writer *pcapgo.Writer
}

func newCapture(path string) (capture, error) {
	file, err := os.Create(path)
	if err != nil {
		return capture{}, err
	}
	writer := pcapgo.NewWriter(file)
	return capture{file, writer}, writer.WriteFileHeader(65535, layers.LinkTypeEthernet)
}

func (c capture) write(frame []byte) error {
	return c.writer.WritePacket(gopacket.CaptureInfo{CaptureLength: len(frame), Length: len(frame)}, frame)
}
