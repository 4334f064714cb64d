package hostnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"
)

// ErrGone says that the interface is not there.
var ErrGone = errors.New("interface is gone")

// Modes of IFLA_INET6_ADDR_GEN_MODE (linux/if_link.h).
const (
	addrGenEUI64 = 0 // from the MAC address: the one link-local address that a port may send from
	addrGenNone  = 1
)

// SetUp gives an interface its addresses and sets it up: the kernel adds the routes to their subnets. The same again changes nothing.
func (*Host) SetUp(i Interface) error {
	link, err := find(i)
	if err != nil {
		return err
	}
	up := link.Attrs().Flags&net.FlagUp != 0
	if !up {
		if err := setAddrGen(link, i); err != nil {
			return err
		}
	}
	for _, addr := range i.Addrs {
		a := &netlink.Addr{IPNet: netipx.PrefixIPNet(addr)}
		if addr.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD // overlane has looked who has it
		}
		if err := netlink.AddrReplace(link, a); err != nil {
			return fmt.Errorf("give %s address %s: %w", i.Name, addr, err)
		}
	}
	if !up {
		if err := netlink.LinkSetUp(link); err != nil {
			return fmt.Errorf("set %s up: %w", i.Name, err)
		}
	}
	return nil
}

// setAddrGen has an interface without an IPv6 address get none of its own accord, and another the one that its port may send from.
func setAddrGen(link netlink.Link, i Interface) error {
	mode := addrGenNone
	for _, addr := range i.Addrs {
		if addr.Addr().Is6() {
			mode = addrGenEUI64
		}
	}
	err := netlink.LinkSetIP6AddrGenMode(link, mode)
	if err != nil && mode == addrGenNone {
		return nil // a kernel without IPv6
	}
	if err != nil {
		return fmt.Errorf("IPv6 on %s: %w", i.Name, err)
	}
	return nil
}

// Check says what an interface lacks of what SetUp gave it: ErrGone when it is not there.
func (*Host) Check(i Interface) error {
	link, err := find(i)
	if err != nil {
		return err
	}
	if link.Attrs().Flags&net.FlagUp == 0 {
		return fmt.Errorf("interface %s is down", i.Name)
	}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("addresses of %s: %w", i.Name, err)
	}
	has := map[netip.Prefix]bool{}
	for _, a := range addrs {
		if p, ok := netipx.FromStdIPNet(a.IPNet); ok {
			has[p] = true
		}
	}
	for _, want := range i.Addrs {
		if !has[want] {
			return fmt.Errorf("interface %s lacks address %s", i.Name, want)
		}
	}
	return nil
}

func find(i Interface) (netlink.Link, error) {
	link, err := netlink.LinkByName(i.Name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, fmt.Errorf("%s: %w", i.Name, ErrGone)
	}
	if err != nil {
		return nil, fmt.Errorf("look for interface %s: %w", i.Name, err)
	}
	if alias := link.Attrs().Alias; alias != i.Alias {
		return nil, fmt.Errorf("%s: %w: another one has its name, with alias %q", i.Name, ErrGone, alias)
	}
	return link, nil
}

// Has says whether there is an interface of a name.
func (*Host) Has(name string) (bool, error) {
	_, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for interface %s: %w", name, err)
	}
	return true, nil
}

// HasIPv6 says whether a new interface of this host can have addresses of IPv6.
func (*Host) HasIPv6() bool {
	text, err := os.ReadFile("/proc/sys/net/ipv6/conf/default/disable_ipv6")
	return err == nil && strings.TrimSpace(string(text)) == "0"
}

// Uses says which route or address of this host lies in a subnet, or around it; empty: none does. A default route is around all.
func (*Host) Uses(subnet netip.Prefix) (string, error) {
	routes, err1 := netlink.RouteList(nil, netlink.FAMILY_ALL)
	addrs, err2 := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err := errors.Join(err1, err2); err != nil {
		return "", fmt.Errorf("this host's routes: %w", err)
	}
	for _, a := range addrs {
		if p, ok := netipx.FromStdIPNet(a.IPNet); ok && p.Overlaps(subnet) {
			return fmt.Sprintf("address %s on %s", p, nameOf(a.LinkIndex)), nil
		}
	}
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		if p, ok := netipx.FromStdIPNet(r.Dst); ok && p.Bits() > 0 && p.Overlaps(subnet) {
			return fmt.Sprintf("a route to %s by %s", p, nameOf(r.LinkIndex)), nil
		}
	}
	return "", nil
}

func nameOf(index int) string {
	link, err := netlink.LinkByIndex(index)
	if err != nil {
		return "no interface"
	}
	return link.Attrs().Name
}

// Interfaces of attachments begin so, and their taps have aliases that do.
const (
	Prefix      = "ol-"
	aliasPrefix = "overlane:"
)

// Clean removes what a daemon that runs no more has left of attachments on this host.
func (h *Host) Clean() error { return errors.Join(cleanLinks(), h.WriteNames(nil)) }

func cleanLinks() error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	var errs []error
	for _, link := range links {
		a := link.Attrs()
		if link.Type() != "tuntap" || !strings.HasPrefix(a.Name, Prefix) || !strings.HasPrefix(a.Alias, aliasPrefix) {
			continue
		}
		if err := netlink.LinkDel(link); err != nil {
			errs = append(errs, fmt.Errorf("remove interface %s: %w", a.Name, err))
		}
	}
	return errors.Join(errs...)
}
