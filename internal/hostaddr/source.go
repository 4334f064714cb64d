package hostaddr

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"
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

// Find is the address as of now, of the wanted family if there is such a one. The error says what the host lacks; it may have it later.
func (s Source) Find(six bool) (netip.Addr, error) {
	found, err := s.candidates()
	if err != nil {
		return netip.Addr{}, err
	}
	return found[max(0, slices.IndexFunc(found, func(a netip.Addr) bool { return a.Is6() == six }))], nil
}

// ofFamily are the candidates of the present address's family, one or more, the best first.
func (s Source) ofFamily(present netip.Addr) ([]netip.Addr, error) {
	all, err := s.candidates()
	if err != nil {
		return nil, err
	}
	var found []netip.Addr
	for _, addr := range all {
		if addr.Is4() == present.Is4() {
			found = append(found, addr)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("this host has %s, and none of the family of %s", all[0], present)
	}
	return found, nil
}

// candidates are one or more addresses, the best first.
func (s Source) candidates() ([]netip.Addr, error) {
	switch {
	case s.given.IsValid():
		at, err := find(s.given)
		switch {
		case err == nil && at == nil:
			err = fmt.Errorf("address %s is on no network device of this host", s.given)
		case err == nil && temporary(*at):
			err = fmt.Errorf("address %s is a temporary one, which the kernel replaces after a day: give the interface's lasting address, or the interface", s.given)
		}
		return []netip.Addr{s.given}, err
	case s.name != "":
		return ofInterface(s.name)
	}
	return ofDefaultRoute()
}

// Has says whether an interface of this host has the address.
func Has(addr netip.Addr) (bool, error) {
	at, err := find(addr)
	return at != nil, err
}

// find is what the kernel knows of an address; nil: it is not this host's.
func find(addr netip.Addr) (*netlink.Addr, error) {
	all, err := addresses(0)
	if err != nil {
		return nil, fmt.Errorf("list this host's addresses: %w", err)
	}
	at := slices.IndexFunc(all, func(a netlink.Addr) bool { return a.IP.Equal(addr.AsSlice()) })
	if at < 0 {
		return nil, nil
	}
	return &all[at], nil
}

// ofDefaultRoute are the source addresses of the default routes, IPv4 before IPv6. It asks the kernel for the way to addresses
// that only a default route leads to: those for documentation (RFC 5737, RFC 3849).
func ofDefaultRoute() (found []netip.Addr, err error) {
	for _, far := range []string{"203.0.113.1", "2001:db8::1"} {
		r, addr, err := route(netip.MustParseAddr(far))
		if err != nil {
			continue
		}
		if addr, err = lasting(r.LinkIndex, addr); err == nil {
			found = append(found, addr)
		}
	}
	if len(found) == 0 {
		err = errors.New("this host has no default route to take the address from")
	}
	return found, err
}

// lasting is the address itself, or in place of a temporary one, which the kernel prefers for what it sends, another of the interface:
// of the same subnet if it can be.
func lasting(link int, addr netip.Addr) (netip.Addr, error) {
	all, err := addresses(link)
	if err != nil {
		return netip.Addr{}, err
	}
	var best netip.Addr
	for _, a := range all {
		at, _ := netipx.FromStdIP(a.IP)
		subnet, _ := netipx.FromStdIPNet(a.IPNet)
		switch {
		case at == addr && !temporary(a), !slices.ContainsFunc(all, func(a netlink.Addr) bool { return a.IP.Equal(addr.AsSlice()) }):
			return addr, nil // one that the route itself names may be on another interface
		case usable(a) && at.Is4() == addr.Is4() && (!best.IsValid() || subnet.Masked().Contains(addr)):
			best = at
		}
	}
	if !best.IsValid() {
		return netip.Addr{}, fmt.Errorf("address %s is temporary", addr)
	}
	return best, nil
}

// ofInterface are the addresses of an interface that others can reach and that last, IPv4 before IPv6.
func ofInterface(name string) ([]netip.Addr, error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return nil, errors.New("no interface of this host is called so")
	}
	all, err := addresses(link.Attrs().Index)
	if err != nil {
		return nil, fmt.Errorf("list the addresses of %s: %w", name, err)
	}
	var four, six []netip.Addr
	for _, a := range all {
		at, _ := netipx.FromStdIP(a.IP)
		switch {
		case !usable(a):
		case at.Is4():
			four = append(four, at)
		default:
			six = append(six, at)
		}
	}
	if len(four)+len(six) == 0 {
		return nil, errors.New("the interface has no address that others can reach and that lasts")
	}
	return append(four, six...), nil
}

// addresses are those of an interface; 0: of all.
func addresses(link int) ([]netlink.Addr, error) {
	var of netlink.Link
	if link != 0 {
		of = &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: link}}
	}
	all, err := netlink.AddrList(of, netlink.FAMILY_ALL)
	for errors.Is(err, netlink.ErrDumpInterrupted) { // containers come and go meanwhile
		all, err = netlink.AddrList(of, netlink.FAMILY_ALL)
	}
	return all, err
}

// usable says whether others can send to an address for as long as the host keeps it.
func usable(a netlink.Addr) bool {
	return a.IP.IsGlobalUnicast() && !temporary(a) && a.Flags&(unix.IFA_F_DEPRECATED|unix.IFA_F_DADFAILED) == 0
}

// temporary is an address that the kernel makes for privacy, and replaces after a day (RFC 8981). To IPv4 the flag says something else.
func temporary(a netlink.Addr) bool {
	return a.IP.To4() == nil && a.Flags&unix.IFA_F_TEMPORARY != 0
}
