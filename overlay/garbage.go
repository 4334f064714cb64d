package overlay

import "time"

// Between looks for endpoints whose containers are gone. What two looks in a row find is removed: Docker creates, joins and
// moves an interface within moments.
const garbageInterval = 10 * time.Second

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
		suspect := ep.suspect
		ep.suspect = err == nil && !lives
		if !suspect || !ep.suspect {
			continue
		}
		n.logOf(ep).WithField("addrs", ep.Addrs).Warn("endpoint removed: no container has it")
		if err := o.remove(n, ep); err != nil {
			n.logOf(ep).WithError(err).Error("endpoint not removed")
		}
	}
}
