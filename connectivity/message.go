package connectivity

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/overlay"
)

// ProtocolVersion is the first byte of every message: no other part of overlane's has it. JSON follows, in which fields that a version does not know
// are passed over.
const ProtocolVersion = 0x43

const (
	maxMessage = 1 << 20 // bytes
	// maxPeers bounds with how many others a host tests, and what it tells of.
	maxPeers = 64
	// maxUnwell bounds how many containers a host tells of.
	maxUnwell = 64
	// maxHosts bounds the hosts of a test, which have an address each in its own network.
	maxHosts = 1 << 16
)

// phase is how far a test is. Each includes those before it.
type phase int

const (
	prepare phase = iota + 1
	run
	collect
	end
)

// message is an order of the host that leads a test, or the answer to one.
type message struct {
	Test   string  `json:"test"`
	Order  *order  `json:"order,omitempty"`
	Report *report `json:"report,omitempty"`
}

// order says what to do next. The same again asks how far it is.
type order struct {
	Phase     phase  `json:"phase"`
	Network   string `json:"network,omitempty"` // key of one that is to be tested; empty: one that is made for the test
	VNI       uint32 `json:"vni,omitempty"`     // of that
	Number    int    `json:"number,omitempty"`  // of this host in it, from 1
	Encrypted bool   `json:"encrypted,omitempty"`
	Egress    bool   `json:"egress,omitempty"` // is tested, too
	Peers     []peer `json:"peers,omitempty"`  // with run
}

// peer is another host's probe.
type peer struct {
	ID    string         `json:"id"`
	Name  string         `json:"name"`
	Addrs []netip.Addr   `json:"addrs"`
	MTU   int            `json:"mtu"`
	VTEP  netip.AddrPort `json:"vtep"`
}

// report is how far a host is, and what it found.
type report struct {
	Phase  phase  `json:"phase"`            // that it has done
	Busy   string `json:"busy,omitempty"`   // host that leads another test there
	Absent bool   `json:"absent,omitempty"` // it has no part in the network
	Error  string `json:"error,omitempty"`  // why it takes no part in the test

	Network string       `json:"network,omitempty"` // from here on with prepare: key
	Addrs   []netip.Addr `json:"addrs,omitempty"`
	MTU     int          `json:"mtu,omitempty"`
	NoNames string       `json:"no_names,omitempty"` // why no names are answered there

	Tested int `json:"tested,omitempty"` // peers so far

	Peers     []found           `json:"peers,omitempty"` // from here on with collect
	Sent      uint64            `json:"sent,omitempty"`  // packets that the workers took from the probe
	Drops     map[string]uint64 `json:"drops,omitempty"` // that grew meanwhile
	Unapplied []string          `json:"unapplied,omitempty"`
	// Containers that are not well, up to maxUnwell.
	Unwell     []overlay.Problem `json:"unwell,omitempty"`
	MoreUnwell int               `json:"more_unwell,omitempty"` // that are not listed
	Unnamed    string            `json:"unnamed,omitempty"`     // why some have no names
}

// found is what a host has found about another.
type found struct {
	ID        string  `json:"id"`
	Checks    []Check `json:"checks"`
	Announced bool    `json:"announced"`         // it has heard of the other's probe
	Largest   int     `json:"largest,omitempty"` // bytes of IP packet that pass, where those of the MTU do not
	NoKey     string  `json:"no_key,omitempty"`  // of an encrypted network
	// How the other has the network otherwise; zero: it has not.
	Otherwise overlay.Health `json:"otherwise,omitzero"`
	// VXLAN that went to the other's VTEP meanwhile, for whatever container, and that came from there.
	Sent          uint64 `json:"sent"` // packets
	Received      uint64 `json:"received"`
	SentBytes     uint64 `json:"sent_bytes"`
	ReceivedBytes uint64 `json:"received_bytes"`
}

// Check is one thing that was tried.
type Check struct {
	Name    string  `json:"name"`
	OK      bool    `json:"ok"`
	Skipped string  `json:"skipped,omitempty"` // why it was not tried
	Problem string  `json:"problem,omitempty"`
	Millis  float64 `json:"ms,omitempty"`
}

// testID is what a test is called.
var testID = regexp.MustCompile(`^[0-9a-f]{8}$`)

func (m *message) encode() ([]byte, error) {
	text, err := json.Marshal(m)
	return append([]byte{ProtocolVersion}, text...), err
}

func decode(text []byte) (*message, error) {
	if len(text) == 0 || text[0] != ProtocolVersion || len(text) > maxMessage {
		return nil, fmt.Errorf("%d bytes, at most %d, that do not begin with %d", len(text), maxMessage, ProtocolVersion)
	}
	var m message
	if err := json.Unmarshal(text[1:], &m); err != nil {
		return nil, err
	}
	switch {
	case !testID.MatchString(m.Test):
		return nil, fmt.Errorf("test %q: want 8 hexadecimal digits", m.Test)
	case (m.Order == nil) == (m.Report == nil):
		return nil, errors.New("want an order or a report")
	case m.Order != nil:
		return &m, m.Order.check(m.Test)
	}
	m.Report.clean()
	return &m, m.Report.check()
}

func (o *order) check(test string) error {
	switch {
	case o.Phase < prepare || o.Phase > end:
		return fmt.Errorf("phase %d: is none", o.Phase)
	case o.Phase == prepare && (o.Number < 1 || o.Number >= maxHosts):
		return fmt.Errorf("host %d of a test: want 1 to %d", o.Number, maxHosts-1)
	case o.Phase == prepare && o.Network == "" && (o.VNI == 0 || o.VNI > datapath.MaxVNI):
		return fmt.Errorf("VNI %d: want 1 to %d", o.VNI, datapath.MaxVNI)
	case len(o.Peers) > maxPeers:
		return fmt.Errorf("%d hosts to test with, at most %d", len(o.Peers), maxPeers)
	}
	for _, p := range o.Peers {
		switch {
		case len(p.Addrs) > 2:
			return fmt.Errorf("%d addresses of a host, at most 2", len(p.Addrs))
		case !strings.HasPrefix(p.Name, ownName(test)+"-"):
			return fmt.Errorf("probe %q: want one of the test's own, %s…", p.Name, ownName(test)+"-")
		}
	}
	return nil
}

func (r *report) check() error {
	if len(r.Unwell) > maxUnwell {
		return fmt.Errorf("%d containers that are not well, at most %d", len(r.Unwell), maxUnwell)
	}
	if len(r.Peers) > maxPeers || len(r.Addrs) > 2 {
		return fmt.Errorf("%d hosts tested with, at most %d, from %d addresses, at most 2", len(r.Peers), maxPeers, len(r.Addrs))
	}
	return nil
}
