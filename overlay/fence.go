package overlay

import (
	"fmt"
	"net/netip"
	"time"
)

// fence has the endpoints withdrawn whose addresses other hosts took over while this one was away, and those announced again whose
// addresses came back. The others drop what a container sends that has no announced address: two with one address never both
// reach a third.
func (o *Overlay) fence(taken map[netip.Addr]string) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	for _, n := range o.networks {
		n.mu.Lock()
		for _, ep := range n.endpoints {
			by := ""
			for _, addr := range ep.Addrs {
				if host, lost := taken[addr]; lost {
					by = host
				}
			}
			if by != ep.takenBy {
				ep.takenBy = by
				ep.retry.next = time.Time{}
			}
		}
		n.mu.Unlock()
	}
	o.noteFailure()
}

// fenced withdraws an endpoint, and says why.
func (o *Overlay) fenced(n *network, ep *endpoint) error {
	if ep.announced {
		o.cluster.Delete(n.Key, ep.MAC)
		ep.announced = false
	}
	return fmt.Errorf("addresses %v: host %s took one over while this host was away: remove the container here, or the one that has the address there", ep.Addrs, ep.takenBy)
}
