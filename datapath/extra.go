package datapath

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/overlane/overlane/datapath/dp"
)

// localExtra is an address that a port's container has beside its own.
type localExtra struct {
	port PortID
	mac  MAC // the port's, or one behind it
	own  bool
}

// extraMAC is a MAC behind a port, and how many extra addresses are there.
type extraMAC struct {
	port PortID
	refs int
}

// SetExtra gives a port an address beside its own, at its own MAC (mac is zero) or at one behind it: it may send from them, and gets
// what is for them. Own: ports that are trusted may not claim it. What is a port's own is refused, and what another port has.
func (d *Datapath) SetExtra(id PortID, mac MAC, addr netip.Addr, own bool) error {
	return d.withPort(id, func(n *network, p *port) error {
		if mac == (MAC{}) {
			mac = p.config.MAC
		}
		if err := cmp.Or(checkMAC(mac), checkAddr(addr)); err != nil {
			return err
		}
		if holder, taken := n.localAddrs[addr]; taken {
			return fmt.Errorf("address %s is that of %s", addr, holder)
		}
		if owner, taken := n.localMACs[mac]; taken && owner != id {
			return fmt.Errorf("MAC %s is port %s's", mac, d.ports[owner].config.Name)
		}
		if x, taken := n.extras[addr]; taken && x.port != id {
			return fmt.Errorf("address %s is with port %s", addr, d.ports[x.port].config.Name)
		}
		if x := n.extraMACs[mac]; x != nil && x.port != id {
			return fmt.Errorf("MAC %s is with port %s", mac, d.ports[x.port].config.Name)
		}
		return d.announcing(n, addr, func() error {
			if err := n.holdMAC(id, mac, p.config.MAC); err != nil {
				return fmt.Errorf("forwarding entry for %s: %w", mac, err)
			}
			old, had := n.extras[addr]
			n.extras[addr] = localExtra{id, mac, own}
			if had {
				n.releaseMAC(old.mac)
			}
			if err := n.syncNeighbour(addr); err != nil {
				n.delExtra(addr)
				return fmt.Errorf("neighbour %s: %w", addr, err)
			}
			return nil
		})
	})
}

// DelExtra takes it from the port. One that the port does not have is no error.
func (d *Datapath) DelExtra(id PortID, addr netip.Addr) error {
	return d.withPort(id, func(n *network, _ *port) error {
		if x, ok := n.extras[addr]; !ok || x.port != id {
			return nil
		}
		return d.announcing(n, addr, func() error { n.delExtra(addr); return nil })
	})
}

// AskExtra asks a port's container for an address that it was given by SetExtra. The answer is a Claim. The program of a native port can't be asked.
func (d *Datapath) AskExtra(id PortID, addr netip.Addr) error {
	return d.withPort(id, func(n *network, p *port) error {
		x, ok := n.extras[addr]
		if !ok || x.port != id {
			return nil
		}
		frame, err := solicitation(x.mac, addr)
		if err == nil {
			p.inject(frame)
		}
		return err
	})
}

func (d *Datapath) withPort(id PortID, f func(*network, *port) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.ports[id]
	if d.closed || p == nil {
		return nil
	}
	if err := f(d.nets[p.config.VNI], p); err != nil {
		return fmt.Errorf("port %s: %w", p.config.Name, err)
	}
	return nil
}

// holdMAC counts one more extra address at a MAC, unless it is the port's own.
func (n *network) holdMAC(id PortID, mac, own MAC) error {
	if mac == own {
		return nil
	}
	x := n.extraMACs[mac]
	if x == nil {
		x = &extraMAC{port: id}
		n.extraMACs[mac] = x
	}
	x.refs++
	err := n.syncMAC(mac)
	if err != nil {
		n.releaseMAC(mac)
	}
	return err
}

func (n *network) releaseMAC(mac MAC) {
	x := n.extraMACs[mac]
	if x == nil {
		return
	}
	if x.refs--; x.refs == 0 {
		delete(n.extraMACs, mac)
		n.syncMAC(mac)
	}
}

func (n *network) delExtra(addr netip.Addr) {
	mac := n.extras[addr].mac
	delete(n.extras, addr)
	n.releaseMAC(mac)
	n.syncNeighbour(addr)
}

// delExtras takes a port's from it.
func (n *network) delExtras(id PortID) {
	for addr, x := range n.extras {
		if x.port == id {
			n.delExtra(addr)
		}
	}
}

// announcing makes a change of where an address is. When an extra one has moved by it the network's containers hear of it: they would
// go on with the old MAC until a timer of their kernels' runs out.
func (d *Datapath) announcing(n *network, addr netip.Addr, change func() error) error {
	before := n.neighbour(addr)
	if err := change(); err != nil {
		return err
	}
	now := n.neighbour(addr)
	if now.mac == before.mac || now.mac == (MAC{}) || !now.extra && !before.extra {
		return nil
	}
	frame, err := announcement(now.mac, addr)
	if err != nil {
		return err
	}
	for id := range n.ports {
		if x, ok := n.extras[addr]; !ok || x.port != id {
			d.ports[id].inject(frame)
		}
	}
	return nil
}

// Claim is an address that the container on a trusted port says it has: by ARP, neighbour discovery, or in answer to AskExtra.
type Claim struct {
	Port PortID
	VNI  uint32
	MAC  MAC // zero: the port's own
	Addr netip.Addr
}

// Claims waits for claims. It ends with the context, and with Close.
func (d *Datapath) Claims(ctx context.Context) ([]Claim, error) {
	stop := context.AfterFunc(ctx, func() { d.claims.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var signals [8]byte // eventfd(2)
	if _, err := d.claims.Read(signals[:]); err != nil {
		return nil, cmp.Or(ctx.Err(), err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, errClosed
	}
	taken := dp.TakeClaims()
	if len(taken) == dp.ClaimsTaken { // there may be more
		binary.NativeEndian.PutUint64(signals[:], 1)
		d.claims.Write(signals[:])
	}
	claims := make([]Claim, 0, len(taken))
	for _, c := range taken {
		p := d.ports[PortID(c.Port)]
		if p == nil || checkAddr(c.Addr) != nil {
			continue
		}
		claim := Claim{Port: PortID(c.Port), VNI: p.config.VNI, MAC: c.MAC, Addr: c.Addr}
		if claim.MAC == p.config.MAC {
			claim.MAC = MAC{}
		}
		claims = append(claims, claim)
	}
	return claims, nil
}
