// Package check says whether a host can run overlane well.
package check

import (
	"net/netip"
	"slices"
	"time"
)

// State is what a result means.
type State string

// The states of results.
const (
	OK   State = "ok"
	Warn State = "warn" // overlane works, if not as well as it could
	Fail State = "fail"
)

// Result is what was seen of one thing, and the cure where it is not well.
type Result struct {
	Check string `json:"check"`
	State State  `json:"state"`
	Seen  string `json:"seen"`
	Cure  string `json:"cure,omitempty"`
}

// Config is how the daemon runs here, or is to run.
type Config struct {
	VTEP             netip.Addr
	Gossip           netip.AddrPort
	VXLANPort        uint16
	Metrics          string // address and port; empty: none
	Interface        string // of the kernel, that carries VXLAN by AF_XDP; empty: none
	WholeFrames      bool   // super-frames are to leave in one piece
	WholeFramesAsked bool   // by a setting, without which they may
	Daemon           int    // process of the daemon that runs, 0 for none: what it holds is not taken
	UnderlayMTU      int    // by the routes to all peers; 0 where the VTEP's address comes with the daemon
	NetworkMTU       int    // of the containers on the widest network here that is not encrypted; 0: there is none
	EncryptedMTU     int    // on the widest that is
	Encrypt          bool   // the first network will be
	Peers            []Peer
	DockerSocket     string    // of Docker's engine; empty: it is not asked
	Built            time.Time // this program; zero: not known
}

// Peer is another host.
type Peer struct {
	Name   string
	Gossip netip.AddrPort
	VTEP   netip.AddrPort
}

// Failed says whether the host can't run overlane.
func Failed(results []Result) bool {
	return slices.ContainsFunc(results, func(r Result) bool { return r.State == Fail })
}

// Run looks at all there is to see.
func Run(c Config) []Result {
	results := []Result{processor(), taps(), offloads(), resolution(), engineSocket(c.DockerSocket)}
	if c.WholeFrames {
		results = append(results, superFrames(c.WholeFramesAsked))
	}
	if c.Interface != "" {
		results = append(results, xdp(c.Interface))
	}
	if c.DockerSocket != "" {
		results = append(results, forwarding("/proc/sys/net/ipv4/ip_forward"))
	}
	results = append(results, hugepages("/sys/kernel/mm/hugepages"), clock(time.Now(), c.Built))
	results = append(results, ports(c)...)
	results = append(results, firewalls(c.VXLANPort, c.Gossip.Port())...)
	for _, p := range c.Peers {
		results = append(results, Gossip(c.Gossip.Addr(), p), path(c, p))
	}
	return append(results, vxlan(c)...)
}
