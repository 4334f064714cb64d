package overlaytest

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/overlane/overlane/hostnet"
)

// Host stands for the network of the machine itself, which outlives the daemon.
type Host struct {
	Faults
	taps        *Taps
	mu          sync.Mutex
	routes      map[netip.Prefix]string
	interfaces  map[string]hostnet.Interface
	antispoofed []netip.AddrPort
	isolated    []hostnet.Interface
	names       []hostnet.HostsLine
}

// NewHost is one without routes.
func NewHost(taps *Taps) *Host {
	return &Host{taps: taps, routes: map[netip.Prefix]string{}, interfaces: map[string]hostnet.Interface{}}
}

// Route gives it a route by an interface.
func (h *Host) Route(to netip.Prefix, by string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.routes[to] = by
}

// Lose has an interface go.
func (h *Host) Lose(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.taps.Lose(h.interfaces[name].Alias)
}

// Interfaces gives those that are set up. One goes with its tap.
func (h *Host) Interfaces() map[string]hostnet.Interface {
	h.mu.Lock()
	defer h.mu.Unlock()
	there := h.taps.All()
	maps.DeleteFunc(h.interfaces, func(_ string, i hostnet.Interface) bool { return !slices.Contains(there, i.Alias) })
	return maps.Clone(h.interfaces)
}

// Isolated gives the names of those that are kept apart.
func (h *Host) Isolated() (all []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, i := range h.isolated {
		all = append(all, i.Name)
	}
	return all
}

// Found gives the names by which this host finds others.
func (h *Host) Found() map[string][]netip.Addr {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := map[string][]netip.Addr{}
	for _, line := range h.names {
		for _, name := range line.Names {
			all[name] = append(all[name], line.Addr)
		}
	}
	return all
}

func (h *Host) Uses(subnet netip.Prefix) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for to, by := range h.routes {
		if to.Overlaps(subnet) {
			return fmt.Sprintf("a route to %s by %s", to, by), nil
		}
	}
	return "", nil
}

func (h *Host) Has(name string) (bool, error) {
	_, has := h.Interfaces()[name]
	return has, nil
}

// HasIPv6 is true unless it was made to fail.
func (h *Host) HasIPv6() bool { return h.check("HasIPv6") == nil }

func (h *Host) Isolate(interfaces []hostnet.Interface) error {
	if err := h.check("Isolate"); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.isolated = slices.Clone(interfaces)
	return nil
}

// Antispoofed gives the ports that are protected.
func (h *Host) Antispoofed() []netip.AddrPort {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.antispoofed)
}

func (h *Host) Antispoof(ports []netip.AddrPort) error {
	if err := h.check("Antispoof"); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.antispoofed = slices.Clone(ports)
	return nil
}

func (h *Host) SetUp(i hostnet.Interface) error {
	if err := h.check("SetUp"); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.Contains(h.taps.All(), i.Alias) {
		return hostnet.ErrGone
	}
	h.interfaces[i.Name] = i
	return nil
}

func (h *Host) Check(i hostnet.Interface) error {
	if _, has := h.Interfaces()[i.Name]; !has {
		return hostnet.ErrGone
	}
	return nil
}

func (h *Host) WriteNames(lines []hostnet.HostsLine) error {
	if err := h.check("WriteNames"); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.names = slices.Clone(lines)
	return nil
}
