package overlay

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"
)

const (
	garbageInterval = 10 * time.Second      // between looks for endpoints whose containers are gone
	garbagePace     = 25 * time.Millisecond // for each endpoint, at least: before Linux 5.2 a look for one takes about 0.1 ms of CPU time, so 0.4 % of a core
	garbageAfter    = 30 * time.Second      // one is removed that was found so for so long: a loaded engine takes its time between Join and the interface's move
)

// runGarbage removes endpoints whose containers are gone, until the overlay is closed: their removal did not get here, as
// when Docker was killed. Networks whose removal failed go likewise.
func (o *Overlay) runGarbage() {
	o.runPaced(garbageInterval, garbagePace, func() (looked int) {
		o.removeLeft()
		return o.removeGarbage()
	})
}

// removeLeft tries again to remove networks that Docker has removed. Without any it does not wait for calls under way.
func (o *Overlay) removeLeft() {
	o.mu.RLock()
	left := slices.ContainsFunc(slices.Collect(maps.Values(o.networks)), func(n *network) bool { return n.removal != nil })
	o.mu.RUnlock()
	if left {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.removeAgain()
	}
}

// runPaced looks at this host's endpoints until the overlay is closed: once an interval, or less often where there are so many that a look at each
// at this pace takes longer.
func (o *Overlay) runPaced(interval, pace time.Duration, look func() (looked int)) {
	next := time.NewTimer(interval)
	defer next.Stop()
	for {
		select {
		case <-o.ctx.Done():
			return
		case <-next.C:
			next.Reset(max(interval, time.Duration(look())*pace))
		}
	}
}

// removeGarbage says how many endpoints it has looked at.
func (o *Overlay) removeGarbage() (looked int) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	for _, n := range o.networks {
		looked += n.removeGarbage(o)
	}
	return looked
}

func (n *network) removeGarbage(o *Overlay) (looked int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	looked = len(n.endpoints)
	for _, ep := range n.endpoints {
		attached, err := o.hasContainer(n, ep)
		if err != nil || attached {
			ep.orphanedSince = time.Time{}
			continue
		}
		if ep.orphanedSince.IsZero() {
			ep.orphanedSince = time.Now()
		}
		if time.Since(ep.orphanedSince) < garbageAfter {
			continue
		}
		n.logOf(ep).WithField("addrs", ep.Addrs).Warn("endpoint removed: no container has it")
		if err := o.remove(n, ep); err != nil {
			n.logOf(ep).WithError(err).Error("endpoint not removed")
		}
	}
	return looked
}

// evictStale removes the endpoints of this host that hold one of the addresses but are in no container. Docker's address
// management gives no address away twice on one host, so their removal did not get here.
func (o *Overlay) evictStale(n *network, addrs []netip.Addr) error {
	for _, ep := range n.endpoints {
		if !slices.ContainsFunc(addrs, func(addr netip.Addr) bool { return slices.Contains(ep.Addrs, addr) }) {
			continue
		}
		attached, err := o.hasContainer(n, ep)
		if err != nil {
			return err
		}
		if ep.Host != nil {
			return fmt.Errorf("addresses %v in network %s: this host itself has %v, by `overlane attach`: choose another address", addrs, n.Key, ep.Addrs)
		}
		if attached {
			return fmt.Errorf("addresses %v in network %s: endpoint %s on this host has %v: remove its container, or choose another address with --ip", addrs, n.Key, short(ep.ID), ep.Addrs)
		}
		n.logOf(ep).WithField("addrs", ep.Addrs).Warn("endpoint removed: Docker gave its address away")
		if err := o.remove(n, ep); err != nil {
			return err
		}
	}
	return nil
}

// hasContainer says whether a container has the endpoint's tap, or the host itself. With an error it may have it: then the endpoint stays.
func (o *Overlay) hasContainer(n *network, ep *endpoint) (bool, error) {
	if ep.Host != nil {
		return true, nil // an operator takes it away
	}
	if ep.State != StateJoined {
		return false, nil
	}
	return o.cfg.InContainer(n.portConfig(ep, ep.Sandbox))
}
