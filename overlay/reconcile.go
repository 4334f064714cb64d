package overlay

import (
	"fmt"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/discovery"
)

// Observe applies discovery's changes to the datapath, in order. A network that this host has left by then is passed
// over. An entry that the datapath refuses is logged: discovery has no use for the error, and the others still count.
func (o *Overlay) Observe(changes []discovery.Change) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	byKey := make(map[string]*network, len(o.networks))
	for _, n := range o.networks {
		byKey[n.Key] = n
	}
	for _, c := range changes {
		n := byKey[c.Network.Key]
		if n == nil {
			continue
		}
		if err := n.apply(o.cfg.Datapath, c); err != nil {
			n.log.WithError(err).WithField("change", c).Error("could not apply what another host announced")
		}
	}
}

func (n *network) apply(dp Datapath, c discovery.Change) error {
	switch {
	case c.Kind == discovery.KindVTEP:
		return n.applyVTEP(dp, c)
	case c.Kind == discovery.KindMAC && c.Gone:
		return dp.DelMAC(n.VNI, datapath.MAC(c.MAC))
	case c.Kind == discovery.KindMAC:
		return dp.SetMAC(n.VNI, datapath.MAC(c.MAC), c.VTEP)
	case c.Kind == discovery.KindAddr && c.Gone:
		return dp.DelNeighbour(n.VNI, c.Addr)
	case c.Kind == discovery.KindAddr:
		return dp.SetNeighbour(n.VNI, c.Addr, datapath.MAC(c.MAC))
	}
	return fmt.Errorf("change of unknown kind %s", c.Kind)
}

func (n *network) applyVTEP(dp Datapath, c discovery.Change) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c.Gone {
		delete(n.vteps, c.VTEP)
		return dp.DelVTEP(n.VNI, c.VTEP)
	}
	n.vteps[c.VTEP] = true
	return dp.AddVTEP(n.VNI, c.VTEP)
}
