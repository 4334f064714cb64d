package capture

import (
	"encoding/binary"
	"hash/fnv"
	"slices"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/overlane/overlane/datapath"
)

// packetOf keeps so many bytes of what a datapath has captured.
func packetOf(c datapath.Captured, keep int) Packet {
	p := Packet{Captured: c, Identity: identity(c)}
	p.Data = slices.Clone(c.Data[:keep])
	return p
}

// parse looks at the headers of a frame.
func parse(data []byte) gopacket.Packet {
	return gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.DecodeOptions{Lazy: true, NoCopy: true})
}

// payloadOfIdentity is how much of what is behind the transport header tells packets of a flow apart.
const payloadOfIdentity = 16

// identity is the same for a packet wherever it is captured: nothing goes into it that changes on the way, as checksums do and the length of
// super-frames.
func identity(c datapath.Captured) uint64 {
	if c.Payload {
		return 0
	}
	p := parse(c.Data)
	hash := fnv.New64a()
	if network := p.NetworkLayer(); network != nil {
		flow := network.NetworkFlow()
		hash.Write(flow.Src().Raw())
		hash.Write(flow.Dst().Raw())
	}
	switch l := p.TransportLayer().(type) {
	case *layers.TCP:
		binary.Write(hash, binary.BigEndian, []uint32{uint32(l.SrcPort)<<16 | uint32(l.DstPort), l.Seq, l.Ack, uint32(len(l.Contents))})
		return hash.Sum64()
	case *layers.UDP:
		hash.Write(l.Contents[:min(len(l.Contents), 4)])
		hash.Write(l.Payload[:min(len(l.Payload), payloadOfIdentity)])
		return hash.Sum64()
	}
	rest := c.Data
	if network := p.NetworkLayer(); network != nil {
		rest = network.LayerPayload()
	}
	hash.Write(rest[:min(len(rest), payloadOfIdentity)])
	return hash.Sum64()
}

// icmpHeader is how much of ICMP, or of another protocol over IP, counts as header, in bytes.
const icmpHeader = 8

// headersOf is how long the frame's headers are: Ethernet's, IP's and the transport's. Of ARP it is all, of what is no frame nothing.
func headersOf(c datapath.Captured) int {
	if c.Payload {
		return 0
	}
	p := parse(c.Data)
	if p.Layer(layers.LayerTypeARP) != nil {
		return len(c.Data)
	}
	transport, length := p.TransportLayer(), 0
	for _, l := range p.Layers() { // not by what is left behind them: Ethernet's padding may be
		if l == p.ApplicationLayer() || l.LayerType() == gopacket.LayerTypePayload || l.LayerType() == gopacket.LayerTypeDecodeFailure {
			break
		}
		if network := p.NetworkLayer(); network == nil || transport == nil && isBehind(l) {
			break
		}
		length += len(l.LayerContents())
		if transport != nil && l.LayerType() == transport.LayerType() {
			return min(length, len(c.Data))
		}
	}
	if p.NetworkLayer() != nil {
		return min(length+icmpHeader, len(c.Data))
	}
	return min(len(c.Data), 14)
}

// isBehind is of layers behind IP and its extension headers.
func isBehind(l gopacket.Layer) bool {
	switch l.LayerType() {
	case layers.LayerTypeEthernet, layers.LayerTypeIPv4, layers.LayerTypeIPv6, layers.LayerTypeIPv6HopByHop, layers.LayerTypeIPv6Routing, layers.LayerTypeIPv6Destination, layers.LayerTypeIPv6Fragment:
		return false
	}
	return true
}
