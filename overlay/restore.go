package overlay

import (
	"errors"

	"golang.org/x/sys/unix"
)

// restore takes back what the store holds. A network or endpoint that fails is logged and must not stop the others.
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
		if err := o.cfg.Datapath.AddNetwork(n.VNI); err != nil {
			n.log.WithError(err).Error("network not restored")
		}
	}
	for _, stored := range endpoints {
		ep := &endpoint{Endpoint: stored}
		n := o.networks[ep.NetworkID]
		if n == nil {
			// The network was deleted and the daemon stopped before its last endpoint was.
			if err := o.store.delete(bucketEndpoints, ep.ID); err != nil {
				return err
			}
			continue
		}
		if err := o.restoreEndpoint(n, ep); err != nil {
			n.logOf(ep).WithError(err).Error("endpoint not restored")
		}
	}
	return nil
}

// restoreEndpoint takes an endpoint's tap back from its sandbox.
func (o *Overlay) restoreEndpoint(n *network, ep *endpoint) error {
	if ep.State == StateJoined && !isNetns(ep.Sandbox) {
		n.logOf(ep).WithField("sandbox", ep.Sandbox).Warn("the container went while the daemon was down: endpoint removed")
		return o.collect(n, ep)
	}
	n.endpoints[ep.ID] = ep
	err := o.openPort(n, ep, ep.Sandbox)
	if err == nil || ep.State == StateCreated {
		return err
	}
	// Docker moves a tap back to where it came from when the container leaves the network.
	if errOwn := o.openPort(n, ep, ""); errOwn != nil {
		return errors.Join(err, errOwn)
	}
	n.logOf(ep).WithError(err).Warn("the container left the network while the daemon was down")
	ep.State, ep.Sandbox = StateCreated, ""
	return o.store.put(bucketEndpoints, ep.ID, ep.Endpoint)
}

// collect gives back what an endpoint without a container held. Its tap went with the sandbox or was moved back to the
// daemon's namespace: opening the port there and closing it removes it in both cases.
func (o *Overlay) collect(n *network, ep *endpoint) error {
	if err := o.openPort(n, ep, ""); err != nil {
		return err
	}
	n.local.remove(ep)
	if err := o.cfg.Datapath.DelPort(ep.port); err != nil {
		return err
	}
	return o.store.delete(bucketEndpoints, ep.ID)
}

// isNetns says whether a path is a network namespace still: Docker leaves the file there for a while after it took the
// namespace's mount away.
func isNetns(path string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(path, &fs) == nil && fs.Type == unix.NSFS_MAGIC
}
