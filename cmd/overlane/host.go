package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"

	"github.com/overlane/overlane/overlay"
)

// parseAdvertise takes an address of this host, or finds one: that of an interface, or by default the one from which
// packets leave by the default route.
func parseAdvertise(s *settings, text string) (err error) {
	switch addr, notIP := netip.ParseAddr(text); {
	case text == "":
		s.advertise, err = defaultAddr()
	case notIP == nil && s.underlay.Addr.IsValid() && addr == s.underlay.Addr.Addr():
		s.advertise = addr // the underlay's interface comes with the daemon
	case notIP != nil:
		s.advertise, err = interfaceAddr(text)
	case !addr.IsGlobalUnicast() && !addr.IsLoopback():
		err = errors.New("other hosts can't reach that address")
	default:
		s.advertise = addr.Unmap()
		_, err = overlay.Device(s.advertise)
	}
	return err
}

// defaultAddr asks the kernel for the source address towards addresses that only a default route leads to. No packet is sent.
func defaultAddr() (netip.Addr, error) {
	for _, far := range overlay.Far {
		routes, err := netlink.RouteGet(far.AsSlice())
		if err != nil || len(routes) == 0 {
			continue
		}
		if addr, ok := netipx.FromStdIP(routes[0].Src); ok {
			return addr, nil
		}
	}
	return netip.Addr{}, errors.New("this host has no default route to take the address from")
}

// interfaceAddr is the first address of an interface that others can reach, IPv4 before IPv6.
func interfaceAddr(name string) (netip.Addr, error) {
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

// parseCPUs reads a list as the kernel writes it (cpuset(7), "List format").
func parseCPUs(s *settings, text string) error {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return fmt.Errorf("read the CPUs that the daemon may use: %w", err)
	}
	usable := cpuList(&allowed)
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
	s.cpus = cpuList(&wanted)
	return nil
}

// cpuList lists a set's CPUs in order.
func cpuList(set *unix.CPUSet) []int {
	var cpus []int
	for cpu := 0; len(cpus) < set.Count(); cpu++ {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	return cpus
}
