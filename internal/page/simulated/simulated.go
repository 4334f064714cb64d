// Package simulated makes up clusters of any size for the page to show.
package simulated

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/internal/page"
	"github.com/overlane/overlane/names"
	"github.com/overlane/overlane/overlay"
)

const (
	perHost  = 8 // containers
	networks = 6
	downHost = 3
	slowHost = 5
)

var applications = []string{"web", "db", "cache", "queue", "mail", "search", "auth", "metrics"}

// Cluster is one of so many hosts, some of which are not well, with traffic that goes on.
type Cluster struct {
	hosts   int
	started time.Time
}

// New begins with a cluster's traffic.
func New(hosts int) *Cluster { return &Cluster{hosts, time.Now().Add(-time.Hour)} }

// Source is what the first host says of it.
func (c *Cluster) Source() page.Source {
	return page.Source{Status: func() (overlay.Status, error) { return c.status(), nil }, Stats: c.stats, Trace: trace}
}

// trace makes up how a packet goes, and one that does.
func trace(_ context.Context, q page.TraceQuery, out io.Writer) error {
	fmt.Fprintf(out, "1. %s sends to %s on %s\nIt arrives.\n", q.From, q.To, q.Network)
	if q.Packets {
		fmt.Fprintf(out, "\n08:00:00.000000  ICMP %s > %s echo request, id 1, seq 1\n        0 µs  host01  read from %s\n", q.From, q.To, q.From)
	}
	return nil
}

func host(i int) string { return fmt.Sprintf("host%02d", i+1) }

func vtep(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), 4789)
}

func network(i int) string { return fmt.Sprintf("%s-net", applications[i]) }

func tap(i int) string { return fmt.Sprintf("ov%011d", i) }

// grown is a counter that has grown by so much a second, more or less.
func (c *Cluster) grown(perSecond float64) uint64 {
	return uint64(time.Since(c.started).Seconds() * perSecond)
}

// traffic of thing i: some have much, most little, and some none.
func (c *Cluster) traffic(i int) datapath.Traffic {
	if i == downHost {
		return datapath.Traffic{}
	}
	random := rand.New(rand.NewPCG(1, uint64(i)))
	rate := float64(random.IntN(1000))
	switch i % 5 {
	case 0:
		rate *= 20000
	case 4:
		rate = 0
	}
	return datapath.Traffic{RxPackets: c.grown(rate / 500), RxBytes: c.grown(rate), TxPackets: c.grown(rate / 900), TxBytes: c.grown(rate / 3)}
}

func (c *Cluster) stats() datapath.Stats {
	s := datapath.Stats{
		Workers: []int{3}, Ran: []time.Duration{time.Second}, MbufsInUse: 600, MbufsTotal: 16000,
		Tables: []datapath.TableStats{{Name: "neighbours", Entries: 900, Capacity: 131072}},
		Drops:  map[string]uint64{"fdb_miss": c.grown(0.4), "router_solicited": c.grown(2), "spoofed_ip": c.grown(7), "underlay_overflow": c.grown(23), "nobody": c.grown(1), "vtep_unknown": 3, "malformed": 0},
	}
	for i := 1; i < c.hosts; i++ {
		t := c.traffic(i)
		s.Paths = append(s.Paths, datapath.PathStats{VTEP: vtep(i), MTU: 1500, Traffic: t})
		s.Underlay = s.Underlay.Plus(t)
	}
	for i := range perHost {
		s.Ports = append(s.Ports, datapath.PortStats{Name: tap(i), Kind: datapath.KindTap, Traffic: c.traffic(i)})
	}
	return s
}

func (c *Cluster) status() overlay.Status {
	s := overlay.Status{
		Node:     overlay.NodeStatus{ID: fmt.Sprintf("%032d", 0), Host: host(0), Version: "v0.0.0-simulated", Cluster: fmt.Sprintf("%032d", 7), VTEP: vtep(0), UptimeSeconds: int64(time.Since(c.started).Seconds())},
		Names:    overlay.NamesStatus{Status: names.Status{Containers: perHost}},
		Datapath: c.stats(),
	}
	for i := range networks {
		n := overlay.NetworkStatus{ID: fmt.Sprintf("%012d%052d", i, 0), Name: network(i), Key: "network=" + network(i), VNI: uint32(5000 + i), MTU: 1450, Encrypted: i == 2, Subnets: []netip.Prefix{netip.PrefixFrom(address(i, 0, 0), 16)}}
		for h := range c.hosts {
			if h == 0 || i == 0 || h%networks == i || h%(networks+1) == i {
				n.Members = append(n.Members, host(h))
			}
		}
		s.Networks = append(s.Networks, n)
	}
	for h := range c.hosts {
		s.Members = append(s.Members, member(h))
		if h > 0 {
			s.Paths = append(s.Paths, overlay.PathStatus{Host: host(h), VTEP: vtep(h), MTU: 1500})
		}
		for i := range perHost {
			c.addContainer(&s, h, i)
		}
	}
	return s
}

// member is one of the cluster.
func member(h int) overlay.MemberStatus {
	m := overlay.MemberStatus{ID: fmt.Sprintf("%012d%020d", h, 0), Host: host(h), State: discovery.StateAlive, VTEP: vtep(h), Self: h == 0}
	switch h {
	case downHost:
		m.State, m.Health = discovery.StateDead, overlay.Health{Reason: "it answers neither UDP nor TCP, and was last seen 2026-11-30 07:12:40; its endpoints are hidden", Advice: "start overlane there, or see that UDP and TCP port 7950 is open between the hosts"}
	case slowHost:
		m.State, m.Health = discovery.StateSuspect, overlay.Health{Reason: "it owes an answer for more than a second; its endpoints stay in use", Advice: "if this lasts, look at that host's load and at the network between the hosts"}
	}
	return m
}

func address(network, host, container int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(20 + network), byte(host), byte(container)})
}

// addContainer adds container i of host h.
func (c *Cluster) addContainer(s *overlay.Status, h, i int) {
	n := i % networks
	id, addrs := fmt.Sprintf("%012d%052d", h*perHost+i, 0), []netip.Addr{address(n, h, i+2)}
	mac := discovery.MAC{2, 0x42, 10, byte(20 + n), byte(h), byte(i + 2)}
	name := fmt.Sprintf("%s-%d %s", applications[i], h+1, applications[i])
	if h == 0 {
		s.Endpoints = append(s.Endpoints, overlay.EndpointStatus{Endpoint: overlay.Endpoint{ID: id, NetworkID: s.Networks[n].ID, MAC: mac, Addrs: addrs, Names: name, State: "joined"}, Network: s.Networks[n].Key, Tap: tap(i), HasPort: true})
		return
	}
	s.Remote = append(s.Remote, overlay.RemoteStatus{ID: id, Network: s.Networks[n].Key, VNI: s.Networks[n].VNI, Host: host(h), VTEP: vtep(h), MAC: mac, Addrs: addrs, Names: name, Hidden: h == downHost})
}
