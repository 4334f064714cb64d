package overlay

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"go4.org/netipx"

	"github.com/overlane/overlane/overlay/ipam"
)

// PoolSpec is Docker's wish for a pool of addresses.
type PoolSpec struct {
	Subnet  netip.Prefix      // zero: the one that the network has on other hosts, or a free one
	Range   netip.Prefix      // of it, for this host's containers; zero: all
	V6      bool              // with a zero Subnet
	Options map[string]string // of `docker network create --ipam-opt`
}

// RequestPool makes this host use a pool, and says which, by an ID for the other calls. The same wish again succeeds.
func (o *Overlay) RequestPool(spec PoolSpec) (id string, subnet netip.Prefix, err error) {
	if spec.Subnet.IsValid() {
		o.engine.asks(spec.Subnet.Masked())
	}
	key, err := poolKey(spec)
	if err != nil {
		return "", netip.Prefix{}, err
	}
	id, subnet, err = o.addresses.RequestPool(key, spec.Subnet, spec.Range, spec.V6)
	if err == nil && !spec.Subnet.IsValid() {
		o.engine.asks(subnet)
	}
	return id, subnet, err
}

// poolKey is what the hosts agree on a pool by; empty: its subnet, when that is chosen.
func poolKey(spec PoolSpec) (string, error) {
	opts, err := poolOptions.parse(spec.Options)
	switch {
	case err != nil:
		return "", err
	case spec.Subnet.IsValid() && opts == options{}:
		return ipam.SubnetKey(spec.Subnet), nil
	case opts == options{}:
		return "", nil
	}
	return opts.key(nil)
}

// ReleasePool ends the use of a pool. One that is not known is no error.
func (o *Overlay) ReleasePool(id string) error {
	return o.addresses.ReleasePool(id)
}

// RequestAddress hands out an address, with its subnet's prefix length.
func (o *Overlay) RequestAddress(pool string, r ipam.Request) (netip.Prefix, error) {
	return o.addresses.RequestAddress(pool, r)
}

// ReleaseAddress gives an address back. One that is not in use is no error.
func (o *Overlay) ReleaseAddress(pool string, addr netip.Addr) error {
	return o.addresses.ReleaseAddress(pool, addr)
}

// ReclaimAddresses takes the addresses of hosts that are lost for good, by name or ID; without any named, those of all that are down.
func (o *Overlay) ReclaimAddresses(hosts []string) (ipam.Reclaimed, error) {
	return o.addresses.Reclaim(hosts)
}

// TakeAddress makes an address this host's whose owner is down, on an operator's word that its container there does not run any more.
func (o *Overlay) TakeAddress(addr netip.Addr) error { return o.addresses.Take(addr) }

// LeaveAddresses gives this host's addresses to the others, for good. Its attachments end, unless its containers keep it from leaving.
func (o *Overlay) LeaveAddresses() error {
	if o.hasContainers() {
		return o.addresses.Leave()
	}
	ended, err := o.DetachAll()
	if err == nil {
		err = o.addresses.Leave()
	}
	if err == nil || len(ended) == 0 {
		return err
	}
	var keys []string
	for _, a := range ended {
		keys = append(keys, a.Network)
	}
	return fmt.Errorf("%w; this host is attached to %s no more: if it stays, run `overlane attach` again", err, strings.Join(keys, " and "))
}

// hasContainers says whether this host has endpoints beside its own.
func (o *Overlay) hasContainers() bool {
	o.mu.RLock()
	defer o.mu.RUnlock()
	for _, n := range o.networks {
		n.mu.Lock()
		others := len(n.endpoints)
		if n.ownEndpoint() != nil {
			others--
		}
		n.mu.Unlock()
		if others > 0 {
			return true
		}
	}
	return false
}

// AddressUsage shows how full this host's parts of pools are.
func (o *Overlay) AddressUsage() []ipam.Usage { return o.addresses.Usage() }

// Addresses shows pools, blocks and addresses.
func (o *Overlay) Addresses() ipam.Status {
	s := o.addresses.Status()
	o.mu.RLock()
	defer o.mu.RUnlock()
	for i := range s.Leases {
		id, names := o.endpointWith(s.Leases[i].Addr)
		own, _, _ := strings.Cut(names, " ")
		s.Leases[i].Endpoint, s.Leases[i].Name = id, cmp.Or(s.Leases[i].Name, own)
	}
	return s
}

// endpointWith is the ID of this host's endpoint that has an address, and its names; its pools do not overlap.
func (o *Overlay) endpointWith(addr netip.Addr) (id, names string) {
	for _, n := range o.networks {
		n.mu.Lock()
		for _, ep := range n.endpoints {
			if slices.Contains(ep.Addrs, addr) {
				n.mu.Unlock()
				return ep.ID, ep.Names
			}
		}
		n.mu.Unlock()
	}
	return "", ""
}

// keyOfPools is the key that `--ipam-opt` gave one of the pools; empty: none did.
func (o *Overlay) keyOfPools(pools []netip.Prefix) string {
	for _, pool := range pools {
		if key := o.addresses.KeyOf(pool); key != "" && key != ipam.SubnetKey(pool) {
			return key
		}
	}
	return ""
}

// isPool says whether a subnet is one that this host hands out addresses of, and not Docker.
func (o *Overlay) isPool(subnet netip.Prefix) bool { return o.addresses.KeyOf(subnet) != "" }

// giveBack has addresses free at once that endpoints had which are removed: those of networks that Docker forgot.
func (o *Overlay) giveBack(addrs []netip.Prefix) error {
	var errs []error
	for _, a := range addrs {
		if key := o.addresses.KeyOf(a.Masked()); key != "" {
			errs = append(errs, o.addresses.ReleaseAddress(ipam.PoolID(key, a.Masked()), a.Addr()))
		}
	}
	return errors.Join(errs...)
}

// usedSubnets gives what says whether a route or an interface of this host uses some of a subnet.
func usedSubnets() (func(netip.Prefix) bool, error) {
	routes, err1 := netlink.RouteList(nil, netlink.FAMILY_ALL)
	addrs, err2 := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	var nets []*net.IPNet
	for _, r := range routes {
		nets = append(nets, r.Dst)
	}
	for _, a := range addrs {
		nets = append(nets, a.IPNet)
	}
	var used []netip.Prefix
	for _, n := range nets {
		if n == nil {
			continue
		}
		if prefix, ok := netipx.FromStdIPNet(n); ok && prefix.Bits() > 0 {
			used = append(used, prefix)
		}
	}
	return func(subnet netip.Prefix) bool { return slices.ContainsFunc(used, subnet.Overlaps) }, nil
}
