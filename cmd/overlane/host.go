package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/overlane/overlane/internal/hostaddr"
	"github.com/overlane/overlane/overlay"
)

// parseAdvertise takes an address of this host, or finds one: that of an interface, or by default the one from which
// packets leave by the default route.
func parseAdvertise(s *settings, text string) (err error) {
	switch addr, notIP := netip.ParseAddr(text); {
	case text == "":
		s.advertise, err = hostaddr.Default()
	case notIP == nil && s.underlay.Addr.IsValid() && addr == s.underlay.Addr.Addr():
		s.advertise = addr // the underlay's interface comes with the daemon
	case notIP != nil:
		s.advertise, err = hostaddr.OfInterface(text)
	case !addr.IsGlobalUnicast() && !addr.IsLoopback():
		err = errors.New("other hosts can't reach that address")
	default:
		s.advertise = addr.Unmap()
		_, err = overlay.DeviceMTU(s.advertise)
	}
	return err
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
