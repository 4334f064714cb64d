package overlay

import "time"

const (
	garbageInterval = 5 * time.Second  // between looks for endpoints whose containers are gone
	garbageAfter    = 30 * time.Second // one is removed that was found so for so long: a loaded engine takes its time between Join and the interface's move
)

// runGarbage removes endpoints whose containers are gone, until the overlay is closed: their removal did not get here, as
// when Docker was killed.
func (o *Overlay) runGarbage() {
	beat := time.NewTicker(garbageInterval)
	defer beat.Stop()
	for {
		select {
		case <-o.ctx.Done():
			return
		case <-beat.C:
			o.removeGarbage()
		}
	}
}

func (o *Overlay) removeGarbage() {
	o.mu.RLock()
	defer o.mu.RUnlock()
	for _, n := range o.networks {
		n.removeGarbage(o)
	}
}

func (n *network) removeGarbage(o *Overlay) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, ep := range n.endpoints {
		lives, err := o.lives(ep)
		if err != nil || lives {
			ep.missing = time.Time{}
			continue
		}
		if ep.missing.IsZero() {
			ep.missing = time.Now()
		}
		if time.Since(ep.missing) < garbageAfter {
			continue
		}
		n.logOf(ep).WithField("addrs", ep.Addrs).Warn("endpoint removed: no container has it")
		if err := o.remove(n, ep); err != nil {
			n.logOf(ep).WithError(err).Error("endpoint not removed")
		}
	}
}
