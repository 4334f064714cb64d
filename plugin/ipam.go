package plugin

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"

	api "github.com/docker/go-plugins-helpers/ipam"
	"github.com/docker/go-plugins-helpers/network"
	"github.com/docker/go-plugins-helpers/sdk"

	"github.com/overlane/overlane/overlay"
	"github.com/overlane/overlane/overlay/ipam"
)

// Options of a request for an address: libnetwork's ipamapi.RequestAddressType with its netlabel.Gateway, and netlabel.MacAddress.
const (
	optionType  = "RequestAddressType"
	typeGateway = "com.docker.network.gateway"
	optionMAC   = "com.docker.network.endpoint.macaddress"
)

// addresses turns the requests of Docker's IPAM protocol into the overlay's terms.
type addresses struct{ *Plugin }

// capabilities asks for the MAC of each endpoint, which tells its address from others, and for every pool and address
// anew when Docker starts: what is known already is given again.
type capabilities struct {
	RequiresMACAddress    bool
	RequiresRequestReplay bool
}

// handle answers for both drivers on one socket.
func (a addresses) handle(h *network.Handler) {
	// The helper's own answer names one driver; a pattern with the method goes before it.
	h.HandleFunc("POST /Plugin.Activate", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", sdk.DefaultContentTypeV1_1)
		io.WriteString(w, `{"Implements": ["NetworkDriver", "IpamDriver"]}`)
	})
	route(h, "GetCapabilities", func(*struct{}) (any, error) { return capabilities{true, true}, nil })
	route(h, "GetDefaultAddressSpaces", func(*struct{}) (any, error) {
		return api.AddressSpacesResponse{LocalDefaultAddressSpace: "overlane-local", GlobalDefaultAddressSpace: "overlane-global"}, nil
	})
	route(h, "RequestPool", a.requestPool)
	route(h, "ReleasePool", a.releasePool)
	route(h, "RequestAddress", a.requestAddress)
	route(h, "ReleaseAddress", a.releaseAddress)
}

// route decodes the requests of a method and encodes the answers.
func route[Q any](h *network.Handler, method string, do func(*Q) (any, error)) {
	h.HandleFunc("/IpamDriver."+method, func(w http.ResponseWriter, r *http.Request) {
		request := new(Q)
		if r.ContentLength != 0 { // the first two methods have none
			if err := sdk.DecodeRequest(w, r, request); err != nil {
				return
			}
		}
		answer, err := do(request)
		if err != nil {
			sdk.EncodeResponse(w, api.NewErrorResponse(err.Error()), true)
			return
		}
		sdk.EncodeResponse(w, answer, false)
	})
}

func (a addresses) requestPool(r *api.RequestPoolRequest) (any, error) {
	answer := api.RequestPoolResponse{Data: map[string]string{}}
	err := a.call("RequestPool", r.Pool, func(o Overlay) error {
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
	spec := overlay.PoolSpec{V6: r.V6, Options: r.Options}
	var err error
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

func (a addresses) releasePool(r *api.ReleasePoolRequest) (any, error) {
	return struct{}{}, a.call("ReleasePool", r.PoolID, func(o Overlay) error { return o.ReleasePool(r.PoolID) })
}

func (a addresses) requestAddress(r *api.RequestAddressRequest) (any, error) {
	answer := api.RequestAddressResponse{Data: map[string]string{}}
	err := a.call("RequestAddress", r.PoolID, func(o Overlay) error {
		request := ipam.Request{MAC: r.Options[optionMAC], Gateway: r.Options[optionType] == typeGateway}
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

func (a addresses) releaseAddress(r *api.ReleaseAddressRequest) (any, error) {
	return struct{}{}, a.call("ReleaseAddress", r.PoolID, func(o Overlay) error {
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
