package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"github.com/overlane/overlane/internal/hostaddr"
)

// parseBind comes before parseAdvertise.
func parseBind(s *settings, text string) error {
	s.translated = text != ""
	if !s.translated {
		return nil
	}
	return s.readSource("bind", text)
}

// parseAdvertise reads where the address comes from, which findAddress looks up: the host may have it only later.
func parseAdvertise(s *settings, text string) error {
	addr, notIP := netip.ParseAddr(text)
	switch {
	case s.translated && (notIP != nil || !addr.IsGlobalUnicast() || addr.Is4In6()):
		return errors.New("with --bind it is the address at which the others reach this host")
	case s.translated:
		s.advertise = addr
		return nil
	case notIP == nil && s.underlay.Addr.IsValid() && addr == s.underlay.Addr.Addr():
		s.local, s.advertise = addr, addr // the underlay's interface comes with the daemon
		return nil
	}
	return s.readSource("advertise", text)
}

func (s *settings) readSource(name, text string) (err error) {
	s.addressSetting, s.addressText = name, text
	s.address, err = hostaddr.ParseSource(text)
	return err
}

// findAddress looks up this host's address, which is the one to advertise unless that is translated.
func (s *settings) findAddress() error {
	if s.local.IsValid() {
		return nil
	}
	local, err := s.address.Find(s.advertise.Is6() || s.joinsIPv6())
	if err == nil && s.translated && local.Is4() != s.advertise.Is4() {
		err = fmt.Errorf("address %s is not of the family of --advertise %s", local, s.advertise)
	}
	if err != nil {
		return settingNamed(s.addressSetting).wrong(s.addressText, err)
	}
	s.local = local
	if !s.translated {
		s.advertise = local
	}
	return nil
}

// joinsIPv6 says whether all hosts to join are given by IPv6 addresses: a host of both families is reached there by IPv6.
func (s *settings) joinsIPv6() bool {
	return len(s.join) > 0 && !slices.ContainsFunc(s.join, func(entry string) bool {
		host, _ := splitHost(entry, s.gossipPort)
		addr, _ := netip.ParseAddr(host)
		return !addr.Unmap().Is6()
	})
}

// How long the service manager waits for the address with all that comes after overlane: Docker starts then, and is refused.
var patienceForAddress = time.Minute

// awaitAddress waits until the host has the address to advertise. It says what is lacking; nil: nothing any more.
func (s *settings) awaitAddress(ctx context.Context, lacks func(error)) error {
	if s.findAddress() == nil {
		return nil
	}
	changes, err := hostaddr.Watch(ctx)
	if err != nil {
		return err
	}
	late := time.AfterFunc(patienceForAddress, func() { systemd.SdNotify(false, systemd.SdNotifyReady) })
	defer late.Stop()
	var before string
	for {
		err := s.findAddress()
		if err == nil {
			lacks(nil)
			return nil
		}
		if err.Error() != before {
			before = err.Error()
			lacks(err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changes:
		}
	}
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
