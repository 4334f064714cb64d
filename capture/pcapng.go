package capture

import (
	"io"
	"net"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/overlane/overlane/datapath"
)

// File writes packets as pcapng (draft-ietf-opsawg-pcapng): each host's container, way to another host, and drops is an interface, and a comment
// tells what has become of a packet. A host has an interface of its own, whose statistics count what is not in the file.
type File struct {
	w            *pcapgo.NgWriter
	encapsulated bool
	interfaces   map[interfaceKey]int
}

type interfaceKey struct {
	name string
	link layers.LinkType
}

// NewFile begins a file of a host of this name. Encapsulated: what is sent to VTEPs and comes from them gets an outer header, which is made here: it
// has the addresses, the port and the VNI, but the source port is 0, and super-frames are whole.
func NewFile(w io.Writer, host, version string, encapsulated bool) (*File, error) {
	first := interfaceKey{host, layers.LinkTypeEthernet}
	options := pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{OS: "Linux", Application: "overlane " + version}}
	writer, err := pcapgo.NewNgWriterInterface(w, ngInterface(first), options)
	return &File{writer, encapsulated, map[interfaceKey]int{first: 0}}, err
}

func ngInterface(key interfaceKey) pcapgo.NgInterface {
	return pcapgo.NgInterface{Name: key.name, LinkType: key.link, TimestampResolution: 9}
}

func (f *File) number(key interfaceKey) (int, error) {
	if number, known := f.interfaces[key]; known {
		return number, nil
	}
	number, err := f.w.AddInterface(ngInterface(key))
	f.interfaces[key] = number
	return number, err
}

// Write adds a packet, which the event tells of.
func (f *File) Write(p Packet, e *Event) error {
	key, data, length := interfaceKey{e.Interface(), layers.LinkTypeEthernet}, p.Data, p.Len
	if p.Payload || f.encapsulated && (p.Point == datapath.PointSent || p.Point == datapath.PointReceived) {
		key.link = layers.LinkTypeRaw
		outer, err := outerHeader(p, e)
		if err != nil {
			return err
		}
		data, length = append(outer, data...), length+len(outer)
	}
	number, err := f.number(key)
	if err != nil {
		return err
	}
	info := gopacket.CaptureInfo{Timestamp: p.Time, CaptureLength: len(data), Length: max(length, len(data)), InterfaceIndex: number}
	return f.w.WritePacketWithOptions(info, data, pcapgo.NgPacketOptions{Comments: []string{e.What()}})
}

// Flush has what was written reach its reader.
func (f *File) Flush() error { return f.w.Flush() }

// Close says what each host has captured, and lost.
func (f *File) Close(counts map[string]Report) error {
	for host, r := range counts {
		number, err := f.number(interfaceKey{host, layers.LinkTypeEthernet})
		if err == nil {
			err = f.w.WriteInterfaceStats(number, pcapgo.NgInterfaceStatistics{PacketsReceived: r.Captured + r.Lost, PacketsDropped: r.Lost})
		}
		if err != nil {
			return err
		}
	}
	return f.w.Flush()
}

// outerHeader is that of IP and UDP, and of VXLAN where the packet is a frame.
func outerHeader(p Packet, e *Event) ([]byte, error) {
	from, to := e.Own, e.VTEP
	if p.Point != datapath.PointSent {
		from, to = to, from
	}
	udp := &layers.UDP{DstPort: layers.UDPPort(e.Own.Port())}
	stack := []gopacket.SerializableLayer{&layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.IP(from.Addr().AsSlice()), DstIP: net.IP(to.Addr().AsSlice())}, udp}
	if e.Own.Addr().Is6() {
		stack[0] = &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: net.IP(from.Addr().AsSlice()), DstIP: net.IP(to.Addr().AsSlice())}
	}
	if !p.Payload {
		stack = append(stack, &layers.VXLAN{ValidIDFlag: true, VNI: p.VNI})
	}
	// Lengths are those of the whole packet, of which the beginning may be all that is there. 64 KiB is the most that IP can tell.
	const mostOfIP = 65535 - 40 - 8 - 8
	stack = append(stack, gopacket.Payload(make([]byte, min(p.Len, mostOfIP))))
	buffer := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true}, stack...); err != nil {
		return nil, err
	}
	b := buffer.Bytes()
	return b[:len(b)-min(p.Len, mostOfIP)], nil
}
