package plugin

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/overlay"
)

// genericOptions is the label under which libnetwork hands over the options of `docker network create -o`. Beside it
// stand labels of Docker's own.
const genericOptions = "com.docker.network.generic"

// optionInternal is one of them, a bool.
const optionInternal = "com.docker.network.internal"

// dockerOptions begins the names of an endpoint's options that are Docker's own; the others are given by --driver-opt.
const dockerOptions = "com.docker."

func networkSpec(r *network.CreateNetworkRequest) (overlay.NetworkSpec, error) {
	spec := overlay.NetworkSpec{ID: r.NetworkID, Options: map[string]string{}}
	if r.NetworkID == "" {
		return spec, errors.New("NetworkID is empty")
	}
	spec.Internal, _ = r.Options[optionInternal].(bool)
	given, _ := r.Options[genericOptions].(map[string]any)
	for name, value := range given {
		spec.Options[name] = fmt.Sprint(value)
	}
	for _, data := range [][]*network.IPAMData{r.IPv4Data, r.IPv6Data} {
		for _, d := range data {
			pool, err := netip.ParsePrefix(d.Pool)
			if err != nil {
				return spec, fmt.Errorf("network %.12s: pool %q: want a subnet such as 10.20.0.0/16", r.NetworkID, d.Pool)
			}
			spec.Pools, spec.Space = append(spec.Pools, pool), d.AddressSpace
		}
	}
	return spec, nil
}

func endpointSpec(r *network.CreateEndpointRequest) (overlay.EndpointSpec, error) {
	spec := overlay.EndpointSpec{NetworkID: r.NetworkID, ID: r.EndpointID}
	if r.Interface == nil {
		return spec, fmt.Errorf("endpoint %.12s: Interface is missing", r.EndpointID)
	}
	for _, value := range []string{r.Interface.Address, r.Interface.AddressIPv6} {
		if value == "" {
			continue
		}
		prefix, err := netip.ParsePrefix(value)
		if err != nil {
			return spec, fmt.Errorf("endpoint %.12s: address %q: want one with its prefix length, such as 10.20.0.2/16", r.EndpointID, value)
		}
		spec.Addrs = append(spec.Addrs, prefix.Addr())
	}
	if r.Interface.MacAddress != "" {
		mac, err := discovery.ParseMAC(r.Interface.MacAddress)
		if err != nil {
			return spec, fmt.Errorf("endpoint %.12s: MacAddress: %w", r.EndpointID, err)
		}
		spec.MAC = mac
	}
	for name, value := range r.Options {
		if !strings.HasPrefix(name, dockerOptions) {
			if spec.Options == nil {
				spec.Options = map[string]string{}
			}
			spec.Options[name] = fmt.Sprint(value)
		}
	}
	return spec, nil
}

// nodeDiscovery is libnetwork's discoverapi.NodeDiscovery. The other types carry keys of Docker's own overlay driver.
const nodeDiscovery = 1

// otherNode is the address of another node of the swarm; invalid: the notification is of something else.
func otherNode(r *network.DiscoveryNotification) (netip.Addr, error) {
	node, _ := r.DiscoveryData.(map[string]any)
	if r.DiscoveryType != nodeDiscovery || node["Self"] == true {
		return netip.Addr{}, nil
	}
	text, _ := node["Address"].(string)
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return addr, fmt.Errorf("DiscoveryData: Address %q: want a node's, such as 192.0.2.1", text)
	}
	return addr.Unmap(), nil
}
