// Package hostaddr finds the address of this host that the others are told of.
package hostaddr

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"go4.org/netipx"
)

// Towards is the address from which this host sends to another, as the kernel's routes have it. No packet is sent.
func Towards(to netip.Addr) (netip.Addr, error) {
	_, addr, err := route(to)
	return addr, err
}

// route is the way to an address, and the source address of what goes there.
func route(to netip.Addr) (netlink.Route, netip.Addr, error) {
	routes, err := netlink.RouteGet(to.AsSlice())
	if err != nil {
		return netlink.Route{}, netip.Addr{}, fmt.Errorf("find the way to %s: %w", to, err)
	}
	for _, r := range routes {
		if addr, ok := netipx.FromStdIP(r.Src); ok {
			return r, addr, nil
		}
	}
	return netlink.Route{}, netip.Addr{}, fmt.Errorf("the way to %s has no source address", to)
}

// Misplaced says, where this host reaches another from an address that it does not advertise, why the two may not find each
// other, and the way out. Empty: nothing speaks for it.
func Misplaced(advertised, to netip.Addr) string {
	from, err := Towards(to)
	switch {
	case err != nil || from == advertised || from.IsLoopback() || from.Is4() != advertised.Is4():
		return ""
	case from == to:
		return fmt.Sprintf("%s is this host itself, which advertises %s: if the others are to find it at %[1]s, give it --advertise %[1]s", to, advertised)
	}
	return fmt.Sprintf("this host advertises %s, and reaches %s from %s: where all hosts have one and the same address, such as Vagrant's 10.0.2.15, "+
		"or listen on a network that the others are not in, give each --advertise with its address among the others: --advertise %[3]s here", advertised, to, from)
}
