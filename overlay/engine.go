package overlay

import (
	"net/netip"
	"sync"
)

// engine notes which pools Docker's engine has asked for since it started. It asks anew for that of each network that it knows
// (IpamDriver's RequiresRequestReplay), and for that of a network that it creates, so it knows no network whose pool is not asked for
// once more than by the one that comes.
type engine struct {
	mu    sync.Mutex
	asked map[string]*askedPool // by pool ID
}

type askedPool struct {
	subnet netip.Prefix
	times  int
}

// EngineStarted takes note that Docker's engine has started: it says again what it knows.
func (o *Overlay) EngineStarted() {
	o.engine.mu.Lock()
	defer o.engine.mu.Unlock()
	clear(o.engine.asked)
}

func (e *engine) asks(id string, subnet netip.Prefix) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.asked[id] == nil {
		e.asked[id] = &askedPool{subnet: subnet}
	}
	e.asked[id].times++
}

func (e *engine) releases(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p := e.asked[id]; p != nil && p.times > 0 {
		p.times--
	}
}

// knowsAnother says whether the engine has asked for one of the pools for another network than the one that it creates.
func (e *engine) knowsAnother(pools []netip.Prefix) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range e.asked {
		for _, pool := range pools {
			if p.subnet == pool && p.times > 1 {
				return true
			}
		}
	}
	return false
}
