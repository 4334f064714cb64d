package overlay

import (
	"net/netip"
	"sync"
)

// LocalSpace is overlane's address space for networks of one host (libnetwork's docs/ipam.md).
const LocalSpace = "overlane-local"

// dockerSpace is that of Docker's own address management, which gives no subnet to two networks that it knows.
const dockerSpace = "LocalDefault"

// engine notes what Docker's engine has spoken of since it started. It asks anew for the pool of each network with overlane's addresses
// that it knows (IpamDriver's RequiresRequestReplay). What it asked for counts though it failed or was given back: then the engine may
// know the network all the same.
type engine struct {
	mu      sync.Mutex
	started bool            // since this daemon has
	named   map[string]bool // networks, by ID
	asked   map[netip.Prefix]int
}

// EngineStarted takes note that Docker's engine has started: it says again what it knows.
func (o *Overlay) EngineStarted() {
	o.engine.mu.Lock()
	defer o.engine.mu.Unlock()
	o.engine.started = true
	clear(o.engine.named)
	clear(o.engine.asked)
}

func (e *engine) names(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.named[id] = true
}

func (e *engine) removes(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.named, id)
}

func (e *engine) asks(subnet netip.Prefix) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked[subnet]++
}

// forgot says that the engine certainly does not know a network any more, since it creates another one with some of its subnets.
func (e *engine) forgot(old, created *Network) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.started || e.named[old.ID] || old.Space != created.Space {
		return false
	}
	for _, pool := range old.Pools {
		times := 0
		for subnet, n := range e.asked {
			if subnet.Overlaps(pool) {
				times += n
			}
		}
		if times > 1 { // once is for the network that it creates
			return false
		}
	}
	return old.Space == dockerSpace || old.Space == LocalSpace
}
