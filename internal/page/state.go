package page

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/overlay"
)

// State is what the page shows of one moment.
type State struct {
	Time       int64             `json:"time"` // of the rates; milliseconds since 1970
	Node       Node              `json:"node"`
	Hosts      []Host            `json:"hosts"`
	Networks   []Network         `json:"networks"`
	Containers []Container       `json:"containers"`
	Problems   []overlay.Problem `json:"problems"`
	Drops      []Drop            `json:"drops"`
	Underlay   Rate              `json:"underlay"`
}

// Node is the host that serves the page.
type Node struct {
	Host    string         `json:"host"`
	Version string         `json:"version"`
	Cluster string         `json:"cluster"`
	VTEP    netip.AddrPort `json:"vtep"`
	Uptime  int64          `json:"uptime"` // seconds
}

// Host is one of the cluster, or a VTEP that belongs to none.
type Host struct {
	ID         string          `json:"id"`
	Name       string          `json:"name"`
	State      discovery.State `json:"state"`
	Self       bool            `json:"self"`
	VTEP       string          `json:"vtep"`
	MTU        int             `json:"mtu"`        // of the path there; 0: there is none, or it is not known
	Networks   []int           `json:"networks"`   // in which it takes part, as indices
	Containers int             `json:"containers"` // that it announced
	Rate       *Rate           `json:"rate"`       // VXLAN from there and to there; nil: nothing is sent there
	overlay.Health
}

// Network is one of this host.
type Network struct {
	Name       string         `json:"name"`
	Key        string         `json:"key"`
	VNI        uint32         `json:"vni"`
	Encrypted  bool           `json:"encrypted"`
	Subnets    []netip.Prefix `json:"subnets"`
	Hosts      int            `json:"hosts"`
	Containers int            `json:"containers"` // on all hosts
	Rate       Rate           `json:"rate"`       // of the containers here
}

// Container is an endpoint of any host.
type Container struct {
	ID      string        `json:"id"` // with its network's
	Name    string        `json:"name"`
	Aliases string        `json:"aliases,omitempty"`
	Network string        `json:"network"`
	Key     string        `json:"key"` // the network's
	Addrs   []netip.Addr  `json:"addrs"`
	MAC     discovery.MAC `json:"mac"`
	Host    string        `json:"host"`
	Here    bool          `json:"here"`
	State   string        `json:"state"` // empty: it is reachable
	Rate    *Rate         `json:"rate"`  // nil: its host alone knows
}

// Drop is a reason for which packets were dropped since the daemon started.
type Drop struct {
	Reason  string  `json:"reason"`
	Because string  `json:"because"`
	Packets uint64  `json:"packets"`
	Rate    float64 `json:"rate"`
}

// stateOf gives a status the form that the page shows.
func stateOf(s *overlay.Status, r rates) State {
	state := State{
		Time:     r.at.UnixMilli(),
		Node:     Node{s.Node.Host, s.Node.Version, s.Node.Cluster, s.Node.VTEP, s.Node.UptimeSeconds},
		Problems: s.Problems(),
		Drops:    dropsOf(s.Datapath.Drops, r),
		Underlay: r.underlay,
	}
	state.Networks = networksOf(s)
	state.Containers = containersOf(s, r)
	state.Hosts = hostsOf(s, r)
	state.count()
	return state
}

func dropsOf(drops map[string]uint64, r rates) []Drop {
	all := []Drop{}
	for _, reason := range slices.Sorted(maps.Keys(drops)) {
		if packets := drops[reason]; packets > 0 {
			all = append(all, Drop{reason, datapath.DropReason(reason), packets, r.drops[reason]})
		}
	}
	return all
}

func networksOf(s *overlay.Status) []Network {
	all := []Network{}
	for _, n := range s.Networks {
		all = append(all, Network{Name: networkName(n), Key: n.Key, VNI: n.VNI, Encrypted: n.Encrypted, Subnets: n.Subnets, Hosts: len(n.Members)})
	}
	return all
}

func networkName(n overlay.NetworkStatus) string { return cmp.Or(n.Name, n.Key) }

// containersOf lists those of this host, then those of others.
func containersOf(s *overlay.Status, r rates) []Container {
	called := map[string]string{}
	for _, n := range s.Networks {
		called[n.Key] = networkName(n)
	}
	network := func(key string) string { return cmp.Or(called[key], key) }
	all := []Container{}
	for _, e := range s.Endpoints {
		name, aliases := containerName(e.Names, e.ID)
		c := Container{ID: short(e.NetworkID) + short(e.ID), Name: name, Aliases: aliases, Network: network(e.Network), Key: e.Network, Addrs: slices.Concat(e.Addrs, e.LinkLocal), MAC: e.MAC, Host: s.Node.Host, Here: true}
		if rate, known := r.ports[e.Tap]; known {
			c.Rate = &rate
		}
		if !e.HasPort {
			c.State = "no port"
		}
		all = append(all, c)
	}
	for _, e := range s.Remote {
		name, aliases := containerName(e.Names, e.ID)
		c := Container{ID: e.Network + "/" + short(e.ID) + "@" + e.Host, Name: name, Aliases: aliases, Network: network(e.Network), Key: e.Network, Addrs: e.Addrs, MAC: e.MAC, Host: e.Host}
		if e.Hidden {
			c.State = "hidden: its host is down"
		}
		all = append(all, c)
	}
	return all
}

// containerName is a container's own name and the others; the ID of its endpoint where none is known.
func containerName(names, id string) (own, aliases string) {
	own, aliases, _ = strings.Cut(names, " ")
	return cmp.Or(own, short(id)), aliases
}

// short is an ID as Docker shows it.
func short(id string) string { return id[:min(len(id), 12)] }

// hostsOf lists the members that have not left, and VTEPs of nobody that gossips.
func hostsOf(s *overlay.Status, r rates) []Host {
	all := []Host{}
	mtus := map[netip.AddrPort]int{}
	for _, p := range s.Paths {
		mtus[p.VTEP] = p.MTU
	}
	member := map[netip.AddrPort]bool{}
	for _, m := range s.Members {
		if m.State == discovery.StateLeft || m.State == overlay.StateStranger || m.State == overlay.StateReplaced || m.ID == "" {
			continue
		}
		member[m.VTEP] = true
		h := Host{ID: short(m.ID), Name: m.Host, State: m.State, Self: m.Self, VTEP: m.VTEP.String(), MTU: mtus[m.VTEP], Health: m.Health}
		if rate, known := r.paths[m.VTEP]; known && !m.Self {
			h.Rate = &rate
		}
		all = append(all, h)
	}
	for vtep, rate := range r.paths {
		if !member[vtep] {
			all = append(all, Host{ID: vtep.String(), Name: vtep.Addr().String(), State: stateStatic, VTEP: vtep.String(), MTU: mtus[vtep], Rate: &rate})
		}
	}
	for i, h := range all {
		all[i].Networks = takesPart(s, h.Name)
	}
	slices.SortFunc(all, func(a, b Host) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return all
}

// stateStatic is of a VTEP that speaks no gossip.
const stateStatic discovery.State = "static"

func takesPart(s *overlay.Status, host string) []int {
	all := []int{}
	for i, n := range s.Networks {
		if slices.Contains(n.Members, host) {
			all = append(all, i)
		}
	}
	return all
}

// count adds up what containers there are, and what those here send and receive.
func (s *State) count() {
	networks, hosts := map[string]*Network{}, map[string]*Host{}
	for i := range s.Networks {
		networks[s.Networks[i].Name] = &s.Networks[i]
	}
	for i := range s.Hosts {
		hosts[s.Hosts[i].Name] = &s.Hosts[i]
	}
	for _, c := range s.Containers {
		if n := networks[c.Network]; n != nil {
			n.Containers++
			if c.Rate != nil {
				n.Rate = n.Rate.plus(*c.Rate)
			}
		}
		if h := hosts[c.Host]; h != nil {
			h.Containers++
		}
	}
}
