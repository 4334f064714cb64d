package datapath

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/overlane/overlane/datapath/dp"
	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"go4.org/netipx"
	"golang.org/x/sys/unix"
)

// usable are the states in which a neighbour's address may be sent to (linux/neighbour.h).
const usable = netlink.NUD_PERMANENT | netlink.NUD_NOARP | netlink.NUD_REACHABLE | netlink.NUD_PROBE | netlink.NUD_STALE | netlink.NUD_DELAY

// The kernel sees none of our packets, so that it would ask no neighbour whether it is still there.
const confirmEvery = 10 * time.Second

const reconnectEvery = time.Second

// nextHops keeps the ways to VTEPs through the underlay's device in line with the kernel's routes and neighbours. Where
// the kernel would take another interface, or has not resolved the neighbour, its sockets send, and it resolves it by that.
type nextHops struct {
	netlink *netlink.Handle
	ns      netns.NsHandle // in which the routes are
	device  *device
	own     netip.Addr // VTEP: packets to another family's are not for the device
	log     logrus.FieldLogger

	stopOnce sync.Once
	done     chan struct{}
	ended    chan struct{}
}

// followNextHops begins to watch the network namespace of the calling thread.
func (d *Datapath) followNextHops(own netip.Addr) (err error) {
	n := &nextHops{device: d.device, own: own, log: d.log, done: make(chan struct{}), ended: make(chan struct{})}
	if n.netlink, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return err
	}
	if n.ns, err = netns.Get(); err != nil {
		n.netlink.Close()
		return err
	}
	changes, err := n.subscribe()
	if err != nil {
		n.close()
		return fmt.Errorf("follow routes and neighbours: %w", err)
	}
	d.device.nextHops = n
	go d.follow(n, changes)
	return nil
}

// changes are the kernel's messages. Both end when one of them fails: the kernel drops what it cannot deliver.
type changes struct {
	routes     chan netlink.RouteUpdate
	neighbours chan netlink.NeighUpdate
	done       chan struct{}
}

func (n *nextHops) subscribe() (*changes, error) {
	c := &changes{make(chan netlink.RouteUpdate, 64), make(chan netlink.NeighUpdate, 64), make(chan struct{})}
	err := errors.Join(
		netlink.RouteSubscribeWithOptions(c.routes, c.done, netlink.RouteSubscribeOptions{Namespace: &n.ns}),
		netlink.NeighSubscribeWithOptions(c.neighbours, c.done, netlink.NeighSubscribeOptions{Namespace: &n.ns}))
	if err != nil {
		c.end()
		c = &changes{done: make(chan struct{})} // nothing is heard
	}
	return c, err
}

// end has the kernel send no more, and lets go of who is about to tell something.
func (c *changes) end() {
	close(c.done)
	if c.routes == nil {
		return
	}
	go func() {
		for range c.routes {
		}
	}()
	go func() {
		for range c.neighbours {
		}
	}()
}

// debounceTime makes one look of a burst of changes.
const debounceTime = 20 * time.Millisecond

// follow looks soon where the kernel tells of a change, and now and then where it does not: a link that goes down takes
// its routes along in silence.
func (d *Datapath) follow(n *nextHops, c *changes) {
	defer close(n.ended)
	defer func() { c.end() }()
	confirm := time.NewTicker(confirmEvery)
	defer confirm.Stop()
	var reconnect <-chan time.Time
	if d.device.reconnects() {
		beat := time.NewTicker(reconnectEvery)
		defer beat.Stop()
		reconnect = beat.C
	}
	var settled <-chan time.Time // nil: nothing has changed
	rerouted := false
	for {
		alive, changed := true, true
		select {
		case <-n.done:
			return
		case <-reconnect:
			d.reconnectPeer()
			changed = false
		case <-confirm.C:
			d.confirmNeighbours()
			alive, rerouted = c.routes != nil, true
		case _, alive = <-c.routes:
			rerouted = true
		case u, ok := <-c.neighbours:
			alive, changed = ok, u.LinkIndex == n.device.Ifindex
		case <-settled:
			d.updateNextHops(rerouted)
			settled, rerouted, changed = nil, false, false
		}
		if !alive {
			c, rerouted, changed = n.subscribeAgain(c), true, true
		}
		if changed && settled == nil {
			settled = time.After(debounceTime)
		}
	}
}

func (n *nextHops) subscribeAgain(c *changes) *changes {
	c.end()
	again, err := n.subscribe()
	if err != nil {
		n.log.WithError(err).Warn("the kernel's routes and neighbours are looked at every ", confirmEvery)
	}
	return again
}

func (d *Datapath) reconnectPeer() {
	d.mu.Lock()
	defer d.mu.Unlock()
	dp.RestartDevice(d.device.id)
}

func (d *Datapath) updateNextHops(rerouted bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	n := d.device.nextHops
	macs, err := n.neighbours()
	if err != nil {
		n.log.WithError(err).Warn("cannot read the kernel's neighbours")
		return
	}
	for _, v := range d.vteps {
		if rerouted {
			v.via = n.route(v.at.Addr())
		}
		n.setNextHop(v, macs)
	}
}

// resolveNextHop finds the way to a VTEP that was just added.
func (d *Datapath) resolveNextHop(v *vtep) {
	if d.device == nil {
		return
	}
	n := d.device.nextHops
	v.via = n.route(v.at.Addr())
	macs, err := n.neighbours()
	if err != nil {
		n.log.WithError(err).Warn("cannot read the kernel's neighbours")
	}
	n.setNextHop(v, macs)
}

// setNextHop brings the pipeline in line; the zero MAC is the kernel's way.
func (n *nextHops) setNextHop(v *vtep, macs map[netip.Addr]MAC) {
	mac := macs[v.via]
	if mac == v.nextHop {
		return
	}
	var err error
	if mac == (MAC{}) {
		err = dp.DelNextHop(v.id)
	} else {
		err = dp.SetNextHop(v.id, n.device.id, mac)
	}
	if err != nil {
		n.log.WithError(err).Errorf("next hop %s to VTEP %s", mac, v.at)
		return
	}
	v.nextHop = mac
	n.log.WithFields(logrus.Fields{"vtep": v.at, "next_hop": mac, "via": v.via}).Debug("way to a VTEP")
}

// route is the address on the device to which packets go next; invalid when they leave elsewhere.
func (n *nextHops) route(to netip.Addr) netip.Addr {
	if to.Is4() != n.own.Is4() {
		return netip.Addr{}
	}
	routes, err := routesTo(n.netlink, n.own, to, netlink.RouteGetOptions{})
	if err != nil || len(routes) == 0 || routes[0].LinkIndex != n.device.Ifindex {
		return netip.Addr{}
	}
	if gateway, ok := netipx.FromStdIP(routes[0].Gw); ok {
		return gateway
	}
	return to
}

// neighbours are those on the device whose MAC is known.
func (n *nextHops) neighbours() (map[netip.Addr]MAC, error) {
	list, err := n.netlink.NeighList(n.device.Ifindex, netlink.FAMILY_ALL)
	for errors.Is(err, netlink.ErrDumpInterrupted) {
		list, err = n.netlink.NeighList(n.device.Ifindex, netlink.FAMILY_ALL)
	}
	macs := map[netip.Addr]MAC{}
	for _, neighbour := range list {
		addr, ok := netipx.FromStdIP(neighbour.IP)
		if ok && neighbour.State&usable != 0 && len(neighbour.HardwareAddr) == len(MAC{}) {
			macs[addr] = MAC(neighbour.HardwareAddr)
		}
	}
	return macs, err
}

// confirmNeighbours has the kernel ask those that it has not heard of for a while, as it would if it sent itself.
func (d *Datapath) confirmNeighbours() {
	d.mu.Lock()
	defer d.mu.Unlock()
	asked := map[netip.Addr]bool{}
	for _, v := range d.vteps {
		if v.nextHop == (MAC{}) || asked[v.via] {
			continue
		}
		asked[v.via] = true
		use := &netlink.Neigh{LinkIndex: d.device.Ifindex, IP: v.via.AsSlice(), Flags: netlink.NTF_USE}
		if err := d.device.nextHops.netlink.NeighSet(use); err != nil {
			d.log.WithError(err).Warnf("cannot confirm neighbour %s", v.via)
		}
	}
}

// stop may be called again.
func (n *nextHops) stop() {
	n.stopOnce.Do(func() {
		close(n.done)
		<-n.ended
	})
}

// close comes after stop, when nobody asks any more.
func (n *nextHops) close() {
	n.netlink.Close()
	n.ns.Close()
}
