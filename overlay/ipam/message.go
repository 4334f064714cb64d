package ipam

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
)

// Limits of what is taken from the wire, and kept to in what is sent.
const (
	maxMessage = 3 << 20 // bytes
	maxSpans   = 32768   // of one pool
	maxHeld    = 65536   // addresses that a host holds of others' blocks, in one message
	maxKey     = 192     // bytes of a network's key
	maxVersion = 1 << 53 // and epoch, of a span
	maxOwner   = 64      // bytes of an owner's name
	maxHost    = 255     // bytes of a host's name
)

// origin names the first claim to a pool, from which all of its blocks come. Of two the older counts.
type origin struct {
	At   int64  `json:"at"` // milliseconds since 1970, by the clock of the host
	Node string `json:"node"`
}

func (o origin) before(other origin) bool {
	if o.At != other.At {
		return o.At < other.At
	}
	return o.Node < other.Node
}

// number is a message's among those of its sender: see message.Run and message.Sent.
type number struct {
	Run  uint64 `json:"run,string"`
	Sent uint64 `json:"sent"`
}

// message is what hosts say to each other about one pool. Each tells where its sender stands.
type message struct {
	Key      string       `json:"key"`
	Subnet   netip.Prefix `json:"subnet"`             // zero: any of the key and the family of V6
	V6       bool         `json:"v6,omitempty"`       // with a zero Subnet
	Host     string       `json:"host"`               // the sender's name
	Run      uint64       `json:"run,string"`         // a number of the sender's daemon, another after each start
	Sent     uint64       `json:"sent"`               // messages that it has sent
	Heard    number       `json:"heard,omitzero"`     // the last of the recipient's messages that has come in
	Owner    string       `json:"owner,omitempty"`    // the sender in the table
	Member   bool         `json:"member,omitempty"`   // it takes part in the pool
	Origin   *origin      `json:"origin,omitempty"`   // nil: it does not know the pool
	Proposed bool         `json:"proposed,omitempty"` // Origin is no more than its wish
	Re       *origin      `json:"re,omitempty"`       // the recipient's Origin, as the sender has heard it
	Free     uint64       `json:"free,omitempty"`     // addresses it could give away
	Hash     uint64       `json:"hash,string,omitempty"`
	Held     []uint64     `json:"held,omitempty"` // addresses in use there that others own

	Spans  table   `json:"spans,omitempty"` // of the table
	Full   bool    `json:"full,omitempty"`  // Spans is all of it
	Reply  bool    `json:"reply,omitempty"` // a word back is wanted
	Need   bool    `json:"need,omitempty"`  // and in it all of the table
	Ask    *ask    `json:"ask,omitempty"`
	Answer *answer `json:"answer,omitempty"` // Spans has what was given
}

// ask is a question for addresses. The same ID gets the same answer.
type ask struct {
	ID     uint64 `json:"id,string"`
	First  uint64 `json:"first"`           // wanted from here
	Last   uint64 `json:"last"`            // to here
	Exact  bool   `json:"exact,omitempty"` // this address and no other: First and Last are the same
	Free   uint64 `json:"free,omitempty"`  // addresses of these that the sender has already
	Urgent bool   `json:"urgent,omitempty"`
	To     string `json:"to,omitempty"` // ownerGateway or ownerReserved, in place of the sender
}

// answer is one to an ask. Nothing given says why.
type answer struct {
	ID  uint64 `json:"id,string"`
	Why string `json:"why,omitempty"`
}

func (m *message) encode() ([]byte, error) {
	if len(m.Spans) > maxSpans {
		return nil, fmt.Errorf("%d spans, at most %d", len(m.Spans), maxSpans)
	}
	b, err := json.Marshal(m)
	if err == nil && len(b) > maxMessage {
		err = fmt.Errorf("%d bytes, at most %d", len(b), maxMessage)
	}
	return b, err
}

func decode(b []byte) (*message, error) {
	if len(b) > maxMessage {
		return nil, fmt.Errorf("%d bytes, at most %d", len(b), maxMessage)
	}
	m := new(message)
	if err := json.Unmarshal(b, m); err != nil {
		return nil, err
	}
	return m, m.check()
}

func (m *message) check() error {
	switch {
	case m.Key == "" || len(m.Key) > maxKey || len(m.Host) > maxHost || len(m.Owner) > maxOwner:
		return errors.New("a key or a name of a wrong length")
	case len(m.Spans) > maxSpans || len(m.Held) > maxHeld:
		return errors.New("too many spans or addresses")
	case !m.Subnet.IsValid():
		if m.Subnet != (netip.Prefix{}) || m.Spans != nil || m.Ask != nil || m.Answer != nil || m.Held != nil {
			return errors.New("no subnet")
		}
		return nil
	}
	if err := CheckPool(m.Subnet, netip.Prefix{}); err != nil {
		return err
	}
	lo, hi := bounds(m.Subnet)
	if a := m.Ask; a != nil && (a.First < lo || a.First > a.Last || a.Exact && a.First != a.Last || a.Last > hi || a.To != "" && isHost(a.To)) {
		return errors.New("a question for addresses outside the subnet")
	}
	return m.Spans.check(lo, hi)
}

func (t table) check(lo, hi uint64) error {
	for _, s := range t {
		if len(s.Owner) > maxOwner || s.Version > maxVersion || s.Epoch > maxVersion {
			return fmt.Errorf("a span of owner %q, epoch %d, version %d", s.Owner, s.Epoch, s.Version)
		}
		if s.First < lo || s.First > s.Last || s.Last > hi {
			return fmt.Errorf("a span from %d to %d, out of order or outside %d to %d", s.First, s.Last, lo, hi)
		}
		lo = s.Last + 1
	}
	return nil
}
