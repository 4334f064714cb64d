package datapath

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/overlane/overlane/datapath/dp"
)

type port struct {
	config   PortConfig
	fds      []int
	addrs    []netip.Addr // with the link-local one
	daemonIn uint64       // inode number of the daemon's network namespace
	seenIn   uint64       // that of the namespace in which the tap was seen last
	seenAt   time.Time    // when it was first seen there
	native   *nativePort  // nil: it is a tap
}

// AddPort hangs a container on its network. The tap that carries the alias is taken back from the namespace in which the
// container has it: ErrTapGone when there is none. In the daemon's own namespace, a missing one is made.
// A port with the same alias that is open already is the answer itself.
func (d *Datapath) AddPort(c PortConfig) (PortID, error) {
	if err := c.check(); err != nil {
		return 0, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return 0, errClosed
	}
	net := d.nets[c.VNI]
	if net == nil {
		return 0, fmt.Errorf("port %s: VNI %d: no such network", c.Name, c.VNI)
	}
	if id, open := d.aliases[c.Alias]; open {
		p := d.ports[id]
		if p.config.VNI != c.VNI || p.config.MAC != c.MAC || p.config.Trust != c.Trust || !slices.Equal(p.config.Addrs, c.Addrs) {
			return 0, fmt.Errorf("port %s: alias %s is open with VNI %d, MAC %s, addresses %v and trust %d", c.Name, c.Alias, p.config.VNI, p.config.MAC, p.config.Addrs, p.config.Trust)
		}
		return id, nil
	}
	if id, taken := net.localMACs[c.MAC]; taken {
		return 0, fmt.Errorf("port %s: MAC %s is port %s's in VNI %d", c.Name, c.MAC, d.ports[id].config.Name, c.VNI)
	}
	for _, addr := range c.Addrs {
		if mac, taken := net.localAddrs[addr]; taken {
			return 0, fmt.Errorf("port %s: address %s is that of %s in VNI %d", c.Name, addr, mac, c.VNI)
		}
	}
	if len(d.ports) == dp.MaxPorts {
		return 0, fmt.Errorf("port %s: there are %d ports, and room for no more", c.Name, dp.MaxPorts)
	}
	open := d.openTapPort
	if c.Native != nil {
		open = d.openNativePort
	}
	id, p, err := open(c)
	if err != nil {
		return 0, fmt.Errorf("port %s: %w", c.Name, err)
	}
	p.config, p.addrs = c, append(slices.Clone(c.Addrs), linkLocal(c.MAC))
	d.ports[id], d.aliases[c.Alias] = p, id
	net.ports[id] = struct{}{}
	if err := d.programPort(net, id, p); err != nil {
		d.removePort(id, p, c.Netns != "") // a container's own tap is not ours to take: it may be asked for again
		return 0, fmt.Errorf("port %s: %w", c.Name, err)
	}
	return id, nil
}

func (d *Datapath) openTapPort(c PortConfig) (PortID, *port, error) {
	daemonIn, err := namespaceOf("/proc/thread-self/ns/net")
	if err != nil {
		return 0, nil, err
	}
	fds, err := d.openTap(c)
	if err != nil {
		return 0, nil, err
	}
	id, err := dp.AddPort(c.port(fds))
	if err != nil {
		dp.CloseTap(fds, c.Netns != "")
		return 0, nil, err
	}
	return PortID(id), &port{fds: fds, daemonIn: daemonIn}, nil
}

func (c *PortConfig) port(fds []int) dp.Port {
	p := dp.Port{VNI: c.VNI, MTU: c.MTU, Trust: c.Trust, MAC: c.MAC, Addrs: c.Addrs, FDs: fds}
	if c.Native != nil {
		p.Rings = nativeKinds[c.Native.Kind].rings
	}
	return p
}

// close gives back what the port holds beside its number. The tap goes unless it is kept.
func (p *port) close(id PortID, keep bool) error {
	if p.native != nil {
		p.native.stop()
	}
	err := dp.DelPort(uint32(id))
	if p.native == nil {
		dp.CloseTap(p.fds, keep)
	}
	return err
}

func (d *Datapath) programPort(n *network, id PortID, p *port) error {
	n.localMACs[p.config.MAC] = id
	if err := n.syncMAC(p.config.MAC); err != nil {
		return fmt.Errorf("forwarding entry for %s: %w", p.config.MAC, err)
	}
	for _, addr := range p.addrs {
		n.localAddrs[addr] = p.config.MAC
		if err := n.syncNeighbour(addr); err != nil {
			return fmt.Errorf("neighbour %s: %w", addr, err)
		}
	}
	return n.syncFloodList()
}

// DelPort takes the port and its tap away, wherever the tap is. A port that does not exist is no error.
func (d *Datapath) DelPort(id PortID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.ports[id]
	if p == nil {
		return nil
	}
	return d.removePort(id, p, false)
}

// removePort gives the MAC and addresses back to whoever else was said to have them. The tap goes with it unless it is kept.
func (d *Datapath) removePort(id PortID, p *port, keep bool) error {
	net := d.nets[p.config.VNI]
	if counted, _, err := dp.ReadPort(uint32(id)); err == nil {
		net.past = net.past.Plus(trafficOf(counted))
	}
	delete(net.ports, id)
	delete(d.ports, id)
	delete(d.aliases, p.config.Alias)
	err := net.syncFloodList()
	net.delExtras(id)
	delete(net.localMACs, p.config.MAC)
	net.syncMAC(p.config.MAC)
	for _, addr := range p.addrs {
		delete(net.localAddrs, addr)
		net.syncNeighbour(addr)
	}
	if gone := p.close(id, keep); err == nil {
		err = gone
	}
	if err != nil {
		return fmt.Errorf("port %s: %w", p.config.Name, err)
	}
	return nil
}

// linkLocal is the address that Linux gives an interface with this MAC (RFC 4291 appendix A).
func linkLocal(m MAC) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]})
}
