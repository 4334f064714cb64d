package overlay

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/overlane/overlane/overlay/ipam"
)

// inUseCache is the last answer of inUse: the allocator asks again and again, and to list a thousand endpoints each time was a
// quarter of an idle daemon's CPU time.
type inUseCache struct {
	changes atomic.Uint64 // of the sets of networks and endpoints, each counted behind it

	mu      sync.Mutex
	counted uint64 // changes before the answer
	answer  ipam.InUse
}

// inUse lists the subnets of this host's networks, and the addresses of its endpoints. Nobody writes to the answer.
func (o *Overlay) inUse() ipam.InUse {
	c := &o.inUseCache
	c.mu.Lock()
	defer c.mu.Unlock()
	if counted := c.changes.Load(); c.answer == nil || counted != c.counted {
		c.answer, c.counted = o.listInUse(), counted
	}
	return c.answer
}

func (o *Overlay) listInUse() ipam.InUse {
	all := ipam.InUse{}
	o.mu.RLock()
	defer o.mu.RUnlock()
	for _, n := range o.networks {
		n.mu.Lock()
		for _, pool := range n.Pools {
			if all[pool] == nil {
				all[pool] = map[netip.Addr]bool{}
			}
		}
		for _, ep := range n.endpoints {
			if ep.removed {
				continue
			}
			for _, addr := range ep.Addrs {
				for _, pool := range n.Pools {
					if pool.Contains(addr) {
						all[pool][addr] = true
					}
				}
			}
		}
		n.mu.Unlock()
	}
	return all
}
