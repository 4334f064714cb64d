package overlay

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/discovery"
)

// `docker run --link-local-ip`: Docker tells a driver nothing of it, and sets the address on the interface after Join, before the
// container's process starts. So it is read there, once, as soon as the interface is up: what the container adds later does not count.

const (
	settleWait    = 10 * time.Second      // for Docker to set the interface up, after Join
	settlePace    = 10 * time.Millisecond // between two looks, at first
	settlePaceMax = 50 * time.Millisecond // about what passes between then and the start of the process; a look takes 0.3 ms
)

// settle waits until Docker has set up an endpoint that was joined. Then its container's queries are answered, and its link-local IPv4
// addresses are its own.
func (o *Overlay) settle(networkID string, joined Endpoint, port datapath.PortConfig) {
	addrs, up := o.awaitInterface(port)
	if !up {
		return
	}
	o.withEndpoint(networkID, joined.ID, func(n *network, ep *endpoint) error {
		if ep.Sandbox != joined.Sandbox || !ep.hasPort {
			return nil
		}
		o.serveNames(n, ep)
		for _, addr := range addrs {
			if slices.Contains(ep.LinkLocal, addr) {
				continue // Docker joins anew
			}
			if err := o.giveLinkLocal(n, ep, addr); err != nil {
				n.logOf(ep).WithError(err).Error("--link-local-ip does not work in this container: remove it, and choose another address")
			}
		}
		return nil
	})
}

// awaitInterface gives the interface's link-local IPv4 addresses when it is up.
func (o *Overlay) awaitInterface(port datapath.PortConfig) (linkLocal []netip.Addr, up bool) {
	for pace, end := settlePace, time.Now().Add(settleWait); time.Now().Before(end); pace = min(2*pace, settlePaceMax) {
		select {
		case <-o.ctx.Done():
			return nil, false
		case <-time.After(pace):
		}
		tap, err := o.cfg.Datapath.Tap(port)
		if err == nil && tap.Up {
			return slices.DeleteFunc(tap.Addrs, func(a netip.Addr) bool { return !a.Is4() || !a.IsLinkLocalUnicast() || slices.Contains(port.Addrs, a) }), true
		}
	}
	return nil, false
}

func (o *Overlay) giveLinkLocal(n *network, ep *endpoint, addr netip.Addr) error {
	if n.owns(discovery.Extra{Addr: addr}) {
		return fmt.Errorf("address %s: another container of this host has it", addr)
	}
	for _, r := range o.cluster.Claims(n.Key, discovery.MAC{}, []netip.Addr{addr}) {
		if !r.Hidden {
			return fmt.Errorf("address %s: %s", addr, o.claimant(r))
		}
	}
	if len(ep.Addrs)+len(ep.LinkLocal) >= discovery.MaxAddrs {
		return fmt.Errorf("address %s: the container has %d addresses, which is all that one can have", addr, discovery.MaxAddrs)
	}
	given := ep.Endpoint
	given.LinkLocal = append(slices.Clone(given.LinkLocal), addr)
	if err := o.store.put(bucketEndpoints, ep.ID, given); err != nil {
		return err
	}
	ep.Endpoint = given
	n.giveWay(o, ep)
	if err := o.cfg.Datapath.SetExtra(ep.port, datapath.MAC{}, addr, true); err != nil {
		return err
	}
	n.logOf(ep).WithField("address", addr).Info("the container has a link-local address")
	if ep.announced {
		o.cluster.Put(n.Key, ep.record())
	}
	return nil
}
