package overlay

import "time"

// restore takes back what the store holds. A network or endpoint that fails must not stop the others: it is tried again.
func (o *Overlay) restore() error {
	networks, err := load[Network](o.store, bucketNetworks)
	if err != nil {
		return err
	}
	endpoints, err := load[Endpoint](o.store, bucketEndpoints)
	if err != nil {
		return err
	}
	for _, stored := range networks {
		n := o.newNetwork(stored)
		o.networks[n.ID] = n
		o.cfg.Table.Call(n.Key, n.called)
		o.bringUp(n)
	}
	for _, stored := range endpoints {
		ep := &endpoint{Endpoint: stored, changed: time.Now()}
		n := o.networks[ep.NetworkID]
		if n == nil {
			// The network was deleted and the daemon stopped before its last endpoint was.
			if err := o.store.delete(bucketEndpoints, ep.ID); err != nil {
				return err
			}
			continue
		}
		o.restoreEndpoint(n, ep)
	}
	for _, n := range o.networks {
		o.bringUp(n)
	}
	return nil
}

// restoreEndpoint makes an endpoint known again, whose tap is then taken back from its sandbox. Where the container went,
// or left the network, while the daemon was down, nobody else gives back what the endpoint held.
func (o *Overlay) restoreEndpoint(n *network, ep *endpoint) {
	if ep.State == StateJoined {
		attached, err := o.hasContainer(n, ep)
		if err == nil && !attached {
			n.logOf(ep).WithField("sandbox", ep.Sandbox).Warn("the container went while the daemon was down: endpoint removed")
			if err := o.collect(n, ep); err == nil {
				return
			}
			ep.State, ep.Sandbox = StateCreated, "" // until it is garbage
		}
		// What can't be found out is no reason to take a container off its network.
		if err != nil {
			n.logOf(ep).WithError(err).Warn("endpoint may be without a container")
		}
	}
	n.endpoints[ep.ID] = ep
	o.nameLocal(n, ep)
	n.extras.Add(int32(len(ep.Extras)))
}

// collect gives back what an endpoint without a container held. Its tap went with the sandbox or was moved back to the
// daemon's namespace: opening the port there and closing it removes it in both cases.
func (o *Overlay) collect(n *network, ep *endpoint) error {
	if err := o.openPort(n, ep, ""); err != nil {
		return err
	}
	if err := o.cfg.Datapath.DelPort(ep.port); err != nil {
		return err
	}
	ep.hasPort = false // the number may be another endpoint's next
	return o.store.delete(bucketEndpoints, ep.ID)
}
