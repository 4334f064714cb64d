package capture

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overlane/overlane/datapath"
)

// Event is what happened to a packet at a point of its way, by names.
type Event struct {
	Time      time.Time      `json:"time"` // by the host's own clock
	Host      string         `json:"host"`
	Point     datapath.Point `json:"point"`
	Drop      string         `json:"drop,omitempty"`   // name of the reason
	Reason    string         `json:"reason,omitempty"` // in words
	Network   string         `json:"network,omitempty"`
	VNI       uint32         `json:"vni,omitempty"`
	Container string         `json:"container,omitempty"` // from which it was read, or for which it is
	Peer      string         `json:"peer,omitempty"`      // host at the VTEP
	VTEP      netip.AddrPort `json:"vtep,omitzero"`       // to which it was sent, or from which it came
	Own       netip.AddrPort `json:"-"`                   // VTEP of the host
	Encrypted bool           `json:"encrypted,omitempty"` // on the underlay
	Len       int            `json:"len"`                 // of the frame, in bytes
	Segment   int            `json:"segment,omitempty"`   // payload of each packet that a super-frame stands for, in bytes
	Packet    string         `json:"packet"`              // in short
	Flow      string         `json:"flow,omitempty"`      // of TCP, in this direction
	Seq       uint32         `json:"seq,omitempty"`       // of its first byte
	Payload   int            `json:"payload,omitempty"`   // bytes of TCP's payload
	Identity  string         `json:"identity,omitempty"`  // the same for what is the same packet
}

// What says it in words.
func (e *Event) What() string {
	switch e.Point {
	case datapath.PointRead:
		return "read from " + e.Container
	case datapath.PointSent:
		return "sent to " + e.far() + e.how()
	case datapath.PointReceived:
		return "received from " + e.far() + e.how()
	case datapath.PointDelivered:
		return "delivered to " + e.Container
	}
	return fmt.Sprintf("dropped as %s: %s", e.Drop, e.Reason)
}

// far is the other host, or what is known of it.
func (e *Event) far() string {
	if e.Peer != "" {
		return e.Peer
	}
	return e.VTEP.String()
}

func (e *Event) how() string {
	if e.Encrypted {
		return ", encrypted"
	}
	return ""
}

// Interface is where it happened, as a name of an interface.
func (e *Event) Interface() string {
	switch {
	case e.Point == datapath.PointDropped:
		return e.Host + " drops"
	case e.Container != "":
		return e.Host + " " + e.Container
	}
	return e.Host + " vxlan " + e.far()
}

// Describe says what a packet tells by itself: names are left out.
func Describe(p Packet) Event {
	e := Event{
		Time: p.Time, Point: p.Point, Drop: p.Drop, Reason: datapath.DropReason(p.Drop),
		VNI: p.VNI, VTEP: p.VTEP, Encrypted: p.Encrypted, Len: p.Len, Segment: p.GSO,
	}
	if p.Payload {
		e.Packet = fmt.Sprintf("UDP payload of %d bytes from %s", p.Len, p.VTEP.Addr())
		return e
	}
	e.Identity = strconv.FormatUint(p.Identity, 16)
	e.Packet = e.summary(p)
	return e
}

func (e *Event) summary(p Packet) string {
	h := parse(p.Data)
	switch {
	case h.arp:
		return arpSummary(h.data[etherHeader:])
	case h.l4 == 0:
		return fmt.Sprintf("%d bytes that are no IP", p.Len)
	case h.payload > 0 && h.proto == unix.IPPROTO_TCP:
		return e.tcpSummary(&h)
	case h.payload > 0:
		from, to := h.ports()
		return fmt.Sprintf("UDP %s > %s, %d bytes", netip.AddrPortFrom(h.from, from), netip.AddrPortFrom(h.to, to), h.end-h.payload)
	case h.proto == unix.IPPROTO_ICMP && len(h.transport()) >= icmpHeader:
		return fmt.Sprintf("ICMP %s > %s %s", h.from, h.to, icmpSummary(h.transport(), 8, 0))
	case h.proto == unix.IPPROTO_ICMPV6 && len(h.transport()) >= icmpHeader:
		return fmt.Sprintf("ICMPv6 %s > %s %s", h.from, h.to, icmpSummary(h.transport(), 128, 129))
	}
	return fmt.Sprintf("%s > %s, IP protocol %d, %d bytes", h.from, h.to, h.proto, p.Len)
}

func (e *Event) tcpSummary(h *headers) string {
	from, to := h.ports()
	e.Flow = fmt.Sprintf("%s > %s", netip.AddrPortFrom(h.from, from), netip.AddrPortFrom(h.to, to))
	e.Seq, e.Payload = binary.BigEndian.Uint32(h.transport()[4:]), h.end-h.payload
	return fmt.Sprintf("TCP %s %s seq %d, %d bytes", e.Flow, tcpFlags(h.transport()[13]), e.Seq, e.Payload)
}

// arpSummary is of RFC 826, for IPv4.
func arpSummary(arp []byte) string {
	asker, target := netip.AddrFrom4([4]byte(arp[14:18])), netip.AddrFrom4([4]byte(arp[24:28]))
	if binary.BigEndian.Uint16(arp[6:]) == 2 {
		return fmt.Sprintf("ARP %s is at %s, to %s", asker, datapath.MAC(arp[8:14]), target)
	}
	return fmt.Sprintf("ARP %s asks for %s", asker, target)
}

// icmpSummary is of RFC 792 and RFC 4443, whose echo request and reply have these types.
func icmpSummary(icmp []byte, request, reply byte) string {
	id, seq := binary.BigEndian.Uint16(icmp[4:]), binary.BigEndian.Uint16(icmp[6:])
	switch icmp[0] {
	case request:
		return fmt.Sprintf("echo request, id %d, seq %d", id, seq)
	case reply:
		return fmt.Sprintf("echo reply, id %d, seq %d", id, seq)
	}
	return fmt.Sprintf("type %d, code %d", icmp[0], icmp[1])
}

// tcpFlags are letters as tcpdump has them.
func tcpFlags(flags byte) string {
	letters := ""
	for _, f := range []struct {
		bit    byte
		letter string
	}{{2, "S"}, {1, "F"}, {4, "R"}, {8, "P"}, {16, "."}} {
		if flags&f.bit != 0 {
			letters += f.letter
		}
	}
	return "[" + letters + "]"
}
