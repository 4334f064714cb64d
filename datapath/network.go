package datapath

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/overlane/overlane/datapath/dp"
)

// network is what is said of one VNI. Local ports win over what is said of remote hosts: that is kept, and comes into
// force when the port goes.
type network struct {
	vni        uint32
	encrypted  bool
	ports      map[PortID]struct{}
	localMACs  map[MAC]PortID
	localAddrs map[netip.Addr]MAC
	vteps      map[netip.AddrPort]*vtep // flood list
	macs       map[MAC]*vtep
	neighbours map[netip.Addr]neighbour
	extras     map[netip.Addr]localExtra // by the address
	extraMACs  map[MAC]*extraMAC         // behind ports
	past       Traffic                   // of ports that are gone
}

// neighbour is where an address is. Extra: it is no endpoint's own.
type neighbour struct {
	mac   MAC
	extra bool
}

// vtep is used by flood lists and forwarding entries; refs counts them.
type vtep struct {
	at   netip.AddrPort
	id   uint32
	refs int

	via     netip.Addr // to which the underlay's device sends next; invalid: packets leave elsewhere
	nextHop MAC        // its MAC; zero: the kernel sends

	path path

	whole       wholeWay // of super-frames
	whyNotWhole error
}

// AddNetwork makes the network known: packets of its VNI are taken from its VTEPs. Encrypted: what leaves the host is ESP, by the SAs that
// SetSAs gives, or does not leave, and nothing else is taken. One that exists is no error, unless it is not so.
func (d *Datapath) AddNetwork(vni uint32, encrypted bool) error {
	if err := checkVNI(vni); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return errClosed
	}
	if n := d.nets[vni]; n != nil {
		if n.encrypted != encrypted {
			return fmt.Errorf("VNI %d: there is a network with it already, of which encrypted is %v", vni, n.encrypted)
		}
		return nil
	}
	if len(d.nets) == dp.MaxNetworks {
		return fmt.Errorf("VNI %d: there are %d networks, and room for no more: remove one", vni, dp.MaxNetworks)
	}
	err := dp.AddNet(vni, encrypted)
	if errors.Is(err, syscall.ENOTSUP) {
		return fmt.Errorf("VNI %d: this machine's CPU can't encrypt networks, it has no AES instructions (AES-NI, PCLMULQDQ): where it is a virtual machine, have the hypervisor pass its CPU's features on", vni)
	}
	if err != nil {
		return fmt.Errorf("VNI %d: %w", vni, tableFull(err, "MAC addresses", dp.MaxMACs))
	}
	d.nets[vni] = &network{
		vni:        vni,
		encrypted:  encrypted,
		ports:      map[PortID]struct{}{},
		localMACs:  map[MAC]PortID{},
		localAddrs: map[netip.Addr]MAC{},
		vteps:      map[netip.AddrPort]*vtep{},
		macs:       map[MAC]*vtep{},
		neighbours: map[netip.Addr]neighbour{},
		extras:     map[netip.Addr]localExtra{},
		extraMACs:  map[MAC]*extraMAC{},
	}
	return nil
}

// DelNetwork forgets the network and all that was said of it. It must have no ports; one that does not exist is no error.
func (d *Datapath) DelNetwork(vni uint32) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.nets[vni]
	if n == nil {
		return nil
	}
	if len(n.ports) > 0 {
		return fmt.Errorf("VNI %d: %d ports are left: remove them first", vni, len(n.ports))
	}
	// The flood list goes before the VTEPs that it names.
	if err := dp.DelNet(vni); err != nil {
		return fmt.Errorf("VNI %d: %w", vni, err)
	}
	delete(d.nets, vni)
	for _, v := range n.vteps {
		d.release(v)
	}
	for mac, v := range n.macs {
		dp.DelMAC(vni, mac)
		d.release(v)
	}
	for addr := range n.neighbours {
		dp.DelNeighbour(vni, addr)
	}
	return nil
}

// AddVTEP puts a VTEP on the network's flood list.
func (d *Datapath) AddVTEP(vni uint32, at netip.AddrPort) error {
	return d.withNetwork(vni, func(n *network) error {
		if n.vteps[at] != nil {
			return nil
		}
		v, err := d.acquire(at)
		if err != nil {
			return err
		}
		n.vteps[at] = v
		if err := n.syncFloodList(); err != nil {
			delete(n.vteps, at)
			d.release(v)
			return err
		}
		return nil
	})
}

// DelVTEP takes it off again.
func (d *Datapath) DelVTEP(vni uint32, at netip.AddrPort) error {
	return d.withNetwork(vni, func(n *network) error {
		v := n.vteps[at]
		if v == nil {
			return nil
		}
		delete(n.vteps, at)
		if err := n.syncFloodList(); err != nil {
			n.vteps[at] = v
			return err
		}
		d.release(v)
		return nil
	})
}

// SetMAC says that a MAC, and its link-local address, live behind a VTEP.
func (d *Datapath) SetMAC(vni uint32, mac MAC, at netip.AddrPort) error {
	if err := checkMAC(mac); err != nil {
		return fmt.Errorf("VNI %d: %w", vni, err)
	}
	return d.withNetwork(vni, func(n *network) error {
		old := n.macs[mac]
		if old != nil && old.at == at {
			return nil
		}
		v, err := d.acquire(at)
		if err != nil {
			return err
		}
		if err := n.setNeighbour(linkLocal(mac), neighbour{mac: mac}); err != nil {
			d.release(v)
			return err
		}
		n.macs[mac] = v
		if err := n.syncMAC(mac); err != nil {
			delete(n.macs, mac)
			d.release(v)
			if old != nil {
				n.macs[mac] = old
			} else {
				delete(n.neighbours, linkLocal(mac))
				n.syncNeighbour(linkLocal(mac))
			}
			return fmt.Errorf("forwarding entry for %s: %w", mac, err)
		}
		if old != nil {
			d.release(old)
		}
		return nil
	})
}

// DelMAC forgets it.
func (d *Datapath) DelMAC(vni uint32, mac MAC) error {
	return d.withNetwork(vni, func(n *network) error {
		v := n.macs[mac]
		if v == nil {
			return nil
		}
		delete(n.macs, mac)
		delete(n.neighbours, linkLocal(mac))
		err := n.syncMAC(mac)
		n.syncNeighbour(linkLocal(mac))
		d.release(v)
		return err
	})
}

// SetNeighbour says which MAC has an address: ARP and neighbour discovery are answered with it. Extra: it is no endpoint's own, so that
// ports that are trusted may claim it; when it has moved, the network's ports are told.
func (d *Datapath) SetNeighbour(vni uint32, addr netip.Addr, mac MAC, extra bool) error {
	if err := checkAddr(addr); err != nil {
		return fmt.Errorf("VNI %d: neighbour %s: %w", vni, mac, err)
	}
	return d.withNetwork(vni, func(n *network) error {
		return d.announcing(n, addr, func() error { return n.setNeighbour(addr, neighbour{mac, extra}) })
	})
}

// DelNeighbour forgets it.
func (d *Datapath) DelNeighbour(vni uint32, addr netip.Addr) error {
	return d.withNetwork(vni, func(n *network) error {
		delete(n.neighbours, addr)
		return n.syncNeighbour(addr)
	})
}

func (d *Datapath) withNetwork(vni uint32, f func(*network) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return errClosed
	}
	n := d.nets[vni]
	if n == nil {
		return fmt.Errorf("VNI %d: no such network", vni)
	}
	if err := f(n); err != nil {
		return fmt.Errorf("VNI %d: %w", vni, err)
	}
	return nil
}

// syncMAC brings the forwarding table in line with what is said of the MAC.
func (n *network) syncMAC(mac MAC) error {
	if id, ok := n.localMACs[mac]; ok {
		return tableFull(dp.SetMACPort(n.vni, mac, uint32(id)), "MAC addresses", dp.MaxMACs)
	}
	if x := n.extraMACs[mac]; x != nil {
		return tableFull(dp.SetMACPort(n.vni, mac, uint32(x.port)), "MAC addresses", dp.MaxMACs)
	}
	if v := n.macs[mac]; v != nil {
		return tableFull(dp.SetMACVTEP(n.vni, mac, v.id), "MAC addresses", dp.MaxMACs)
	}
	dp.DelMAC(n.vni, mac)
	return nil
}

// setNeighbour notes the address only when the table has it.
func (n *network) setNeighbour(addr netip.Addr, at neighbour) error {
	old, had := n.neighbours[addr]
	n.neighbours[addr] = at
	err := n.syncNeighbour(addr)
	if err == nil {
		return nil
	}
	delete(n.neighbours, addr)
	if had {
		n.neighbours[addr] = old
	}
	return fmt.Errorf("neighbour %s: %w", addr, err)
}

// syncNeighbour brings the neighbour table in line with what is said of the address.
func (n *network) syncNeighbour(addr netip.Addr) error {
	at := n.neighbour(addr)
	if at.mac == (MAC{}) {
		dp.DelNeighbour(n.vni, addr)
		return nil
	}
	return tableFull(dp.SetNeighbour(n.vni, addr, at.mac, at.extra), "neighbours", dp.MaxNeighbours)
}

// neighbour is where an address is; zero: nobody has it.
func (n *network) neighbour(addr netip.Addr) neighbour {
	if mac, ok := n.localAddrs[addr]; ok {
		return neighbour{mac: mac}
	}
	if x, ok := n.extras[addr]; ok {
		return neighbour{x.mac, !x.own}
	}
	return n.neighbours[addr]
}

func (n *network) syncFloodList() error {
	ports := make([]uint32, 0, len(n.ports))
	for id := range n.ports {
		ports = append(ports, uint32(id))
	}
	vteps := make([]uint32, 0, len(n.vteps))
	for _, v := range n.vteps {
		vteps = append(vteps, v.id)
	}
	return dp.SetFlood(n.vni, ports, vteps)
}

func (d *Datapath) acquire(at netip.AddrPort) (*vtep, error) {
	if v := d.vteps[at]; v != nil {
		v.refs++
		return v, nil
	}
	if err := checkAddr(at.Addr()); err != nil || at.Port() == 0 {
		return nil, fmt.Errorf("VTEP %s: want a unicast address and a UDP port", at)
	}
	id, err := dp.AddVTEP(at)
	if err != nil {
		return nil, fmt.Errorf("VTEP %s: %w (room for %d)", at, err, dp.MaxVTEPs)
	}
	v := &vtep{at: at, id: id, refs: 1}
	if err := d.applySAs(v); err != nil {
		dp.DelVTEP(id)
		return nil, err
	}
	d.vteps[at] = v
	d.setPartial(v)
	d.resolveNextHop(v)
	d.paths.lookAtAnnounced(v)
	d.paths.lookAtRoute(v, newRoutes(d.paths.netlink, d.paths.own))
	return v, nil
}

// release forgets the VTEP with its last user; no forwarding entry may name it any more.
func (d *Datapath) release(v *vtep) {
	v.refs--
	if v.refs > 0 {
		return
	}
	delete(d.vteps, v.at)
	if err := dp.DelVTEP(v.id); err != nil {
		d.log.WithError(err).Errorf("VTEP %s", v.at)
	}
}
