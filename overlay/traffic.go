package overlay

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/overlane/overlane/datapath"
)

// EndpointTraffic is what a container of this host has received on a network, and sent.
type EndpointTraffic struct {
	Network  string // Docker's name; the key where it is not known
	Endpoint string // the container's name; the endpoint's short ID where it is not known
	datapath.Traffic
	Drops map[string]uint64 // of what it sent, or was to get, by reason; those that happened
}

// HostTraffic is what another host has sent here, and was sent.
type HostTraffic struct {
	Host string // empty: nobody that gossips is at the VTEP
	VTEP netip.AddrPort
	datapath.Traffic
}

// Counted is what the datapath has counted.
func (o *Overlay) Counted() datapath.Stats { return o.cfg.Datapath.Stats() }

// Host is what this host is called.
func (o *Overlay) Host() string { return o.cluster.Self().Host }

// TrafficOf tells by names what the datapath has counted, as the containers and this host see it: received is what came to them.
func (o *Overlay) TrafficOf(s datapath.Stats) (endpoints []EndpointTraffic, hosts []HostTraffic) {
	taps := make(map[string]datapath.PortStats, len(s.Ports))
	for _, p := range s.Ports {
		taps[p.Name] = p
	}
	o.mu.RLock()
	for _, id := range slices.Sorted(maps.Keys(o.networks)) {
		endpoints = append(endpoints, o.networks[id].traffic(taps)...)
	}
	o.mu.RUnlock()
	at := memberAt(o.cluster.Members())
	for _, p := range s.Paths {
		hosts = append(hosts, HostTraffic{at[p.VTEP].Host, p.VTEP, p.Traffic})
	}
	return endpoints, hosts
}

// NetworkTraffic is what this host's containers have received on each network, by its name, and sent: also those that have ended. What was made
// for a test alone is left out.
func (o *Overlay) NetworkTraffic(s datapath.Stats) map[string]datapath.Traffic {
	counted := make(map[uint32]datapath.Traffic, len(s.Networks))
	for _, n := range s.Networks {
		counted[n.VNI] = n.Traffic
	}
	all := map[string]datapath.Traffic{}
	o.mu.RLock()
	defer o.mu.RUnlock()
	for _, n := range o.networks {
		n.mu.Lock()
		if !n.forTest {
			name := cmp.Or(n.called, n.Key)
			all[name] = all[name].Plus(asContainersSee(counted[n.VNI]))
		}
		n.mu.Unlock()
	}
	return all
}

// asContainersSee turns what the pipeline counts: it receives what they send.
func asContainersSee(t datapath.Traffic) datapath.Traffic {
	return datapath.Traffic{RxPackets: t.TxPackets, RxBytes: t.TxBytes, TxPackets: t.RxPackets, TxBytes: t.RxBytes}
}

// traffic is that of its endpoints, by the names of their taps. Probes are left out.
func (n *network) traffic(taps map[string]datapath.PortStats) (all []EndpointTraffic) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(n.endpoints)) {
		ep := n.endpoints[id]
		if p, counted := taps[ep.Tap()]; counted && !ep.probe {
			all = append(all, EndpointTraffic{cmp.Or(n.called, n.Key), cmp.Or(ep.container(), short(id)), asContainersSee(p.Traffic), p.Drops})
		}
	}
	return all
}
