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
	routes, err := datapath.RouteMTUs(vtep, peers)
	if err != nil {
		return 0, err
	}
	mtus = append(mtus, routes...)
	if len(mtus) == 0 {
		mtus = append(mtus, defaultMTU(vtep))
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
func defaultMTU(vtep netip.Addr) int {
	for _, to := range far {
		if mtu, err := datapath.RouteMTU(vtep, to); to.Is4() == vtep.Is4() && err == nil {
			return mtu
		}
	}
	return ethernetMTU
}

// pathStatus says of each path what it carries, and which networks' containers have more.
func (o *Overlay) pathStatus(paths []datapath.PathStats, members []discovery.Member, networks []NetworkStatus) []PathStatus {
	all := make([]PathStatus, 0, len(paths))
	for _, p := range paths {
		hosts := hostsAt(members, func(vtep netip.AddrPort) bool { return vtep == p.VTEP })
		s := PathStatus{Host: strings.Join(hosts, ","), VTEP: p.VTEP, MTU: p.MTU, SuperFrames: superFrames(p)}
		shared := slices.DeleteFunc(slices.Clone(networks), func(n NetworkStatus) bool {
			return !slices.ContainsFunc(hosts, func(host string) bool { return slices.Contains(n.Members, host) })
		})
		if p.MTU == 0 {
			s.Health = Health{"there is no route", "see to this host's routes"}
		} else {
			s.Health = pathHealth(p, shared)
		}
		all = append(all, s)
	}
	return all
}

// pathHealth says which of the networks have containers whose packets are too long for a path.
func pathHealth(p datapath.PathStats, networks []NetworkStatus) (h Health) {
	var reasons []string
	least, needed := maxMTU, 0
	for _, encrypted := range []bool{false, true} {
		fits := InnerMTU(p.MTU, p.VTEP.Addr(), encrypted)
		var wider []string
		for _, n := range networks {
			if n.Encrypted == encrypted && n.Widest > fits {
				wider = append(wider, fmt.Sprintf("%s %d", n.Key, n.Widest))
				least, needed = min(least, fits), max(needed, PathMTU(n.Widest, p.VTEP.Addr(), encrypted))
			}
		}
		if len(wider) > 0 {
			which := map[bool]string{false: "containers", true: "containers of encrypted networks"}[encrypted]
			reasons = append(reasons, fmt.Sprintf("%s may have %d, and have more: %s", which, fits, strings.Join(wider, ", ")))
		}
	}
	if len(reasons) == 0 {
		return h
	}
	if p.Learned {
		reasons = slices.Insert(reasons, 0, "a router on the way says so")
	}
	h.Reason = strings.Join(reasons, "; ")
	h.Advice = fmt.Sprintf("raise the MTU of what lies between to %d, or make these networks anew with -o %s=%d; until then containers are told by ICMP", needed, OptionMTU, least)
	return h
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
	mtu := InnerMTU(underlay, o.cfg.VTEP, n.Encrypted)
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
func containerMTU(wanted, underlay int, vtep netip.Addr, pools []netip.Prefix, encrypted bool) (int, error) {
	largest := InnerMTU(underlay, vtep, encrypted)
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
