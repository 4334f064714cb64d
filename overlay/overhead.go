package overlay

import "net/netip"

// What the underlay carries beside a container's IP packet. VXLAN (RFC 7348 section 5) puts the inner Ethernet header, its own, UDP's and IP's
// before it. In an encrypted network ESP (RFC 4303, RFC 4106, RFC 3948) puts its header and initialization vector between the outer UDP header
// and a UDP header that is encrypted with the rest, and behind the packet padding, two bytes that tell of it, and the check value.
const (
	ip4Header      = 20
	ip6Header      = 40
	udpHeader      = 8
	vxlanHeader    = 8
	ethernetHeader = 14

	espHeader  = 8 // SPI and sequence number
	espIV      = 8
	espTrailer = 2  // pad length and next header
	espAlign   = 4  // of what is encrypted, with the trailer
	espICV     = 16 // integrity check value
)

// InnerMTU is the largest MTU of a container's interface that a path between VTEPs carries.
func InnerMTU(path int, vtep netip.Addr, encrypted bool) int {
	left := path - ipHeader(vtep) - udpHeader
	if encrypted {
		left = (left-espHeader-espIV-espICV)&^(espAlign-1) - espTrailer - udpHeader
	}
	return min(left-vxlanHeader-ethernetHeader, maxMTU)
}

// PathMTU is what a path between VTEPs has to carry for containers' interfaces with an MTU.
func PathMTU(inner int, vtep netip.Addr, encrypted bool) int {
	length := ethernetHeader + inner + vxlanHeader
	if encrypted {
		length = (length + udpHeader + espTrailer + espAlign - 1) &^ (espAlign - 1)
		length += espHeader + espIV + espICV
	}
	return length + udpHeader + ipHeader(vtep)
}

func ipHeader(vtep netip.Addr) int {
	if vtep.Is6() {
		return ip6Header
	}
	return ip4Header
}
