package capture

import (
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/gopacket/gopacket/layers"

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
	packet := parse(p.Data)
	if arp, is := packet.Layer(layers.LayerTypeARP).(*layers.ARP); is {
		return arpSummary(arp)
	}
	network := packet.NetworkLayer()
	if network == nil {
		return fmt.Sprintf("%d bytes that are no IP", p.Len)
	}
	from, to := network.NetworkFlow().Endpoints()
	switch l := packet.TransportLayer().(type) {
	case *layers.TCP:
		e.Flow = fmt.Sprintf("%s:%d > %s:%d", from, l.SrcPort, to, l.DstPort)
		e.Seq, e.Payload = l.Seq, p.Len-(len(p.Data)-len(l.Payload))
		return fmt.Sprintf("TCP %s:%d > %s:%d %s seq %d, %d bytes", from, l.SrcPort, to, l.DstPort, tcpFlags(l), l.Seq, e.Payload)
	case *layers.UDP:
		return fmt.Sprintf("UDP %s:%d > %s:%d, %d bytes", from, l.SrcPort, to, l.DstPort, p.Len-(len(p.Data)-len(l.Payload)))
	}
	if icmp, is := packet.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); is {
		return fmt.Sprintf("ICMP %s > %s %s", from, to, icmpSummary(icmp))
	}
	if icmp, is := packet.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); is {
		return fmt.Sprintf("ICMPv6 %s > %s %s, %d bytes", from, to, icmp.TypeCode, p.Len)
	}
	return fmt.Sprintf("%s > %s %s, %d bytes", from, to, protocolOf(network), p.Len)
}

func arpSummary(a *layers.ARP) string {
	asker, _ := netip.AddrFromSlice(a.SourceProtAddress)
	target, _ := netip.AddrFromSlice(a.DstProtAddress)
	if a.Operation == layers.ARPReply {
		return fmt.Sprintf("ARP %s is at %s, to %s", asker, macText(a.SourceHwAddress), target)
	}
	return fmt.Sprintf("ARP %s asks for %s", asker, target)
}

func macText(b []byte) string {
	if len(b) != 6 {
		return "?"
	}
	return datapath.MAC(b).String()
}

func icmpSummary(l *layers.ICMPv4) string {
	switch l.TypeCode.Type() {
	case layers.ICMPv4TypeEchoRequest, layers.ICMPv4TypeEchoReply:
		return fmt.Sprintf("%s id %d seq %d", l.TypeCode, l.Id, l.Seq)
	}
	return l.TypeCode.String()
}

// tcpFlags are letters as tcpdump has them.
func tcpFlags(l *layers.TCP) string {
	flags := ""
	for _, f := range []struct {
		set    bool
		letter string
	}{{l.SYN, "S"}, {l.FIN, "F"}, {l.RST, "R"}, {l.PSH, "P"}, {l.ACK, "."}} {
		if f.set {
			flags += f.letter
		}
	}
	return "[" + flags + "]"
}

func protocolOf(network any) string {
	switch ip := network.(type) {
	case *layers.IPv4:
		return ip.Protocol.String()
	case *layers.IPv6:
		return ip.NextHeader.String()
	}
	return ""
}
