// Package discovery keeps a cluster's view of which endpoint lives behind which
// VTEP. Every node owns the records of its own endpoints, spreads them to the
// nodes that subscribe to the same network, and learns theirs; membership and
// failure detection come from hashicorp/memberlist. ALGORITHM.md states the
// invariants.
package discovery

import (
	"encoding"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/sirupsen/logrus"
)

// MAC is a 48-bit hardware address.
type MAC [6]byte

var (
	_ encoding.TextMarshaler   = MAC{}
	_ encoding.TextUnmarshaler = (*MAC)(nil)
)

// ParseMAC reads a MAC address such as 02:42:0a:00:00:02.
func ParseMAC(s string) (MAC, error) {
	hw, err := net.ParseMAC(s)
	if err != nil || len(hw) != 6 {
		return MAC{}, fmt.Errorf("MAC address %q is not six hexadecimal bytes such as 02:42:0a:00:00:02", s)
	}
	return MAC(hw), nil
}

func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// MarshalText implements encoding.TextMarshaler.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *MAC) UnmarshalText(text []byte) (err error) {
	*m, err = ParseMAC(string(text))
	return err
}

// Network names an overlay network. Hosts agree on it by Key: "vni=5000",
// "network=app" or "subnet=10.20.0.0/16". VNI is the 24-bit VXLAN network
// identifier (RFC 7348 section 5). They agree as well on whether its packets
// are encrypted between them.
type Network struct {
	Key       string
	VNI       uint32
	Encrypted bool
}

// Endpoint is one container's interface in a network. Seq is its mobility
// sequence number (RFC 7432 section 15): of two owners that claim the same MAC
// or address, the one with the higher Seq wins.
type Endpoint struct {
	ID     string
	MAC    MAC
	Addrs  []netip.Addr
	Seq    uint32
	Extras []Extra
	Names  string // that its container is called by, separated by spaces: its own first
}

// Extra is an address that an endpoint's container uses beside its own, at the
// endpoint's MAC address (MAC is zero) or at one behind it. Of two that claim the
// same, the one with the higher Seq wins; an endpoint's own MAC address and
// addresses win over all that is extra.
type Extra struct {
	MAC  MAC        `json:"mac,omitzero"`
	Addr netip.Addr `json:"addr"`
	Seq  uint32     `json:"seq"`
}

// MaxExtras is how many of them an endpoint can have: a record with all of them
// fits a datagram.
const MaxExtras = 24

// MaxNames is how long an endpoint's names are together, in bytes: printable ASCII.
const MaxNames = 512

// State is a member's state as this node sees it.
type State string

// The states of a member.
const (
	StateAlive   State = "alive"
	StateSuspect State = "suspect" // missed probes; its records stay in use
	StateDead    State = "dead"    // its records are hidden after a grace period
	StateLeft    State = "left"    // went on purpose; its records are gone
)

// Member is one node of the cluster.
type Member struct {
	ID          string         // 32 hexadecimal digits, kept on disk across restarts
	Host        string         // host name, for people
	Addr        netip.AddrPort // where it gossips
	VTEP        netip.AddrPort // where it receives VXLAN
	State       State
	Incarnation uint64 // of the node's records; grows with each start
	Self        bool
	Keys        []Fingerprint // its gossip keys, the one it encrypts with first
	MTU         int           // of the device on which it receives VXLAN, in bytes of outer IP packet; 0: not known
	Whole       bool          // it takes super-frames of VXLAN in one piece, with a checksum inside that nobody has computed
	Networks    bool          // it takes messages about networks that are everywhere; versions before do not
	Tests       bool          // likewise about tests of connectivity
	Cluster     string        // identity of its cluster; empty: none yet, or a version that knows none
	Deaf        bool          // it gets no datagrams of this node's, and is sent streams
	Mute        bool          // this node gets no datagrams of its, but streams
	Frozen      bool          // dead, together with so many others that its records stay in use
	Replaced    bool          // dead, not Frozen, and its host was set up anew: a node of its host's name that is up has its VTEP
	LastSeen    time.Time     // when it went down; zero while it is up
}

// Record is one endpoint as its owner announced it. Hidden records belong to an
// owner that is dead; they are kept for its return but are in nobody's view.
type Record struct {
	Owner    string // Member.ID, or StaticOwner
	VTEP     netip.AddrPort
	Network  Network
	Endpoint Endpoint
	Hidden   bool
}

// Kind says what a Change is about.
type Kind int

// The kinds of changes.
const (
	KindVTEP  Kind = iota // a remote VTEP subscribes to the network: VTEP is set
	KindMAC               // a MAC address is behind a remote VTEP: MAC, VTEP
	KindAddr              // an address belongs to a MAC address: Addr, MAC, VTEP
	KindNames             // an endpoint's container is called so: Names, MAC, VTEP
)

func (k Kind) String() string {
	switch k {
	case KindVTEP:
		return "vtep"
	case KindMAC:
		return "mac"
	case KindAddr:
		return "addr"
	case KindNames:
		return "names"
	}
	return fmt.Sprintf("Kind(%d)", int(k))
}

// Change is one change of the best paths in the networks this node subscribes
// to. Only remote owners count: a node's own endpoints never appear. A Change
// that is not Gone replaces the previous one for the same VTEP, MAC, address or endpoint;
// a Gone one carries the values it removes.
type Change struct {
	Network Network
	Kind    Kind
	Gone    bool
	VTEP    netip.AddrPort
	MAC     MAC
	Addr    netip.Addr
	Extra   bool   // nobody's own: see Extra
	Names   string // as Endpoint has them
}

// Config says how to open a Cluster.
type Config struct {
	Dir       string         // data directory; holds the node's identity and what it knows of the others
	Host      string         // host name shown to others
	Bind      netip.AddrPort // where to listen for gossip, TCP and UDP; port 0 takes a free one
	Advertise netip.Addr     // address others reach this node at
	VTEP      netip.AddrPort // where this node receives VXLAN
	Whole     bool           // it takes super-frames in one piece: see Member
	// Join lists nodes to join: IP addresses or host names, each with or without
	// a port (default: the port of Bind). Every address of a name is tried, again
	// and again in the background.
	Join []string
	// Token is that of the cluster to join. Later the one in Dir counts, unless this is one that was never in use here. The first node of a
	// cluster needs none: it makes one.
	Token    Token
	Insecure bool     // gossip is not encrypted, and whoever reaches its port is believed
	Static   []Static // endpoints of VTEPs that speak no gossip
	// Used says whether this node has networks or addresses of its cluster. One
	// that has not, and was never with others, leaves the cluster it was alone in
	// for that of whom it is to join.
	Used func() bool
	Log  logrus.FieldLogger
	// Observe receives the view's changes, starting from the empty view. It is
	// called serially, in order, from one goroutine, and never under a lock.
	Observe func([]Change)
	// Receive takes user messages, which another member sent by Send; from is its Member.ID. It is
	// called from one goroutine, under no lock, and must not wait.
	Receive func(from string, text []byte)
}
