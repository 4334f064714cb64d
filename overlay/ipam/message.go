package ipam

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/overlane/overlane/overlay/ipam/prefix"
)

// Limits of what is taken from the wire, and kept to in what is sent.
const (
	maxMessage = 3 << 20 // bytes; discovery takes 4 << 20
	maxSpans   = 32768   // of one pool
	maxHeld    = 65536   // addresses that a host holds of others' blocks, in one message
	maxKey     = 192     // bytes of a network's key
	maxVersion = 1 << 53 // and epoch, of a span
	maxOwner   = 64      // bytes of an owner's name
	maxHost    = 255     // bytes of a host's name
)

// origin names the first claim to a pool, from which all of its blocks come. Of two the older counts.
type origin struct {
	At    int64  `json:"at"` // milliseconds since 1970, by the clock of the host
	Owner string `json:"owner"`
}

func (o origin) before(other origin) bool {
	if o.At != other.At {
		return o.At < other.At
	}
	return o.Owner < other.Owner
}

// newOrigin is that of a claim made now. Of a clock that was never set nobody knows how old its claim is: it counts as the youngest.
func newOrigin(now time.Time, owner string) origin {
	at := now.UnixMilli()
	if at < clockFloor {
		at = math.MaxInt64
	}
	return origin{at, owner}
}

const clockFloor = 50 * 365 * 24 * 60 * 60 * 1000 // milliseconds since 1970: before any claim

// number is a message's among those of its sender: that of its daemon's start, which grows, and of messages since.
type number struct{ Run, Sent uint64 }

func (n number) before(other number) bool {
	return n.Run < other.Run || n.Run == other.Run && n.Sent < other.Sent
}

// message is what hosts say to each other about one pool. Each tells where its sender stands.
type message struct {
	Key      string
	Subnet   netip.Prefix // zero: any of the key and the family of V6
	V6       bool         // with a zero Subnet
	Host     string       // the sender's name
	Number   number
	Heard    number  // the last of the recipient's messages about the pool that has come in
	Owner    string  // the sender in the table
	Member   bool    // it takes part in the pool
	Origin   *origin // nil: it does not know the pool
	Proposed bool    // Origin is no more than its wish
	Re       *origin // the recipient's Origin, as the sender has heard it
	Free     uint64  // addresses it could give away
	Hash     uint64
	Held     []uint64 // addresses in use there that others own

	Spans  table // of the table
	Full   bool  // Spans is all of it
	Reply  bool  // a word back is wanted
	Need   bool  // and in it all of the table
	Ask    *ask
	Answer *answer // Spans has what was given
	Lost   string  // the host from which the sender takes over an address; in the answer: it is down there too
}

// ask is a question for addresses. The same ID gets the same answer.
type ask struct {
	ID     uint64
	First  uint64 // wanted from here
	Last   uint64 // to here
	Exact  bool   // this address and no other: First and Last are the same
	Free   uint64 // addresses of these that the sender has already
	Urgent bool
	To     string // ownerGateway or ownerReserved, in place of the sender
}

// answer is one to an ask. Nothing given says why.
type answer struct {
	ID  uint64
	Why string
}

func (m *message) check() error {
	switch {
	case m.Key == "" || len(m.Key) > maxKey || len(m.Host) > maxHost || len(m.Owner) > maxOwner || len(m.Lost) > maxOwner:
		return errors.New("a key or a name of a wrong length")
	case len(m.Spans) > maxSpans || len(m.Held) > maxHeld:
		return errors.New("too many spans or addresses")
	case !m.Subnet.IsValid():
		if m.Subnet != (netip.Prefix{}) || m.Spans != nil || m.Ask != nil || m.Answer != nil || m.Held != nil {
			return errors.New("no subnet")
		}
		return nil
	}
	if err := prefix.Check(m.Subnet, netip.Prefix{}); err != nil {
		return err
	}
	lo, hi := prefix.Bounds(m.Subnet)
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
