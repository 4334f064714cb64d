// Package hostaddr finds the address of this host that the others are told of.
package hostaddr

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"go4.org/netipx"
)

// Default is the source address of the default route, IPv4 before IPv6. It asks the kernel for the way to addresses that only a
// default route leads to: those for documentation (RFC 5737, RFC 3849).
func Default() (netip.Addr, error) {
	for _, far := range []string{"203.0.113.1", "2001:db8::1"} {
		if addr, err := Towards(netip.MustParseAddr(far)); err == nil {
			return addr, nil
		}
	}
	return netip.Addr{}, errors.New("this host has no default route to take the address from")
}

// Towards is the address from which this host sends to another, as the kernel's routes have it. No packet is sent.
func Towards(to netip.Addr) (netip.Addr, error) {
	routes, err := netlink.RouteGet(to.AsSlice())
	if err != nil {
		return netip.Addr{}, fmt.Errorf("find the way to %s: %w", to, err)
	}
	for _, r := range routes {
		if addr, ok := netipx.FromStdIP(r.Src); ok {
			return addr, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("the way to %s has no source address", to)
}

// OfInterface is the first address of an interface that others can reach, IPv4 before IPv6.
func OfInterface(name string) (netip.Addr, error) {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return netip.Addr{}, errors.New("neither an address nor an interface of this host")
	}
	addrs, err := link.Addrs()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("list the addresses of %s: %w", name, err)
	}
	for _, want4 := range []bool{true, false} {
		for _, a := range addrs {
			prefix, err := netip.ParsePrefix(a.String())
			if err == nil && prefix.Addr().Is4() == want4 && prefix.Addr().IsGlobalUnicast() {
				return prefix.Addr(), nil
			}
		}
	}
	return netip.Addr{}, errors.New("the interface has no address that others can reach")
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
