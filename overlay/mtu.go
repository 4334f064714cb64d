package overlay

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"go4.org/netipx"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/discovery"
)

// Bytes that VXLAN adds to a container's IP packet (RFC 7348 section 5): inner Ethernet 14, VXLAN 8, UDP 8, outer
// IPv4 20 or IPv6 40.
const (
	overhead4 = 50
	overhead6 = 70
)

// UnderlayMTU is how long a packet between this host's VTEP and its peers may be, in bytes of IP packet, by what this host knows:
// its routes to them and the device that carries the VTEP's address. Where that device has no wire, as with BGP to the host, the
// routes alone count; before there are peers, the default route.
func UnderlayMTU(vtep netip.Addr, peers []netip.Addr) (int, error) {
	link, err := Device(vtep)
	if err != nil {
		return 0, err
	}
	var mtus []int
	if hasWire(link) {
		mtus = append(mtus, link.Attrs().MTU)
	}
	routes, err := datapath.RouteMTUs(peers)
	if err != nil {
		return 0, err
	}
	mtus = append(mtus, routes...)
	if len(mtus) == 0 {
		mtus = append(mtus, defaultMTU())
	}
	return slices.Min(mtus), nil
}

// ReceiveMTU is how long a packet of VXLAN this host receives, in bytes of IP packet: the MTU of the device that carries the VTEP's address.
// Where that has no wire, it is that of the routes to the peers, and 0 before there are any.
func ReceiveMTU(vtep netip.Addr, peers []netip.Addr) (int, error) {
	link, err := Device(vtep)
	if err != nil {
		return 0, err
	}
	if hasWire(link) {
		return link.Attrs().MTU, nil
	}
	if len(peers) == 0 {
		return 0, nil
	}
	return UnderlayMTU(vtep, peers)
}

// Device is the network device that carries an address of this host.
func Device(addr netip.Addr) (netlink.Link, error) {
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	for errors.Is(err, netlink.ErrDumpInterrupted) { // containers come and go meanwhile
		addrs, err = netlink.AddrList(nil, netlink.FAMILY_ALL)
	}
	if err != nil {
		return nil, fmt.Errorf("list this host's addresses: %w", err)
	}
	for _, a := range addrs {
		if ip, ok := netipx.FromStdIP(a.IP); ok && ip == addr {
			link, err := netlink.LinkByIndex(a.LinkIndex)
			if err != nil {
				return nil, fmt.Errorf("look up the device of %s: %w", addr, err)
			}
			return link, nil
		}
	}
	return nil, fmt.Errorf("address %s is on no network device of this host", addr)
}

// hasWire tells whether packets leave by the device: its MTU is that of a path.
func hasWire(link netlink.Link) bool {
	return link.Attrs().Flags&net.FlagLoopback == 0 && link.Type() != "dummy" && link.Type() != "vrf"
}

// ethernetMTU is what every Ethernet carries: RFC 894.
const ethernetMTU = 1500

// far are addresses to which only a default route leads: those for documentation (RFC 5737, RFC 3849).
var far = []netip.Addr{netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("2001:db8::1")}

// defaultMTU is that of the default route, as long as nobody is there to ask for the way to.
func defaultMTU() int {
	for _, to := range far {
		if mtu, err := datapath.RouteMTU(to); err == nil {
			return mtu
		}
	}
	return ethernetMTU
}

// InnerMTU is the largest MTU of a container's interface that a path between VTEPs carries.
func InnerMTU(path int, vtep netip.Addr) int {
	if vtep.Is6() {
		return min(path-overhead6, maxMTU)
	}
	return min(path-overhead4, maxMTU)
}

// pathStatus says of each path what it carries, and which networks' containers have more.
func (o *Overlay) pathStatus(paths []datapath.PathStats, members []discovery.Member, networks []NetworkStatus) []PathStatus {
	all := make([]PathStatus, 0, len(paths))
	for _, p := range paths {
		hosts := hostsAt(members, func(vtep netip.AddrPort) bool { return vtep == p.VTEP })
		s := PathStatus{Host: strings.Join(hosts, ","), VTEP: p.VTEP, MTU: p.MTU, SuperFrames: superFrames(p)}
		fits := InnerMTU(p.MTU, p.VTEP.Addr())
		var wider []string
		widest := 0
		for _, n := range networks {
			if n.Widest > fits && slices.ContainsFunc(hosts, func(host string) bool { return slices.Contains(n.Members, host) }) {
				wider = append(wider, fmt.Sprintf("%s %d", n.Key, n.Widest))
				widest = max(widest, n.Widest)
			}
		}
		switch {
		case p.MTU == 0:
			s.Health = Health{"there is no route", "see to this host's routes"}
		case len(wider) > 0:
			s.Reason = fmt.Sprintf("containers may have %d, and have more: %s", fits, strings.Join(wider, ", "))
			s.Advice = fmt.Sprintf("raise the MTU of what lies between to %d, or make these networks anew with -o %s=%d; until then containers are told by ICMP", p.MTU+widest-fits, OptionMTU, fits)
			if p.Learned {
				s.Reason = "a router on the way says so; " + s.Reason
			}
		}
		all = append(all, s)
	}
	return all
}

func superFrames(p datapath.PathStats) string {
	switch {
	case p.Whole:
		return "in one piece"
	case p.Cut != "":
		return "cut up: " + p.Cut
	}
	return "cut up"
}

// todaysMTU is that of a new container's interface: the device or the routes may have changed since the network was made.
// Underlay 0: what the underlay carries is not known.
func (o *Overlay) todaysMTU(n *network, underlay int) int {
	opts, err := networkOptions.parse(n.Options)
	if err != nil || underlay == 0 {
		return n.MTU // its options are as an older version took them
	}
	mtu := InnerMTU(underlay, o.cfg.VTEP)
	if opts.mtu > 0 {
		mtu = min(mtu, opts.mtu)
	}
	smallest, _ := smallestMTU(n.Pools)
	return max(mtu, smallest)
}

// smallestMTU is what the protocols of a network's subnets need, and which one needs it.
func smallestMTU(pools []netip.Prefix) (int, string) {
	if slices.ContainsFunc(pools, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
		return minMTU6, "IPv6"
	}
	return minMTU4, "IPv4"
}

// containerMTU is the MTU of a network's interfaces: the wanted one if it fits, or the largest (wanted 0).
func containerMTU(wanted, underlay int, vtep netip.Addr, pools []netip.Prefix) (int, error) {
	largest := InnerMTU(underlay, vtep)
	smallest, why := smallestMTU(pools)
	switch {
	case largest < smallest:
		return 0, fmt.Errorf("underlay MTU %d leaves containers %d bytes, %s needs %d: raise the MTU of the devices between %s and the other hosts", underlay, largest, why, smallest, vtep)
	case wanted == 0:
		return largest, nil
	case wanted > largest:
		return 0, networkOptions.bad(OptionMTU, fmt.Sprint(wanted), "the underlay's MTU of %d allows at most %d", underlay, largest)
	case wanted < smallest:
		return 0, networkOptions.bad(OptionMTU, fmt.Sprint(wanted), "%s needs at least %d", why, smallest)
	}
	return wanted, nil
}
