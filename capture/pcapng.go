package capture

import (
	"bufio"
	"encoding/binary"
	"io"
	"maps"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overlane/overlane/datapath"
)

// File writes packets as pcapng (draft-ietf-opsawg-pcapng): each host's container, way to another host, and drops is an interface, and a comment
// tells what has become of a packet. A host has an interface of its own, whose statistics count what is not in the file. The libraries that write
// this format keep tables of several MB, which would be the daemon's as well: see findings/gopacket-layers-memory.sh.
type File struct {
	w            *bufio.Writer
	encapsulated bool
	interfaces   map[interfaceKey]uint32
}

type interfaceKey struct {
	name string
	link uint16
}

// Blocks, options of each and link types, by their numbers there.
const (
	blockSection    = 0x0a0d0d0a
	blockInterface  = 1
	blockStatistics = 5
	blockPacket     = 6

	optComment     = 1
	optName        = 2
	optOS          = 3
	optApplication = 4
	optReceived    = 4
	optDropped     = 5
	optResolution  = 9

	linkEthernet = 1
	linkRaw      = 101 // an IP packet

	byteOrder   = 0x1a2b3c4d
	nanoseconds = 9 // 10^-9 s
)

// NewFile begins a file of a host of this name. Encapsulated: what is sent to VTEPs and comes from them gets an outer header, which is made here: it
// has the addresses, the port and the VNI, but the source port is 0, and super-frames are whole.
func NewFile(w io.Writer, host, version string, encapsulated bool) (*File, error) {
	f := &File{bufio.NewWriter(w), encapsulated, map[interfaceKey]uint32{}}
	section := binary.LittleEndian.AppendUint32(nil, byteOrder)
	section = append(section, 1, 0, 0, 0)                           // version 1.0
	section = binary.LittleEndian.AppendUint64(section, ^uint64(0)) // of a length that is not known
	section = option(section, optOS, []byte("Linux"))
	section = option(section, optApplication, []byte("overlane "+version))
	if err := f.block(blockSection, endOptions(section)); err != nil {
		return nil, err
	}
	_, err := f.number(interfaceKey{host, linkEthernet})
	return f, err
}

// option adds one to a block, padded to 32 bits.
func option(b []byte, code uint16, value []byte) []byte {
	b = binary.LittleEndian.AppendUint16(b, code)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
	return pad(append(b, value...), len(value))
}

func endOptions(b []byte) []byte { return append(b, 0, 0, 0, 0) }

// pad fills up what has so many bytes to 32 bits.
func pad(b []byte, length int) []byte { return append(b, make([]byte, -length&3)...) }

func (f *File) block(kind uint32, body []byte) error {
	length := uint32(len(body) + 12)
	head := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, kind), length)
	for _, part := range [][]byte{head, body, binary.LittleEndian.AppendUint32(nil, length)} {
		if _, err := f.w.Write(part); err != nil {
			return err
		}
	}
	return nil
}

// number is an interface's, which is described before its first packet.
func (f *File) number(key interfaceKey) (uint32, error) {
	if number, known := f.interfaces[key]; known {
		return number, nil
	}
	number := uint32(len(f.interfaces))
	f.interfaces[key] = number
	b := binary.LittleEndian.AppendUint16(nil, key.link)
	b = append(b, 0, 0, 0, 0, 0, 0) // reserved; no limit of a packet's length
	b = option(b, optName, []byte(key.name))
	b = option(b, optResolution, []byte{nanoseconds})
	return number, f.block(blockInterface, endOptions(b))
}

// moment is how blocks have times: the upper half first.
func moment(b []byte, at time.Time) []byte {
	ns := uint64(at.UnixNano())
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(b, uint32(ns>>32)), uint32(ns))
}

// Write adds a packet, which the event tells of.
func (f *File) Write(p Packet, e *Event) error {
	key, data, length := interfaceKey{e.Interface(), linkEthernet}, p.Data, p.Len
	if p.Payload || f.encapsulated && (p.Point == datapath.PointSent || p.Point == datapath.PointReceived) {
		outer := outerHeader(p, e)
		key.link, data, length = linkRaw, append(outer, data...), length+len(outer)
	}
	number, err := f.number(key)
	if err != nil {
		return err
	}
	b := moment(binary.LittleEndian.AppendUint32(nil, number), p.Time)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	b = binary.LittleEndian.AppendUint32(b, uint32(max(length, len(data))))
	b = pad(append(b, data...), len(data))
	return f.block(blockPacket, endOptions(option(b, optComment, []byte(e.What()))))
}

// Flush has what was written reach its reader.
func (f *File) Flush() error { return f.w.Flush() }

// Close says what each host has captured, and lost.
func (f *File) Close(counts map[string]Report) error {
	for _, host := range slices.Sorted(maps.Keys(counts)) {
		number, err := f.number(interfaceKey{host, linkEthernet})
		if err != nil {
			return err
		}
		r := counts[host]
		b := moment(binary.LittleEndian.AppendUint32(nil, number), time.Now())
		b = option(b, optReceived, binary.LittleEndian.AppendUint64(nil, r.Captured+r.Lost))
		b = option(b, optDropped, binary.LittleEndian.AppendUint64(nil, r.Lost))
		if err := f.block(blockStatistics, endOptions(b)); err != nil {
			return err
		}
	}
	return f.w.Flush()
}

// mostOfUDP is the longest UDP packet with its header that IP can tell of; a super-frame in it may be longer.
const mostOfUDP = 65535 - ip6Header

// outerHeader is that of IP and UDP, and of VXLAN where the packet is a frame. IPv4's checksum and UDP's are none.
func outerHeader(p Packet, e *Event) []byte {
	from, to := e.Own.Addr(), e.VTEP.Addr()
	if p.Point != datapath.PointSent {
		from, to = to, from
	}
	var vxlan []byte
	if !p.Payload {
		vxlan = binary.BigEndian.AppendUint32([]byte{8, 0, 0, 0}, p.VNI<<8) // RFC 7348 section 5
	}
	length := min(udpHeader+len(vxlan)+p.Len, mostOfUDP)
	udp := binary.BigEndian.AppendUint16([]byte{0, 0}, e.Own.Port())
	udp = append(binary.BigEndian.AppendUint16(udp, uint16(length)), 0, 0)
	return slices.Concat(ipHeader(from, to, length), udp, vxlan)
}

func ipHeader(from, to netip.Addr, length int) []byte {
	const hops = 64
	if from.Is4() && to.Is4() {
		ip := binary.BigEndian.AppendUint16([]byte{0x45, 0}, uint16(ip4Header+length))
		ip = append(ip, 0, 0, 0, 0, hops, unix.IPPROTO_UDP, 0, 0)
		return slices.Concat(ip, from.AsSlice(), to.AsSlice())
	}
	ip := binary.BigEndian.AppendUint16([]byte{0x60, 0, 0, 0}, uint16(length))
	a, b := from.As16(), to.As16()
	return slices.Concat(ip, []byte{unix.IPPROTO_UDP, hops}, a[:], b[:])
}
