package ipam

import (
	"fmt"
	"net/netip"

	"google.golang.org/protobuf/proto"

	"github.com/overlane/overlane/overlay/ipam/internal/wire"
)

// protocolVersion is the first byte of every message.
const protocolVersion = 1

func (m *message) encode() ([]byte, error) {
	if len(m.Spans) > maxSpans {
		return nil, fmt.Errorf("%d spans, at most %d", len(m.Spans), maxSpans)
	}
	b, err := proto.MarshalOptions{}.MarshalAppend([]byte{protocolVersion}, m.wire())
	if err == nil && len(b) > maxMessage {
		err = fmt.Errorf("%d bytes, at most %d", len(b), maxMessage)
	}
	return b, err
}

func (m *message) wire() *wire.Message {
	w := &wire.Message{
		Key: m.Key, V6: m.V6, Host: m.Host, Number: m.Number.wire(), Heard: m.Heard.wire(), Owner: m.Owner, Member: m.Member,
		Origin: m.Origin.wire(), Proposed: m.Proposed, Re: m.Re.wire(), Free: m.Free, Hash: m.Hash, Held: m.Held,
		Full: m.Full, Reply: m.Reply, Need: m.Need, Lost: m.Lost,
	}
	if m.Subnet.IsValid() {
		w.Subnet, _ = m.Subnet.MarshalBinary() // never fails
	}
	for _, s := range m.Spans {
		w.Spans = append(w.Spans, &wire.Span{First: s.First, Last: s.Last, Owner: s.Owner, Epoch: s.Epoch, Version: s.Version})
	}
	if a := m.Ask; a != nil {
		w.Ask = &wire.Ask{Id: a.ID, First: a.First, Last: a.Last, Exact: a.Exact, Free: a.Free, Urgent: a.Urgent, To: a.To}
	}
	if a := m.Answer; a != nil {
		w.Answer = &wire.Answer{Id: a.ID, Why: a.Why}
	}
	return w
}

func (n number) wire() *wire.Number { return &wire.Number{Run: n.Run, Sent: n.Sent} }

func (o *origin) wire() *wire.Origin {
	if o == nil {
		return nil
	}
	return &wire.Origin{At: o.At, Owner: o.Owner}
}

// decode takes a message whole or not at all.
func decode(b []byte) (*message, error) {
	switch {
	case len(b) > maxMessage:
		return nil, fmt.Errorf("%d bytes, at most %d", len(b), maxMessage)
	case len(b) == 0 || b[0] != protocolVersion:
		return nil, fmt.Errorf("the first byte is not %d, the protocol's version", protocolVersion)
	}
	var w wire.Message
	if err := proto.Unmarshal(b[1:], &w); err != nil {
		return nil, err
	}
	m := &message{
		Key: w.Key, V6: w.V6, Host: w.Host, Number: numberOf(w.Number), Heard: numberOf(w.Heard), Owner: w.Owner, Member: w.Member,
		Origin: originOf(w.Origin), Proposed: w.Proposed, Re: originOf(w.Re), Free: w.Free, Hash: w.Hash, Held: w.Held,
		Full: w.Full, Reply: w.Reply, Need: w.Need, Lost: w.Lost,
	}
	var err error
	if m.Subnet, err = prefixOf(w.Subnet); err != nil {
		return nil, err
	}
	for _, s := range w.Spans {
		m.Spans = append(m.Spans, span{s.First, s.Last, s.Owner, s.Epoch, s.Version})
	}
	if a := w.Ask; a != nil {
		m.Ask = &ask{a.Id, a.First, a.Last, a.Exact, a.Free, a.Urgent, a.To}
	}
	if a := w.Answer; a != nil {
		m.Answer = &answer{a.Id, a.Why}
	}
	return m, m.check()
}

func numberOf(w *wire.Number) number { return number{w.GetRun(), w.GetSent()} }

func originOf(w *wire.Origin) *origin {
	if w == nil {
		return nil
	}
	return &origin{w.At, w.Owner}
}

// prefixOf reads an address of 4 or 16 bytes and a prefix length; of nothing it is zero.
func prefixOf(b []byte) (p netip.Prefix, err error) {
	switch len(b) {
	case 0:
	case 5, 17:
		err = p.UnmarshalBinary(b)
	default:
		err = fmt.Errorf("a subnet of %d bytes, not 5 or 17", len(b))
	}
	return p, err
}
