package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// parseAdvertise takes an address of this host, or finds one: that of an interface, or by default the one from which
// packets leave by the default route.
func parseAdvertise(s *settings, text string) (err error) {
	switch addr, notIP := netip.ParseAddr(text); {
	case text == "":
		s.advertise, err = defaultAddr()
	case notIP != nil:
		s.advertise, err = interfaceAddr(text)
	case !addr.IsGlobalUnicast() && !addr.IsLoopback():
		err = errors.New("other hosts can't reach that address")
	default:
		s.advertise, err = addr.Unmap(), checkLocal(addr.Unmap())
	}
	return err
}

// defaultAddr asks the kernel for the source address towards addresses that only a default route leads to: those for
// documentation (RFC 5737, RFC 3849). No packet is sent.
func defaultAddr() (netip.Addr, error) {
	for _, far := range []string{"203.0.113.1", "2001:db8::1"} {
		routes, err := netlink.RouteGet(net.ParseIP(far))
		if err != nil || len(routes) == 0 {
			continue
		}
		if addr, ok := netip.AddrFromSlice(routes[0].Src); ok {
			return addr.Unmap(), nil
		}
	}
	return netip.Addr{}, errors.New("this host has no default route to take the address from")
}

// interfaceAddr is the first address of an interface that others can reach, IPv4 before IPv6.
func interfaceAddr(name string) (netip.Addr, error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return netip.Addr{}, errors.New("neither an address nor an interface of this host")
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		addrs, err := netlink.AddrList(link, family)
		if err != nil {
			return netip.Addr{}, fmt.Errorf("list the addresses of %s: %w", name, err)
		}
		for _, a := range addrs {
			if addr, ok := netip.AddrFromSlice(a.IP); ok && addr.Unmap().IsGlobalUnicast() {
				return addr.Unmap(), nil
			}
		}
	}
	return netip.Addr{}, errors.New("the interface has no address that others can reach")
}

func checkLocal(addr netip.Addr) error {
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list this host's addresses: %w", err)
	}
	for _, a := range addrs {
		if ip, ok := netip.AddrFromSlice(a.IP); ok && ip.Unmap() == addr {
			return nil
		}
	}
	return errors.New("no interface of this host has that address")
}

// parseCPUs reads a list as the kernel writes it (cpuset(7), "List format").
func parseCPUs(s *settings, text string) error {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return fmt.Errorf("read the CPUs that the daemon may use: %w", err)
	}
	usable := setOf(&allowed)
	if text == "" {
		s.cpus = usable[len(usable)-1:]
		return nil
	}
	var wanted unix.CPUSet
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, err1 := strconv.ParseUint(first, 10, 16)
		to, err2 := strconv.ParseUint(last, 10, 16)
		if err1 != nil || err2 != nil || from > to {
			return fmt.Errorf("%q is neither a CPU nor a range of CPUs", part)
		}
		for cpu := int(from); cpu <= int(to); cpu++ {
			if !allowed.IsSet(cpu) {
				return fmt.Errorf("CPU %d is not among those that the daemon may use, %v", cpu, usable)
			}
			wanted.Set(cpu)
		}
	}
	s.cpus = setOf(&wanted)
	return nil
}

// setOf lists a set's CPUs in order.
func setOf(set *unix.CPUSet) []int {
	var cpus []int
	for cpu := 0; len(cpus) < set.Count(); cpu++ {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	return cpus
}
