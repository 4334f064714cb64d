package plugin

import (
	"github.com/docker/go-plugins-helpers/network"
)

// driver turns the helper's requests into the overlay's terms.
type driver struct{ *Plugin }

// GetCapabilities says that Docker keeps a network on each host for itself (Scope), while its containers reach those
// of other hosts (ConnectivityScope). Docker asks while it activates the plugin, so this never waits.
func (driver) GetCapabilities() (*network.CapabilitiesResponse, error) {
	return &network.CapabilitiesResponse{Scope: network.LocalScope, ConnectivityScope: network.GlobalScope}, nil
}

// AllocateNetwork gives every option back: in a swarm the answer replaces the user's options.
func (driver) AllocateNetwork(r *network.AllocateNetworkRequest) (*network.AllocateNetworkResponse, error) {
	return &network.AllocateNetworkResponse{Options: r.Options}, nil
}

// FreeNetwork has nothing to free: AllocateNetwork takes nothing.
func (driver) FreeNetwork(*network.FreeNetworkRequest) error { return nil }

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

// Join names the tap, and no gateway: Docker then attaches docker_gwbridge, for egress and published ports, unless the
// network is internal.
func (d driver) Join(r *network.JoinRequest) (*network.JoinResponse, error) {
	answer := &network.JoinResponse{}
	err := d.call("Join", r.EndpointID, func(o Overlay) error {
		ep, err := o.Join(r.NetworkID, r.EndpointID, r.SandboxKey)
		answer.InterfaceName = network.InterfaceName{SrcName: ep.Tap(), DstPrefix: "eth"}
		return err
	})
	return answer, err
}

func (d driver) Leave(r *network.LeaveRequest) error {
	return d.call("Leave", r.EndpointID, func(o Overlay) error { return o.Leave(r.NetworkID, r.EndpointID) })
}

// DiscoverNew and DiscoverDelete tell of a swarm's nodes: overlane's own cluster has its members from gossip.
func (driver) DiscoverNew(*network.DiscoveryNotification) error    { return nil }
func (driver) DiscoverDelete(*network.DiscoveryNotification) error { return nil }

// ProgramExternalConnectivity and its counterpart publish ports: docker_gwbridge does.
func (driver) ProgramExternalConnectivity(*network.ProgramExternalConnectivityRequest) error {
	return nil
}
func (driver) RevokeExternalConnectivity(*network.RevokeExternalConnectivityRequest) error {
	return nil
}
