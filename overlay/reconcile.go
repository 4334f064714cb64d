package overlay

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// The reconciler.
//
// Desired is what Docker asked for (networks and endpoints, as they are stored) and what discovery sees of other hosts (VTEPs,
// MAC addresses, addresses). Actual is what the datapath has been told, and what the cluster has been told of this host. Of networks
// and endpoints this package notes both; of other hosts' records the two agree but for those in remotes.pending, since discovery
// keeps the one and the datapath the other. A change is applied where it arises. What fails stays noted with its reason, and is
// tried again from the desired state of that time, until it is applied or no longer desired: an older wish is never applied
// after a newer one. Each network, endpoint and record has a try and a back-off of its own, so that none waits for
// another. The order is that of need: a network comes before its endpoints, an endpoint's port before its record, so that
// nothing is announced that does not work here. What is not applied is in Status.

// runReconciler tries again what failed, until the overlay is closed. With nothing to be tried it sleeps.
func (o *Overlay) runReconciler() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-o.ctx.Done():
			return
		case <-o.failure:
		case <-timer.C:
		}
		if next := o.reconcile(); next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(max(time.Until(next), retryPace))
		}
	}
}

// noteFailure has the reconciler look when the next try is due.
func (o *Overlay) noteFailure() {
	select {
	case o.failure <- struct{}{}:
	default:
	}
}

// reconcile tries what is due, and says when the next try is; zero: there is nothing to be tried.
func (o *Overlay) reconcile() (next time.Time) {
	o.mu.RLock()
	ids := slices.Collect(maps.Keys(o.networks))
	o.mu.RUnlock()
	for _, id := range ids {
		n, unlock, err := o.lock(id)
		if err != nil {
			continue // deleted meanwhile
		}
		next = earlier(next, earlier(o.bringUp(n), n.remotes.applyDue(o.cfg.Datapath)))
		unlock()
	}
	return next
}

// bringUp tries what is due of a network that is locked and of its endpoints, and says when the next try is.
func (o *Overlay) bringUp(n *network) (next time.Time) {
	n.retry.try(n.log, "network", func() error { return o.bringUpNetwork(n) })
	next = n.retry.next
	for _, ep := range n.endpoints {
		ep.retry.try(n.logOf(ep), "endpoint", func() error { return o.bringUpEndpoint(n, ep) })
		next = earlier(next, ep.retry.next)
	}
	return next
}

// bringUpNetwork takes part in a network: in the datapath, and then among the others.
func (o *Overlay) bringUpNetwork(n *network) error {
	if !n.inDatapath {
		if err := o.cfg.Datapath.AddNetwork(n.VNI, n.Encrypted); err != nil {
			return err
		}
		n.inDatapath = true
	}
	if o.cluster == nil || n.participating {
		return nil
	}
	if n.Encrypted && o.cfg.Insecure {
		return fmt.Errorf("the network is encrypted: its containers reach this host alone: %w", errOpenCluster)
	}
	if err := o.cluster.Subscribe(n.identity()); err != nil {
		return fmt.Errorf("the cluster refuses the network: its containers reach this host alone: %w", err)
	}
	n.participating = true
	return nil
}

// bringUpEndpoint opens an endpoint's port, and announces the endpoint when that works. Until its network is up there is
// nothing to be done for it.
func (o *Overlay) bringUpEndpoint(n *network, ep *endpoint) error {
	if !n.inDatapath {
		return nil
	}
	if !ep.hasPort {
		if err := o.openPort(n, ep, ep.Sandbox); err != nil {
			return err
		}
	}
	if ep.Host != nil && !ep.setUp {
		if err := o.setUpInterface(ep); err != nil {
			return err
		}
	}
	if ep.takenBy != "" {
		return o.fenced(n, ep)
	}
	if ep.State == StateJoined && n.participating && !ep.announced {
		o.cluster.Put(n.Key, ep.record())
		ep.announced = true
	}
	return nil
}

// withdraw takes an endpoint from its sandbox, and back what was announced of it.
func (o *Overlay) withdraw(n *network, ep *endpoint) {
	if ep.Sandbox != "" {
		o.cfg.Names.Release(ep.Sandbox, n.Key)
	}
	ep.was = ep.container()
	ep.State, ep.Sandbox, ep.Names, ep.announced = StateCreated, "", "", false
	ep.seen, ep.iface = InterfaceStatus{}, InterfaceStatus{}
	o.nameLocal(n, ep)
	o.clearExtras(n, ep)
	o.cluster.Delete(n.Key, ep.MAC)
}

// PendingStatus is a state that could not be applied.
type PendingStatus struct {
	What    string    `json:"what"`    // network, endpoint ID, VTEP ADDRESS, MAC ADDRESS, or address ADDRESS
	Network string    `json:"network"` // key
	Reason  string    `json:"reason"`
	Tries   int       `json:"tries"`
	Next    time.Time `json:"next_try"`
}

// pending lists what a network that is locked lacks.
func (n *network) pending() []PendingStatus {
	var all []PendingStatus
	note := func(what string, r *retry) {
		if r.err != nil {
			all = append(all, PendingStatus{what, n.Key, r.err.Error(), r.failures, r.next})
		}
	}
	note("network", &n.retry)
	for _, id := range slices.Sorted(maps.Keys(n.endpoints)) {
		note("endpoint "+short(id), &n.endpoints[id].retry)
	}
	for _, r := range n.remotes.list() {
		note(r.what(), &r.retry)
	}
	return all
}
