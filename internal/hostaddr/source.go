package hostaddr

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Source says where this host's address comes from: it is given, or an interface has it, or the default route leaves from it.
type Source struct {
	given netip.Addr
	name  string
}

// Longest name of an interface: IFNAMSIZ of linux/if.h, less the zero at its end.
const maxName = 15

// ParseSource reads an address, the name of an interface, or nothing for the default route. What it names may come later.
func ParseSource(text string) (Source, error) {
	addr, notIP := netip.ParseAddr(text)
	switch {
	case notIP == nil && !addr.IsGlobalUnicast() && !addr.IsLoopback():
		return Source{}, errors.New("other hosts can't reach that address")
	case notIP == nil:
		return Source{given: addr.Unmap()}, nil
	case len(text) > maxName || strings.ContainsAny(text, "/ \t\n"):
		return Source{}, errors.New("neither an address nor the name of an interface")
	}
	return Source{name: text}, nil
}

// Find is the address as of now. The error says what the host lacks; it may have it later.
func (s Source) Find() (netip.Addr, error) {
	found, err := s.candidates()
	if err != nil {
		return netip.Addr{}, err
	}
	return found[0], nil
}

// candidates are one or more addresses, the best first.
func (s Source) candidates() ([]netip.Addr, error) {
	switch {
	case s.given.IsValid():
		has, err := Has(s.given)
		if err == nil && !has {
			err = fmt.Errorf("address %s is on no network device of this host", s.given)
		}
		return []netip.Addr{s.given}, err
	case s.name != "":
		return ofInterface(s.name)
	}
	return ofDefaultRoute()
}

// Has says whether an interface of this host has the address.
func Has(addr netip.Addr) (bool, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return false, fmt.Errorf("list this host's addresses: %w", err)
	}
	return slices.ContainsFunc(all, func(a net.Addr) bool {
		prefix, err := netip.ParsePrefix(a.String())
		return err == nil && prefix.Addr() == addr
	}), nil
}

// ofDefaultRoute are the source addresses of the default routes, IPv4 before IPv6. It asks the kernel for the way to addresses
// that only a default route leads to: those for documentation (RFC 5737, RFC 3849).
func ofDefaultRoute() (found []netip.Addr, err error) {
	for _, far := range []string{"203.0.113.1", "2001:db8::1"} {
		if addr, err := Towards(netip.MustParseAddr(far)); err == nil {
			found = append(found, addr)
		}
	}
	if len(found) == 0 {
		err = errors.New("this host has no default route to take the address from")
	}
	return found, err
}

// ofInterface are the addresses of an interface that others can reach, IPv4 before IPv6.
func ofInterface(name string) ([]netip.Addr, error) {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return nil, errors.New("no interface of this host is called so")
	}
	addrs, err := link.Addrs()
	if err != nil {
		return nil, fmt.Errorf("list the addresses of %s: %w", name, err)
	}
	var four, six []netip.Addr
	for _, a := range addrs {
		prefix, err := netip.ParsePrefix(a.String())
		switch {
		case err != nil || !prefix.Addr().IsGlobalUnicast():
		case prefix.Addr().Is4():
			four = append(four, prefix.Addr())
		default:
			six = append(six, prefix.Addr())
		}
	}
	if len(four)+len(six) == 0 {
		return nil, errors.New("the interface has no address that others can reach")
	}
	return append(four, six...), nil
}
