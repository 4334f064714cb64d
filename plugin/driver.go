package plugin

import (
	"net/netip"

	"github.com/docker/go-plugins-helpers/network"
)

// driver turns the helper's requests into the overlay's terms.
type driver struct{ *Plugin }

// gwAllocAnswer is that to the question whether a network can do without a gateway. Nobody uses one, see Join, but engines before 28
// reserve it and do not ask. Were it left out where an engine asks, it would be a container's there, and who made the network first
// would decide whether the others can.
type gwAllocAnswer struct{ SkipIPv4, SkipIPv6 bool }

// handle adds to the helper's methods. An engine asks the question only of a driver that says so among its capabilities. This one does not,
// but one that has found the plugin as it was before goes on asking until it starts again.
func (d driver) handle(h *network.Handler) {
	handleStatic(h, "NetworkDriver.GwAllocCheck", gwAllocAnswer{false, false})
}

// GetCapabilities says who keeps a network (Scope): Docker on each host for itself, or a swarm's managers for all nodes.
// Its containers reach those of other hosts in both cases (ConnectivityScope).
func (d driver) GetCapabilities() (*network.CapabilitiesResponse, error) {
	return &network.CapabilitiesResponse{Scope: d.scope, ConnectivityScope: network.GlobalScope}, nil
}

// AllocateNetwork is a swarm's manager's call. The answer replaces the user's options, and each node's CreateNetwork gets it.
func (d driver) AllocateNetwork(r *network.AllocateNetworkRequest) (*network.AllocateNetworkResponse, error) {
	answer := &network.AllocateNetworkResponse{}
	err := d.call("AllocateNetwork", r.NetworkID, func(o Overlay) (err error) {
		answer.Options, err = o.AllocateNetwork(r.NetworkID, r.Options)
		return err
	})
	return answer, err
}

func (d driver) FreeNetwork(r *network.FreeNetworkRequest) error {
	return d.call("FreeNetwork", r.NetworkID, func(o Overlay) error { return o.FreeNetwork(r.NetworkID) })
}

func (d driver) CreateNetwork(r *network.CreateNetworkRequest) error {
	return d.call("CreateNetwork", r.NetworkID, func(o Overlay) error {
		spec, err := networkSpec(r)
		if err != nil {
			return err
		}
		return o.CreateNetwork(spec)
	})
}

func (d driver) DeleteNetwork(r *network.DeleteNetworkRequest) error {
	return d.call("DeleteNetwork", r.NetworkID, func(o Overlay) error { return o.DeleteNetwork(r.NetworkID) })
}

// CreateEndpoint answers with a MAC if Docker gave none, and with nothing else: Docker takes a field that it had
// supplied itself for an attempt to change it.
func (d driver) CreateEndpoint(r *network.CreateEndpointRequest) (*network.CreateEndpointResponse, error) {
	answer := &network.CreateEndpointResponse{Interface: &network.EndpointInterface{}}
	err := d.call("CreateEndpoint", r.EndpointID, func(o Overlay) error {
		spec, err := endpointSpec(r)
		if err != nil {
			return err
		}
		ep, err := o.CreateEndpoint(spec)
		if err == nil && r.Interface.MacAddress == "" {
			answer.Interface.MacAddress = ep.MAC.String()
		}
		return err
	})
	return answer, err
}

func (d driver) DeleteEndpoint(r *network.DeleteEndpointRequest) error {
	return d.call("DeleteEndpoint", r.EndpointID, func(o Overlay) error {
		return o.DeleteEndpoint(r.NetworkID, r.EndpointID)
	})
}

// EndpointInfo is empty: Docker reads from it what a driver knows of published ports, and those are docker_gwbridge's.
func (driver) EndpointInfo(*network.InfoRequest) (*network.InfoResponse, error) {
	return &network.InfoResponse{Value: map[string]string{}}, nil
}

// Join names the tap, or nothing where the container speaks for itself, and no gateway: Docker then attaches docker_gwbridge, for
// egress and published ports, unless the network is internal. Of an interface without a name it moves none.
func (d driver) Join(r *network.JoinRequest) (*network.JoinResponse, error) {
	answer := &network.JoinResponse{}
	err := d.call("Join", r.EndpointID, func(o Overlay) error {
		ep, err := o.Join(r.NetworkID, r.EndpointID, r.SandboxKey)
		answer.InterfaceName = network.InterfaceName{SrcName: ep.Interface(), DstPrefix: "eth"}
		return err
	})
	return answer, err
}

func (d driver) Leave(r *network.LeaveRequest) error {
	return d.call("Leave", r.EndpointID, func(o Overlay) error { return o.Leave(r.NetworkID, r.EndpointID) })
}

// DiscoverNew and DiscoverDelete tell of a swarm's nodes: overlane's own cluster finds its members there.
func (d driver) DiscoverNew(r *network.DiscoveryNotification) error {
	return d.discover("DiscoverNew", r, Cluster.AddSeed)
}

func (d driver) DiscoverDelete(r *network.DiscoveryNotification) error {
	return d.discover("DiscoverDelete", r, Cluster.RemoveSeed)
}

// discover does not wait for what it leaves aside: a swarm's node tells of itself while Docker activates the plugin.
func (d driver) discover(method string, r *network.DiscoveryNotification, do func(Cluster, netip.Addr)) error {
	addr, err := otherNode(r)
	if err != nil || !addr.IsValid() {
		return err
	}
	return d.call(method, addr.String(), func(Overlay) error {
		do(d.cluster, addr)
		return nil
	})
}

// ProgramExternalConnectivity and its counterpart publish ports: docker_gwbridge does.
func (driver) ProgramExternalConnectivity(*network.ProgramExternalConnectivityRequest) error {
	return nil
}
func (driver) RevokeExternalConnectivity(*network.RevokeExternalConnectivityRequest) error {
	return nil
}
