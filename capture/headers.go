package capture

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Lengths of headers, in bytes.
const (
	etherHeader   = 14
	ip4Header     = 20
	ip6Header     = 40
	tcpHeader     = 20
	udpHeader     = 8
	icmpHeader    = 8
	arpIPv4Length = 28
)

// headers are where a frame's headers lie, as far as it was kept. All lengths are checked against that.
type headers struct {
	data     []byte
	arp      bool
	from, to netip.Addr
	proto    uint8 // of IP, behind the extension headers
	l4       int   // behind IP's headers; 0: it is no IP
	payload  int   // behind the transport's header; 0: there is none, or not all of it
	later    bool  // it is a fragment, and not the first: what lies at l4 is no header
	end      int   // of the IP packet, of which the rest may not have been kept
}

// parse looks at an Ethernet frame.
func parse(data []byte) headers {
	h := headers{data: data}
	if len(data) < etherHeader {
		return h
	}
	switch binary.BigEndian.Uint16(data[12:]) {
	case unix.ETH_P_ARP:
		h.arp = len(data) >= etherHeader+arpIPv4Length
	case unix.ETH_P_IP:
		h.parse4(data[etherHeader:])
	case unix.ETH_P_IPV6:
		h.parse6(data[etherHeader:])
	}
	return h
}

// parse4 is of RFC 791.
func (h *headers) parse4(ip []byte) {
	if len(ip) < ip4Header || ip[0]>>4 != 4 {
		return
	}
	length := int(ip[0]&0xf) * 4
	if length < ip4Header || length > len(ip) {
		return
	}
	h.from, h.to = netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
	h.proto, h.l4, h.end = ip[9], etherHeader+length, etherHeader+int(binary.BigEndian.Uint16(ip[2:]))
	if h.later = binary.BigEndian.Uint16(ip[6:])&0x1fff != 0; !h.later {
		h.parseTransport()
	}
}

// parse6 is of RFC 8200.
func (h *headers) parse6(ip []byte) {
	if len(ip) < ip6Header || ip[0]>>4 != 6 {
		return
	}
	h.from, h.to = netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40]))
	h.end = etherHeader + ip6Header + int(binary.BigEndian.Uint16(ip[4:]))
	next, at := ip[6], ip6Header
	for at+8 <= len(ip) {
		length := 8
		switch next {
		case unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_DSTOPTS:
			length = 8 * (int(ip[at+1]) + 1)
		case unix.IPPROTO_FRAGMENT:
			if binary.BigEndian.Uint16(ip[at+2:])&0xfff8 != 0 {
				h.proto, h.l4, h.later = ip[at], etherHeader+at+length, true
				return
			}
		default:
			h.proto, h.l4 = next, etherHeader+at
			h.parseTransport()
			return
		}
		next, at = ip[at], at+length
	}
	h.proto, h.l4 = next, etherHeader+min(at, len(ip))
}

// parseTransport is of RFC 9293 and RFC 768.
func (h *headers) parseTransport() {
	rest := h.data[h.l4:]
	switch {
	case h.proto == unix.IPPROTO_TCP && len(rest) >= tcpHeader:
		if length := int(rest[12]>>4) * 4; length >= tcpHeader {
			h.payload = min(h.l4+length, len(h.data))
		}
	case h.proto == unix.IPPROTO_UDP && len(rest) >= udpHeader:
		h.payload = h.l4 + udpHeader
	}
}

// transport is the transport's header and what is behind it, as far as it was kept.
func (h *headers) transport() []byte { return h.data[h.l4:] }

// length is how far the headers go.
func (h *headers) length() int {
	switch {
	case h.arp:
		return etherHeader + arpIPv4Length
	case h.payload > 0:
		return h.payload
	case !h.later && (h.proto == unix.IPPROTO_ICMP || h.proto == unix.IPPROTO_ICMPV6):
		return min(h.l4+icmpHeader, len(h.data))
	case h.l4 > 0:
		return h.l4
	}
	return min(etherHeader, len(h.data))
}

// ports are those of TCP or UDP.
func (h *headers) ports() (from, to uint16) {
	t := h.transport()
	return binary.BigEndian.Uint16(t), binary.BigEndian.Uint16(t[2:])
}
