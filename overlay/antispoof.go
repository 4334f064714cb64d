package overlay

import (
	"net/netip"
	"slices"
	"time"

	"github.com/overlane/overlane/discovery"
)

// antispoofInterval is the time between two looks at which hosts the rules against forged VXLAN are to name: a host that has joined is protected
// by the others' rules that much later.
const antispoofInterval = 2 * time.Second

// runAntispoof keeps containers of this host from passing for it or for other hosts, until the overlay is closed.
func (o *Overlay) runAntispoof() {
	ticker := time.NewTicker(antispoofInterval)
	defer ticker.Stop()
	for {
		o.antispoof()
		select {
		case <-o.ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (o *Overlay) antispoof() {
	err := o.cfg.Host.Antispoof(vteps(o.cluster.Members(), o.cfg.Static))
	text := ""
	if err != nil {
		text = err.Error()
	}
	if before := o.spoofable.Swap(&text); err != nil && (before == nil || *before != text) {
		o.log.WithError(err).Warn("containers of this host can send forged VXLAN to other hosts: the rule against it is not in force")
	}
}

// vteps are those of all hosts, this one included, and those that speak no gossip, each once and in order.
func vteps(members []discovery.Member, static []discovery.Static) (all []netip.AddrPort) {
	for _, m := range members {
		if m.State != discovery.StateLeft {
			all = append(all, m.VTEP)
		}
	}
	for _, s := range static {
		all = append(all, s.VTEP)
	}
	slices.SortFunc(all, netip.AddrPort.Compare)
	return slices.Compact(all)
}

func (o *Overlay) whySpoofable() string {
	if text := o.spoofable.Load(); text != nil {
		return *text
	}
	return "the rule is not made yet"
}
