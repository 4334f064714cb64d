package capture

import (
	"fmt"
	"net/netip"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/overlane/overlane/capture/internal/wire"
	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/internal/plain"
)

// ProtocolVersion is the first byte of every message: no other part of overlane's has it.
const ProtocolVersion = 0x67

// Limits of what another host may say.
const (
	maxMessage = 4 << 20
	maxFilter  = 4096
)

// message is one of ask, reply and end.
type message struct {
	session uint64
	ask     *Query
	reply   *reply
	end     bool
}

type reply struct {
	number, captured, lost uint64
	refused                uint64 // of those lost: beyond what a host is given in a second
	headers                bool
	err                    string
	packets                []Packet
	run                    uint64 // of the capture: another one counts anew
	now                    time.Time
}

func (m message) encode() ([]byte, error) {
	w := &wire.Message{Session: m.session}
	switch {
	case m.ask != nil:
		w.What = &wire.Message_Ask{Ask: m.ask.wire()}
	case m.reply != nil:
		w.What = &wire.Message_Reply{Reply: m.reply.wire()}
	default:
		w.What = &wire.Message_End{End: m.end}
	}
	return proto.MarshalOptions{}.MarshalAppend([]byte{ProtocolVersion}, w)
}

func (q *Query) wire() *wire.Ask {
	w := &wire.Ask{Vni: q.VNI, Sample: uint32(q.Sample), Snap: uint32(q.Snap), Filter: q.Filter, Opaque: q.Opaque}
	if q.MAC != nil {
		w.Mac = q.MAC[:]
	}
	if q.VTEP.IsValid() {
		w.Vtep = q.VTEP.AsSlice()
	}
	for _, p := range q.Points {
		w.Points = append(w.Points, string(p))
	}
	return w
}

func (r *reply) wire() *wire.Reply {
	w := &wire.Reply{Number: r.number, Captured: r.captured, Lost: r.lost, Headers: r.headers, Error: r.err, Run: r.run, Now: r.now.UnixNano()}
	for _, p := range r.packets {
		packet := &wire.Packet{
			Time: p.Time.UnixNano(), Drop: p.Drop, Len: uint32(p.Len), Vni: p.VNI, Gso: uint32(p.GSO),
			Encrypted: p.Encrypted, Payload: p.Payload, Identity: p.Identity, Data: p.Data,
		}
		for i, point := range datapath.Points {
			if point == p.Point {
				packet.Point = uint32(i)
			}
		}
		if p.VTEP.IsValid() {
			packet.Vtep, _ = p.VTEP.MarshalBinary() // never fails
		}
		if p.Port != (datapath.MAC{}) {
			packet.Port = p.Port[:]
		}
		w.Packets = append(w.Packets, packet)
	}
	return w
}

// decode takes a message whole or not at all.
func decode(b []byte) (*message, error) {
	switch {
	case len(b) > maxMessage:
		return nil, fmt.Errorf("%d bytes, at most %d", len(b), maxMessage)
	case len(b) == 0 || b[0] != ProtocolVersion:
		return nil, fmt.Errorf("the first byte is not %d, the protocol's version", ProtocolVersion)
	}
	var w wire.Message
	if err := proto.Unmarshal(b[1:], &w); err != nil {
		return nil, err
	}
	m := &message{session: w.Session, end: w.GetEnd()}
	var err error
	switch what := w.What.(type) {
	case *wire.Message_Ask:
		m.ask, err = queryOf(what.Ask)
	case *wire.Message_Reply:
		m.reply, err = replyOf(what.Reply)
	}
	return m, err
}

// queryOf leaves it to the datapath to say what is wrong with a number.
func queryOf(w *wire.Ask) (*Query, error) {
	q := &Query{VNI: w.Vni, Sample: int(w.Sample), Snap: int(w.Snap), Filter: w.Filter, Opaque: w.Opaque}
	if len(w.Filter) > maxFilter || len(w.Points) > len(datapath.Points) {
		return nil, fmt.Errorf("a filter of %d bytes and %d points: at most %d and %d", len(w.Filter), len(w.Points), maxFilter, len(datapath.Points))
	}
	for _, p := range w.Points {
		q.Points = append(q.Points, datapath.Point(p))
	}
	if len(w.Mac) > 0 {
		mac, err := macOf(w.Mac)
		if err != nil {
			return nil, err
		}
		q.MAC = &mac
	}
	if len(w.Vtep) > 0 {
		addr, is := netip.AddrFromSlice(w.Vtep)
		if !is {
			return nil, fmt.Errorf("VTEP of %d bytes, want 4 or 16", len(w.Vtep))
		}
		q.VTEP = addr
	}
	return q, nil
}

func macOf(b []byte) (datapath.MAC, error) {
	if len(b) != len(datapath.MAC{}) {
		return datapath.MAC{}, fmt.Errorf("MAC of %d bytes, want 6", len(b))
	}
	return datapath.MAC(b), nil
}

func replyOf(w *wire.Reply) (*reply, error) {
	r := &reply{number: w.Number, captured: w.Captured, lost: w.Lost, headers: w.Headers, err: plain.Text(w.Error), run: w.Run, now: time.Unix(0, w.Now)}
	for _, p := range w.Packets {
		if int(p.Point) >= len(datapath.Points) {
			return nil, fmt.Errorf("point %d, at most %d", p.Point, len(datapath.Points)-1)
		}
		if p.Drop != "" && datapath.DropReason(p.Drop) == "" {
			return nil, fmt.Errorf("drop %q: no packet is dropped as that", p.Drop)
		}
		packet := Packet{Identity: p.Identity, Captured: datapath.Captured{
			Time: time.Unix(0, p.Time), Point: datapath.Points[p.Point], Drop: p.Drop, Len: int(p.Len), VNI: p.Vni, GSO: int(p.Gso),
			Encrypted: p.Encrypted, Payload: p.Payload, Data: p.Data,
		}}
		if len(p.Vtep) > 0 {
			if err := packet.VTEP.UnmarshalBinary(p.Vtep); err != nil {
				return nil, fmt.Errorf("VTEP: %w", err)
			}
		}
		if len(p.Port) > 0 {
			mac, err := macOf(p.Port)
			if err != nil {
				return nil, err
			}
			packet.Port = mac
		}
		r.packets = append(r.packets, packet)
	}
	return r, nil
}
