package capture

import (
	"hash/fnv"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/overlane/overlane/datapath"
)

// packetOf keeps so many bytes of what a datapath has captured.
func packetOf(c datapath.Captured, keep int) Packet {
	p := Packet{Captured: c, Identity: identity(c)}
	p.Data = slices.Clone(c.Data[:keep])
	return p
}

// payloadOfIdentity is how much of what is behind the transport header tells packets of a flow apart, in bytes.
const payloadOfIdentity = 16

// identity is the same for a packet wherever it is captured: nothing goes into it that changes on the way, as checksums do and the length of
// super-frames. Of payload no more than sixteen bits go into it: who gets headers alone learns no more than of a checksum.
func identity(c datapath.Captured) uint64 {
	if c.Payload {
		return 0
	}
	hash := fnv.New64a()
	h := parse(c.Data)
	if h.l4 == 0 {
		hash.Write(c.Data[:min(len(c.Data), etherHeader)])
		hash.Write(digest(c.Data[min(len(c.Data), etherHeader):]))
		return hash.Sum64()
	}
	hash.Write(h.from.AsSlice())
	hash.Write(h.to.AsSlice())
	switch rest := h.transport(); {
	case h.payload > 0 && h.proto == unix.IPPROTO_TCP:
		hash.Write(rest[:13]) // ports, numbers, and the header's length
	case h.payload > 0:
		hash.Write(rest[:4]) // ports
		hash.Write(digest(h.data[h.payload:]))
	case h.length() > h.l4:
		hash.Write(h.data[h.l4:h.length()]) // ICMP: type, code, identifier and sequence number
		hash.Write(digest(h.data[h.length():]))
	default:
		hash.Write(digest(rest))
	}
	return hash.Sum64()
}

// digest is sixteen bits of how a payload begins.
func digest(payload []byte) []byte {
	hash := fnv.New32a()
	hash.Write(payload[:min(len(payload), payloadOfIdentity)])
	sum := hash.Sum32()
	return []byte{byte(sum>>8 ^ sum>>24), byte(sum ^ sum>>16)}
}

// headersOf is how long the frame's headers are: Ethernet's, IP's and the transport's. Of ARP it is all, of what is no frame nothing.
func headersOf(c datapath.Captured) int {
	if c.Payload {
		return 0
	}
	h := parse(c.Data)
	return h.length()
}
