package overlay

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/names"
	"github.com/overlane/overlane/networks"
)

// Status is what the daemon knows at one moment: the JSON of `overlane status -o json`.
type Status struct {
	Node      NodeStatus       `json:"node"`
	Members   []MemberStatus   `json:"members"`
	Paths     []PathStatus     `json:"paths"`
	Networks  []NetworkStatus  `json:"networks"`
	Endpoints []EndpointStatus `json:"endpoints"`
	Remote    []RemoteStatus   `json:"remote_endpoints"`
	Conflicts []Conflict       `json:"conflicts"`
	Refused   []RefusedNetwork `json:"refused_networks"`
	Pending   []PendingStatus  `json:"pending"`
	Gossip    GossipStatus     `json:"gossip"`
	Names     NamesStatus      `json:"names"`
	// Hosts with a part in an encrypted network here.
	Encryption []EncryptionStatus `json:"encryption"`
	// How this host's engine has the networks that are everywhere.
	Everywhere []networks.State `json:"everywhere"`
	Datapath   datapath.Stats   `json:"datapath"`
}

// NamesStatus is how containers are found by name.
type NamesStatus struct {
	names.Status
	Engine string `json:"engine"` // why this host's own containers have no names; empty: they have
}

// NodeStatus is this host.
type NodeStatus struct {
	ID            string         `json:"id"`
	Host          string         `json:"host"`
	Version       string         `json:"version"`
	Cluster       string         `json:"cluster"` // its identity; empty: none yet
	VTEP          netip.AddrPort `json:"vtep"`
	Gossip        netip.AddrPort `json:"gossip"`
	Spoofable     string         `json:"spoofable"` // why containers of this host can send forged VXLAN; empty: they can't
	Insecure      bool           `json:"insecure"`  // its cluster has no token: gossip is not encrypted
	UptimeSeconds int64          `json:"uptime_seconds"`
}

// MemberStatus is a node of the cluster, this one included, or one that wanted to be.
type MemberStatus struct {
	ID          string          `json:"id"`
	Host        string          `json:"host"`
	State       discovery.State `json:"state"`
	Gossip      netip.AddrPort  `json:"gossip"`
	VTEP        netip.AddrPort  `json:"vtep"`
	Incarnation uint64          `json:"incarnation"`
	Self        bool            `json:"self"`
	Health
}

// PathStatus is the way to another host that has a part in one of the networks here.
type PathStatus struct {
	Host string         `json:"host"`
	VTEP netip.AddrPort `json:"vtep"`
	MTU  int            `json:"mtu"` // bytes of outer IP packet; 0: there is no route
	// Whether they leave in one piece or are cut up here, and why.
	SuperFrames string `json:"super_frames"`
	Health
}

// NetworkStatus is a network of this host.
type NetworkStatus struct {
	ID      string         `json:"id"`
	Name    string         `json:"name"` // Docker's; empty: not known
	Key     string         `json:"key"`
	VNI     uint32         `json:"vni"`
	MTU     int            `json:"mtu"`    // that it was made with
	Widest  int            `json:"widest"` // largest MTU of a container on it here; 0: there is none
	Subnets []netip.Prefix `json:"subnets"`
	Members []string       `json:"members"` // hosts that take part, this one included

	Encrypted bool `json:"encrypted"`
}

// EndpointStatus is an endpoint of this host.
type EndpointStatus struct {
	Endpoint
	Network string `json:"network"` // key
	Tap     string `json:"tap"`     // name of its interface when it was made
	HasPort bool   `json:"has_port"`
	InterfaceStatus
}

// RemoteStatus is an endpoint of another host, as that host announced it.
type RemoteStatus struct {
	ID      string         `json:"id"`
	Network string         `json:"network"` // key
	VNI     uint32         `json:"vni"`
	Host    string         `json:"host"`
	VTEP    netip.AddrPort `json:"vtep"`
	MAC     discovery.MAC  `json:"mac"`
	Addrs   []netip.Addr   `json:"addrs"`
	Seq     uint32         `json:"seq"`
	Hidden  bool           `json:"hidden"`          // its host is dead
	Names   string         `json:"names,omitempty"` // as discovery.Endpoint has them

	Extras []discovery.Extra `json:"extras,omitempty"` // addresses that its container claimed beside its own
}

// RefusedNetwork is a network of another host that can't be merged with one of this host: the same key with another
// VNI, the same VNI under another key, or the same of which one is encrypted. Neither takes the other's endpoints.
type RefusedNetwork struct {
	Key       string `json:"key"`
	VNI       uint32 `json:"vni"`
	TheirHost string `json:"their_host"`
	TheirKey  string `json:"their_key"`
	TheirVNI  uint32 `json:"their_vni"`

	Encrypted      bool   `json:"encrypted"`
	TheirEncrypted bool   `json:"their_encrypted"`
	Advice         string `json:"advice"`
}

// GossipStatus counts what came in by gossip and was not taken.
type GossipStatus struct {
	Rejected map[string]uint64 `json:"rejected"` // messages by the name of the reason
}

// Status reads everything at once.
func (o *Overlay) Status() Status {
	members, records := o.cluster.Members(), o.cluster.Records()
	byID := make(map[string]discovery.Member, len(members))
	for _, m := range members {
		byID[m.ID] = m
	}
	self := o.cluster.Self()
	s := Status{
		Node: NodeStatus{
			ID: self.ID, Host: self.Host, Version: o.cfg.Version, Cluster: self.Cluster, VTEP: self.VTEP, Gossip: self.Addr, Insecure: len(self.Keys) == 0, Spoofable: o.whySpoofable(),
			UptimeSeconds: int64(time.Since(o.started).Seconds()),
		},
		Members:    o.memberStatus(self, members),
		Remote:     remoteStatus(records, self.ID, byID),
		Conflicts:  conflicts(records, byID),
		Refused:    refusedNetworks(o.cluster.Conflicts()),
		Gossip:     GossipStatus{Rejected: o.cluster.Rejected()},
		Names:      o.Names(),
		Encryption: o.Encryption(),
		Datapath:   o.cfg.Datapath.Stats(),
	}
	o.addLocal(&s, self, members)
	s.Paths = o.pathStatus(s.Datapath.Paths, members, s.Networks)
	return s
}

// Names says how containers are found by name.
func (o *Overlay) Names() NamesStatus {
	s := NamesStatus{Status: o.cfg.Names.Status()}
	if err := o.cfg.Engine(); err != nil {
		s.Engine = err.Error()
	}
	return s
}

// Stages has the datapath measure where its workers' cycles go.
func (o *Overlay) Stages(ctx context.Context, length time.Duration) (datapath.Stages, error) {
	return o.cfg.Datapath.Stages(ctx, length)
}

// memberStatus lists the members by host, and after them who is none.
func (o *Overlay) memberStatus(self discovery.Member, members []discovery.Member) []MemberStatus {
	all := byHost(members, self.Addr)
	lacking := map[string]Health{}
	for _, s := range o.Encryption() {
		lacking[s.ID] = s.Health
	}
	for i, m := range all {
		all[i].Health = cmp.Or(m.Health, lacking[m.ID])
	}
	if twin, found := o.cluster.Twin(); found {
		all = append(all, copyStatus(twin))
	}
	return append(all, strangers(o.cluster.Strangers(), self)...)
}

// byHost says how the members are; here is where this host gossips.
func byHost(members []discovery.Member, here netip.AddrPort) []MemberStatus {
	all := make([]MemberStatus, 0, len(members))
	sharing := sharedAddressHealth(members)
	for _, m := range members {
		status := MemberStatus{m.ID, m.Host, m.State, m.Addr, m.VTEP, m.Incarnation, m.Self, cmp.Or(sharing[m.ID], memberHealth(m, here))}
		if m.Replaced {
			status.State, status.Health = StateReplaced, Health{}
		}
		all = append(all, status)
	}
	slices.SortFunc(all, func(a, b MemberStatus) int { return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.ID, b.ID)) })
	return all
}

func remoteStatus(records []discovery.Record, self string, byID map[string]discovery.Member) []RemoteStatus {
	all := []RemoteStatus{}
	for _, r := range records {
		if r.Owner == self {
			continue
		}
		all = append(all, remoteRecord(r, byID[r.Owner]))
	}
	slices.SortFunc(all, func(a, b RemoteStatus) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(a.Host, b.Host), slices.CompareFunc(a.Addrs, b.Addrs, netip.Addr.Compare), cmp.Compare(a.ID, b.ID))
	})
	return all
}

func remoteRecord(r discovery.Record, owner discovery.Member) RemoteStatus {
	e := r.Endpoint
	return RemoteStatus{e.ID, r.Network.Key, r.Network.VNI, hostOf(owner, r.Owner), r.VTEP, e.MAC, e.Addrs, e.Seq, r.Hidden, e.Names, e.Extras}
}

func hostOf(m discovery.Member, id string) string { return cmp.Or(m.Host, id) }

func refusedNetworks(conflicts []discovery.Conflict) []RefusedNetwork {
	all := make([]RefusedNetwork, 0, len(conflicts))
	for _, c := range conflicts {
		all = append(all, RefusedNetwork{c.Ours.Key, c.Ours.VNI, c.Host, c.Theirs.Key, c.Theirs.VNI, c.Ours.Encrypted, c.Theirs.Encrypted, c.Advice()})
	}
	return all
}

// addLocal adds the networks and endpoints of this host, and what is pending of them.
func (o *Overlay) addLocal(s *Status, self discovery.Member, members []discovery.Member) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	s.Networks, s.Endpoints, s.Pending = []NetworkStatus{}, []EndpointStatus{}, []PendingStatus{}
	for _, id := range slices.Sorted(maps.Keys(o.networks)) {
		n := o.networks[id]
		n.mu.Lock()
		hosts := append([]string{self.Host}, hostsAt(members, n.remotes.hasVTEP)...)
		network := NetworkStatus{n.ID, n.called, n.Key, n.VNI, n.MTU, 0, n.Pools, hosts, n.Encrypted}
		for _, id := range slices.Sorted(maps.Keys(n.endpoints)) {
			ep := n.endpoints[id]
			network.Widest = max(network.Widest, cmp.Or(ep.MTU, n.MTU))
			s.Endpoints = append(s.Endpoints, EndpointStatus{ep.Endpoint, n.Key, ep.Tap(), ep.hasPort, ep.iface})
		}
		s.Networks = append(s.Networks, network)
		s.Pending = append(s.Pending, n.pending()...)
		n.mu.Unlock()
	}
}

// hostsAt lists the hosts whose VTEP is asked for. One that was set up anew has older nodes at its VTEP, which left or died.
func hostsAt(members []discovery.Member, asked func(vtep netip.AddrPort) bool) (hosts []string) {
	up := map[netip.AddrPort]bool{}
	for _, m := range members {
		if m.State != discovery.StateDead && m.State != discovery.StateLeft {
			up[m.VTEP] = true
		}
	}
	for _, m := range members {
		if asked(m.VTEP) && m.State != discovery.StateLeft && (m.State != discovery.StateDead || !up[m.VTEP]) {
			hosts = append(hosts, m.Host)
		}
	}
	return hosts
}
