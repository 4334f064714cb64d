package overlay

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"go4.org/netipx"
)

// Bytes that VXLAN adds to a container's IP packet (RFC 7348 section 5): inner Ethernet 14, VXLAN 8, UDP 8, outer
// IPv4 20 or IPv6 40.
const (
	overhead4 = 50
	overhead6 = 70
)

// DeviceMTU gives the MTU, in bytes of IP packet, of the network device that carries addr.
func DeviceMTU(addr netip.Addr) (int, error) {
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	for errors.Is(err, netlink.ErrDumpInterrupted) { // containers come and go meanwhile
		addrs, err = netlink.AddrList(nil, netlink.FAMILY_ALL)
	}
	if err != nil {
		return 0, fmt.Errorf("list this host's addresses: %w", err)
	}
	for _, a := range addrs {
		if ip, ok := netipx.FromStdIP(a.IP); ok && ip == addr {
			link, err := netlink.LinkByIndex(a.LinkIndex)
			if err != nil {
				return 0, fmt.Errorf("look up the device of %s: %w", addr, err)
			}
			return link.Attrs().MTU, nil
		}
	}
	return 0, fmt.Errorf("address %s is on no network device of this host", addr)
}

// InnerMTU is the largest MTU of a container's interface that a path between VTEPs carries.
func InnerMTU(path int, vtep netip.Addr) int {
	if vtep.Is6() {
		return min(path-overhead6, maxMTU)
	}
	return min(path-overhead4, maxMTU)
}

// containerMTU is the MTU of a network's interfaces: the wanted one if it fits, or the largest (wanted 0).
func containerMTU(wanted, underlay int, vtep netip.Addr, pools []netip.Prefix) (int, error) {
	largest := InnerMTU(underlay, vtep)
	smallest, why := minMTU4, "IPv4"
	for _, pool := range pools {
		if pool.Addr().Is6() {
			smallest, why = minMTU6, "IPv6"
		}
	}
	switch {
	case largest < smallest:
		return 0, fmt.Errorf("underlay MTU %d leaves containers %d bytes, %s needs %d: raise the MTU of the device with address %s", underlay, largest, why, smallest, vtep)
	case wanted == 0:
		return largest, nil
	case wanted > largest:
		return 0, networkOptions.bad(OptionMTU, fmt.Sprint(wanted), "the underlay's MTU of %d allows at most %d", underlay, largest)
	case wanted < smallest:
		return 0, networkOptions.bad(OptionMTU, fmt.Sprint(wanted), "%s needs at least %d", why, smallest)
	}
	return wanted, nil
}
