package discovery

import (
	"fmt"
	"net/netip"
	"slices"
)

// Static is an endpoint behind a VTEP that speaks no gossip: a kernel's vxlan
// device, or a switch. On a node that subscribes to a network with the VNI it is
// a claim like those of members; nobody else is told of it.
type Static struct {
	VNI      uint32
	VTEP     netip.AddrPort
	Endpoint Endpoint
}

// StaticOwner is the Record.Owner of static endpoints.
const StaticOwner = "static"

func (cfg *Config) checkStatic() error {
	type claim struct {
		vni  uint32
		what any
	}
	seen := map[claim]bool{}
	for _, s := range cfg.Static {
		e := s.Endpoint
		switch {
		case s.VNI < 1 || s.VNI > maxVNI:
			return fmt.Errorf("static endpoint %s: VNI %d is not from 1 to %d", e.MAC, s.VNI, maxVNI)
		case e.MAC[0]&1 != 0 || e.MAC == MAC{}:
			return fmt.Errorf("static endpoint %s: that is no MAC address of one interface", e.MAC)
		case !s.VTEP.IsValid() || s.VTEP.Port() == 0 || !isUnicast(s.VTEP.Addr()):
			return fmt.Errorf("static endpoint %s: VTEP %s is no address and port to send VXLAN to", e.MAC, s.VTEP)
		case s.VTEP.Addr().Zone() != "" || slices.ContainsFunc(e.Addrs, func(a netip.Addr) bool { return a.Zone() != "" }):
			return fmt.Errorf("static endpoint %s: an address has a zone, which is this host's alone: leave out what is behind the %%", e.MAC)
		case slices.ContainsFunc(e.Addrs, func(a netip.Addr) bool { return !isUnicast(a) }):
			return fmt.Errorf("static endpoint %s: want addresses of one interface, and not %v", e.MAC, e.Addrs)
		case s.VTEP.Addr() == cfg.VTEP.Addr():
			return fmt.Errorf("static endpoint %s: VTEP %s is this host's own", e.MAC, s.VTEP)
		}
		claims := []claim{{s.VNI, e.MAC}}
		for _, a := range e.Addrs {
			claims = append(claims, claim{s.VNI, a})
		}
		for _, c := range claims {
			if seen[c] {
				return fmt.Errorf("static endpoint %s: VNI %d has %v twice", e.MAC, s.VNI, c.what)
			}
			seen[c] = true
		}
	}
	return nil
}

func isUnicast(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// showStatics puts the static endpoints of a network into the view. They are
// nobody's, so that their owner is no node's ID.
func (c *core) showStatics(n Network) {
	if n.Encrypted && slices.ContainsFunc(c.statics, func(s Static) bool { return s.VNI == n.VNI }) {
		c.warnf("network %q is encrypted, and has none of the static endpoints with VNI %d: their VTEPs have no keys; make it anew without -o encrypted, or leave them out", n.Key, n.VNI)
	}
	for _, s := range c.staticsOf(n) {
		c.view.addVTEP(n.Key, nodeID{}, s.VTEP)
		c.view.addEndpoint(n.Key, nodeID{}, s.VTEP, &s.Endpoint)
	}
}

// staticsOf lists those of a network. Their VTEPs have no keys: one that is encrypted has none.
func (c *core) staticsOf(n Network) []Static {
	var statics []Static
	for _, s := range c.statics {
		if s.VNI == n.VNI && !n.Encrypted {
			statics = append(statics, s)
		}
	}
	return statics
}
