package datapath

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync/atomic"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// hint is what an ICMP message says of the path to a VTEP. It may be forged.
type hint struct {
	to  netip.AddrPort
	mtu int // bytes of outer IP packet; 0: the router does not say
}

// hints listens to the host's ICMP messages about packets that were too long.
type hints struct {
	own   atomic.Pointer[netip.Addr] // the VTEP's: outer source of its family
	conns []net.PacketConn
	queue chan hint
}

// listenHints makes sockets in the network namespace of the calling thread. It needs CAP_NET_RAW. A host may lack the family that its
// VTEP is not of.
func listenHints(own netip.Addr) (*hints, error) {
	h := &hints{queue: make(chan hint, 64)}
	h.own.Store(&own)
	four, err4 := listen4()
	if err4 == nil {
		h.conns = append(h.conns, four)
		go h.read(four, true)
	}
	six, err6 := listen6()
	if err6 == nil {
		h.conns = append(h.conns, six)
		go h.read(six, false)
	}
	if own.Is4() {
		return h, err4
	}
	return h, err6
}

func listen4() (net.PacketConn, error) {
	conn, err := net.ListenPacket("ip4:icmp", "0.0.0.0")
	if err != nil {
		return nil, err
	}
	var filter ipv4.ICMPFilter
	filter.SetAll(true)
	filter.Accept(ipv4.ICMPTypeDestinationUnreachable)
	return conn, ipv4.NewPacketConn(conn).SetICMPFilter(&filter)
}

func listen6() (net.PacketConn, error) {
	conn, err := net.ListenPacket("ip6:ipv6-icmp", "::")
	if err != nil {
		return nil, err
	}
	var filter ipv6.ICMPFilter
	filter.SetAll(true)
	filter.Accept(ipv6.ICMPTypePacketTooBig)
	return conn, ipv6.NewPacketConn(conn).SetICMPFilter(&filter)
}

func (h *hints) read(conn net.PacketConn, four bool) {
	for message := make([]byte, 1<<16); ; {
		n, _, err := conn.ReadFrom(message)
		if err != nil {
			return
		}
		own := *h.own.Load()
		if own.Is4() != four {
			own = netip.Addr{}
		}
		if found, ok := parseHint(message[:n], four, own); ok {
			select {
			case h.queue <- found:
			default: // more come
			}
		}
	}
}

func (h *hints) close() {
	for _, conn := range h.conns {
		conn.Close()
	}
}

// parseHint reads an ICMP message without its IP header: "fragmentation needed and DF set" (RFC 1191 section 4), "packet too big"
// (RFC 4443 section 3.2). It is one where it quotes UDP that is longer than what it says the path carries, and that came from own, if
// that is valid.
func parseHint(message []byte, four bool, own netip.Addr) (hint, bool) {
	const header = 8
	if len(message) < header {
		return hint{}, false
	}
	var h hint
	var quoted packet
	var ok bool
	if four {
		h.mtu = int(binary.BigEndian.Uint16(message[6:]))
		quoted, ok = quoted4(message[header:])
		ok = ok && message[0] == 3 && message[1] == 4
	} else {
		h.mtu = int(min(binary.BigEndian.Uint32(message[4:]), 1<<16))
		quoted, ok = quoted6(message[header:])
		ok = ok && message[0] == 2
	}
	h.to = quoted.to
	return h, ok && (quoted.from == own || !own.IsValid()) && quoted.length > h.mtu
}

// packet is one of UDP.
type packet struct {
	from   netip.Addr
	to     netip.AddrPort
	length int // bytes of IP packet
}

func quoted4(b []byte) (packet, bool) {
	if len(b) < ipv4.HeaderLen || b[0]>>4 != 4 || b[9] != unix.IPPROTO_UDP || binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
		return packet{}, false
	}
	header := int(b[0]&0xf) * 4
	if header < ipv4.HeaderLen || len(b) < header+4 {
		return packet{}, false
	}
	to := netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[16:20])), binary.BigEndian.Uint16(b[header+2:]))
	return packet{netip.AddrFrom4([4]byte(b[12:16])), to, int(binary.BigEndian.Uint16(b[2:]))}, true
}

func quoted6(b []byte) (packet, bool) {
	if len(b) < ipv6.HeaderLen+4 || b[0]>>4 != 6 || b[6] != unix.IPPROTO_UDP {
		return packet{}, false
	}
	to := netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[24:40])), binary.BigEndian.Uint16(b[ipv6.HeaderLen+2:]))
	return packet{netip.AddrFrom16([16]byte(b[8:24])), to, ipv6.HeaderLen + int(binary.BigEndian.Uint16(b[4:]))}, true
}
