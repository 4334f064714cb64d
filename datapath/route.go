package datapath

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// RouteMTU is how long a packet from one address to another may be by this host's own routes, in bytes of IP packet: the route's MTU
// (RTAX_MTU of linux/rtnetlink.h), or that of the device by which it leaves; of several ways the smallest. What routers have
// said of the path is not in it.
func RouteMTU(from, to netip.Addr) (int, error) {
	return newRoutes(&netlink.Handle{}, from).mtu(to) // of the calling thread's network namespace
}

// RouteMTUs are those of many addresses; one to which there is no route is left out.
func RouteMTUs(from netip.Addr, to []netip.Addr) (mtus []int, err error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("look at the routes: %w", err)
	}
	defer h.Close()
	r := newRoutes(h, from)
	for _, addr := range to {
		if mtu, err := r.mtu(addr); err == nil {
			mtus = append(mtus, mtu)
		}
	}
	return mtus, nil
}

// routes are looked at for many addresses in a row; each device is asked for its MTU once.
type routes struct {
	netlink *netlink.Handle
	from    netip.Addr
	devices map[int]int
}

func newRoutes(h *netlink.Handle, from netip.Addr) routes { return routes{h, from, map[int]int{}} }

// routesTo are those of packets from an address, by which rules may choose the table. One that this host does not have, as for a moment
// while it changes, leads nowhere: then any of its own counts.
func routesTo(h *netlink.Handle, from, to netip.Addr, options netlink.RouteGetOptions) ([]netlink.Route, error) {
	if from.IsValid() && from.Is4() == to.Is4() {
		bound := options
		bound.SrcAddr = from.AsSlice()
		if routes, err := h.RouteGetWithOptions(to.AsSlice(), &bound); err == nil {
			return routes, nil
		}
	}
	return h.RouteGetWithOptions(to.AsSlice(), &options)
}

func (r routes) mtu(to netip.Addr) (int, error) {
	ways, err := routesTo(r.netlink, r.from, to, netlink.RouteGetOptions{FIBMatch: true})
	if err != nil {
		return 0, fmt.Errorf("route to %s: %w", to, err)
	}
	least := 0
	for _, route := range ways {
		for _, device := range devicesOf(route) {
			mtu, err := r.deviceMTU(device)
			if err != nil {
				return 0, fmt.Errorf("device of the route to %s: %w", to, err)
			}
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

func (r routes) deviceMTU(index int) (int, error) {
	if mtu, known := r.devices[index]; known {
		return mtu, nil
	}
	link, err := r.netlink.LinkByIndex(index)
	if err != nil {
		return 0, err
	}
	r.devices[index] = link.Attrs().MTU
	return r.devices[index], nil
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
