package datapath

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// RouteMTU is how long a packet to an address may be by this host's own routes, in bytes of IP packet: the route's MTU
// (RTAX_MTU of linux/rtnetlink.h), or that of the device by which it leaves; of several ways the smallest. What routers have
// said of the path is not in it.
func RouteMTU(to netip.Addr) (int, error) {
	return routeMTU(&netlink.Handle{}, to) // of the calling thread's network namespace
}

func routeMTU(h *netlink.Handle, to netip.Addr) (int, error) {
	routes, err := h.RouteGetWithOptions(to.AsSlice(), &netlink.RouteGetOptions{FIBMatch: true})
	if err != nil {
		return 0, fmt.Errorf("route to %s: %w", to, err)
	}
	least := 0
	for _, route := range routes {
		for _, device := range devicesOf(route) {
			link, err := h.LinkByIndex(device)
			if err != nil {
				return 0, fmt.Errorf("device of the route to %s: %w", to, err)
			}
			mtu := link.Attrs().MTU
			if route.MTU > 0 {
				mtu = min(mtu, route.MTU)
			}
			if least == 0 || mtu < least {
				least = mtu
			}
		}
	}
	if least == 0 {
		return 0, fmt.Errorf("route to %s: it leads to no device", to)
	}
	return least, nil
}

// devicesOf are those by which packets on a route may leave.
func devicesOf(route netlink.Route) (devices []int) {
	for _, way := range route.MultiPath {
		devices = append(devices, way.LinkIndex)
	}
	if route.LinkIndex != 0 {
		devices = append(devices, route.LinkIndex)
	}
	return devices
}
