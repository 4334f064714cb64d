package plugin

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"

	api "github.com/docker/go-plugins-helpers/ipam"
	"github.com/docker/go-plugins-helpers/network"

	"github.com/overlane/overlane/overlay"
	"github.com/overlane/overlane/overlay/ipam"
)

// Options of a request for an address: libnetwork's ipamapi.RequestAddressType with its netlabel.Gateway, and
// netlabel.MacAddress and EndpointName, the container's, which engines give from 29 on.
const (
	optionType  = "RequestAddressType"
	typeGateway = "com.docker.network.gateway"
	optionMAC   = "com.docker.network.endpoint.macaddress"
	optionName  = "com.docker.network.endpoint.name"
)

// dockerLabels begins the names of Docker's own options.
const dockerLabels = "com.docker.network."

// globalSpace is where a swarm's manager asks for the pools of networks of global scope, and an engine for its own ones.
const globalSpace = "overlane-global"

// ipamDriver turns the requests of Docker's IPAM protocol into the overlay's terms.
type ipamDriver struct{ *Plugin }

// ipamCapabilities asks for the MAC of each endpoint, which tells its address from others, and for every pool and
// address anew when Docker starts: what is known already is given again.
type ipamCapabilities struct {
	RequiresMACAddress    bool
	RequiresRequestReplay bool
}

func (d ipamDriver) handle(h *network.Handler) {
	handleStatic(h, "IpamDriver.GetCapabilities", ipamCapabilities{true, true})
	handleStatic(h, "IpamDriver.GetDefaultAddressSpaces",
		api.AddressSpacesResponse{LocalDefaultAddressSpace: overlay.LocalSpace, GlobalDefaultAddressSpace: globalSpace})
	handleIPAM(h, "RequestPool", d.requestPool)
	handleIPAM(h, "ReleasePool", d.releasePool)
	handleIPAM(h, "RequestAddress", d.requestAddress)
	handleIPAM(h, "ReleaseAddress", d.releaseAddress)
}

func (d ipamDriver) requestPool(r *api.RequestPoolRequest) (any, error) {
	answer := api.RequestPoolResponse{Data: map[string]string{}}
	err := d.call("RequestPool", r.Pool, func(o Overlay) error {
		spec, err := poolSpec(r)
		if err != nil {
			return err
		}
		id, subnet, err := o.RequestPool(spec)
		answer.PoolID, answer.Pool = id, subnet.String()
		return err
	})
	return answer, err
}

func poolSpec(r *api.RequestPoolRequest) (overlay.PoolSpec, error) {
	spec := overlay.PoolSpec{V6: r.V6, Options: ownOptions(r.Options)}
	var err error
	if r.AddressSpace == globalSpace {
		return spec, fmt.Errorf("address space %s: a swarm's manager hands out the addresses of a network of global scope, for all nodes: leave --ipam-driver out, or give the daemon --scope local", globalSpace)
	}
	if r.Pool != "" {
		if spec.Subnet, err = netip.ParsePrefix(r.Pool); err != nil {
			return spec, fmt.Errorf("subnet %q: want one such as 10.20.0.0/16", r.Pool)
		}
	}
	if r.SubPool != "" {
		if spec.Range, err = netip.ParsePrefix(r.SubPool); err != nil {
			return spec, fmt.Errorf("ip-range %q: want one such as 10.20.1.0/24", r.SubPool)
		}
		if r.Pool == "" {
			return spec, fmt.Errorf("ip-range %s: has no subnet: give --subnet", r.SubPool)
		}
	}
	if r.Pool != "" && spec.Subnet.Addr().Is6() != r.V6 {
		return spec, fmt.Errorf("subnet %s: is of another IP version than the one it is asked for", r.Pool)
	}
	return spec, nil
}

// ownOptions are those of --ipam-opt: a swarm's manager passes its options of requests for addresses along with them. The MTU,
// whose name is Docker's, is a user's who took one flag for the other.
func ownOptions(given map[string]string) map[string]string {
	own := maps.Clone(given)
	maps.DeleteFunc(own, func(name, _ string) bool {
		return name == optionType || strings.HasPrefix(name, dockerLabels) && name != overlay.OptionMTU
	})
	return own
}

func (d ipamDriver) releasePool(r *api.ReleasePoolRequest) (any, error) {
	return struct{}{}, d.call("ReleasePool", r.PoolID, func(o Overlay) error { return o.ReleasePool(r.PoolID) })
}

func (d ipamDriver) requestAddress(r *api.RequestAddressRequest) (any, error) {
	answer := api.RequestAddressResponse{Data: map[string]string{}}
	err := d.call("RequestAddress", r.PoolID, func(o Overlay) error {
		request := ipam.Request{MAC: r.Options[optionMAC], Name: r.Options[optionName], Gateway: r.Options[optionType] == typeGateway}
		if r.Address != "" {
			addr, err := parseAddr(r.Address)
			if err != nil {
				return err
			}
			request.Addr = addr
		}
		got, err := o.RequestAddress(r.PoolID, request)
		answer.Address = got.String()
		return err
	})
	return answer, err
}

func (d ipamDriver) releaseAddress(r *api.ReleaseAddressRequest) (any, error) {
	return struct{}{}, d.call("ReleaseAddress", r.PoolID, func(o Overlay) error {
		addr, err := parseAddr(r.Address)
		if err != nil {
			return err
		}
		return o.ReleaseAddress(r.PoolID, addr)
	})
}

func parseAddr(text string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return addr, fmt.Errorf("address %q: want one such as 10.20.0.2", text)
	}
	return addr.Unmap(), nil
}
