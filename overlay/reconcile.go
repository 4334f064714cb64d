package overlay

import (
	"errors"
	"net/netip"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/discovery"
)

// claims are the MACs and addresses of this host's endpoints in a network, each with the endpoint's ID.
type claims struct {
	macs  map[discovery.MAC]string
	addrs map[netip.Addr]string
}

func (c claims) add(ep *endpoint) {
	c.macs[ep.MAC] = ep.ID
	for _, addr := range ep.Addrs {
		c.addrs[addr] = ep.ID
	}
}

func (c claims) remove(ep *endpoint) {
	delete(c.macs, ep.MAC)
	for _, addr := range ep.Addrs {
		delete(c.addrs, addr)
	}
}

// view is what discovery last said of a network's remote part.
type view struct {
	vteps map[netip.AddrPort]bool
	macs  map[discovery.MAC]netip.AddrPort
	addrs map[netip.Addr]discovery.MAC
}

func newView() view {
	return view{map[netip.AddrPort]bool{}, map[discovery.MAC]netip.AddrPort{}, map[netip.Addr]discovery.MAC{}}
}

// Observe applies discovery's changes to the datapath, in order. A network that this host has left by then is passed
// over. An entry that the datapath refuses is logged: discovery has no use for the error, and the others still count.
func (o *Overlay) Observe(changes []discovery.Change) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	byKey := make(map[string]*network, len(o.networks))
	for _, n := range o.networks {
		byKey[n.Key] = n
	}
	for _, c := range changes {
		n := byKey[c.Network.Key]
		if n == nil {
			continue
		}
		if err := n.apply(o.cfg.Datapath, c); err != nil {
			n.log.WithError(err).WithField("change", c.Kind).Error("could not apply what another host announced")
		}
	}
}

func (n *network) apply(dp Datapath, c discovery.Change) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch c.Kind {
	case discovery.KindVTEP:
		return n.applyVTEP(dp, c)
	case discovery.KindMAC:
		if c.Gone {
			delete(n.remote.macs, c.MAC)
		} else {
			n.remote.macs[c.MAC] = c.VTEP
		}
		return n.syncMAC(dp, c.MAC)
	default:
		if c.Gone {
			delete(n.remote.addrs, c.Addr)
		} else {
			n.remote.addrs[c.Addr] = c.MAC
		}
		return n.syncAddr(dp, c.Addr)
	}
}

func (n *network) applyVTEP(dp Datapath, c discovery.Change) error {
	if c.Gone {
		delete(n.remote.vteps, c.VTEP)
		return dp.DelVTEP(n.VNI, c.VTEP)
	}
	n.remote.vteps[c.VTEP] = true
	return dp.AddVTEP(n.VNI, c.VTEP)
}

// syncMAC brings the datapath's entry of a MAC in line with the remote view. A local port's entry is left alone: its
// container is certainly here, whatever another host says.
func (n *network) syncMAC(dp Datapath, mac discovery.MAC) error {
	if _, here := n.local.macs[mac]; here {
		return nil
	}
	var errs [2]error
	if vtep, known := n.remote.macs[mac]; known {
		errs[0] = dp.SetMAC(n.VNI, datapath.MAC(mac), vtep)
		if n.hasIPv6() {
			errs[1] = dp.SetNeighbour(n.VNI, linkLocal(mac), datapath.MAC(mac))
		}
	} else {
		errs[0] = dp.DelMAC(n.VNI, datapath.MAC(mac))
		if n.hasIPv6() {
			errs[1] = dp.DelNeighbour(n.VNI, linkLocal(mac))
		}
	}
	return errors.Join(errs[:]...)
}

// syncAddr does for an address what syncMAC does for a MAC.
func (n *network) syncAddr(dp Datapath, addr netip.Addr) error {
	if _, here := n.local.addrs[addr]; here {
		return nil
	}
	mac, known := n.remote.addrs[addr]
	if !known {
		return dp.DelNeighbour(n.VNI, addr)
	}
	return dp.SetNeighbour(n.VNI, addr, datapath.MAC(mac))
}

// clear takes the network's remote entries out of the datapath.
func (n *network) clear(dp Datapath) error {
	gone := n.remote
	n.remote = newView()
	var errs []error
	for addr := range gone.addrs {
		errs = append(errs, n.syncAddr(dp, addr))
	}
	for mac := range gone.macs {
		errs = append(errs, n.syncMAC(dp, mac))
	}
	for vtep := range gone.vteps {
		errs = append(errs, dp.DelVTEP(n.VNI, vtep))
	}
	return errors.Join(errs...)
}

// linkLocal is the IPv6 address that Linux gives an interface with this MAC (RFC 4291 appendix A): discovery does not
// carry it, since the MAC says it all.
func linkLocal(mac discovery.MAC) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]})
}
