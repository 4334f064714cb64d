package overlay

import (
	"maps"
	"net/netip"
	"time"

	"github.com/overlane/overlane/discovery"
)

const (
	// mtuInterval is how soon the datapath hears of what another host has told.
	mtuInterval = time.Second
	// deviceTurns is how many of those go by between two looks at this host's device: each leaves 256 KiB of buffers to the collector.
	deviceTurns = 10
)

// runMTU tells the others how long a packet this host receives, and the datapath how long those are that the others do and whether they
// take super-frames, until the overlay is closed. A switch drops in silence what is longer.
func (o *Overlay) runMTU() {
	ticker := time.NewTicker(mtuInterval)
	defer ticker.Stop()
	var announced int
	var heard map[netip.AddrPort]int
	for turn := 0; ; turn++ {
		if turn%deviceTurns == 0 || announced == 0 {
			announced = o.announceMTU(announced)
		}
		members := o.cluster.Members()
		if mtus := receiveMTUs(members); !maps.Equal(mtus, heard) {
			o.cfg.Datapath.SetReceiveMTUs(mtus)
			heard = mtus
		}
		o.cfg.Datapath.SetTakeWhole(takeWhole(members))
		select {
		case <-o.ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// announceMTU tells how long a packet this host receives now, where that has changed.
func (o *Overlay) announceMTU(announced int) int {
	mtu, err := o.cfg.ReceiveMTU(o.peers())
	if err != nil {
		mtu = 0
		o.log.WithError(err).Debug("the MTU of the VTEP's device is not known")
	}
	if mtu != announced {
		o.cluster.SetMTU(mtu)
	}
	return mtu
}

// receiveMTUs are those that the other hosts have announced.
func receiveMTUs(members []discovery.Member) map[netip.AddrPort]int {
	mtus := map[netip.AddrPort]int{}
	for vtep, m := range memberAt(members) {
		if m.MTU > 0 {
			mtus[vtep] = m.MTU
		}
	}
	return mtus
}

// takeWhole says of the other hosts whether they take super-frames in one piece: older versions don't.
func takeWhole(members []discovery.Member) map[netip.AddrPort]bool {
	takes := map[netip.AddrPort]bool{}
	for vtep, m := range memberAt(members) {
		takes[vtep] = m.Whole
	}
	return takes
}

// memberAt is the other host at each VTEP. One that was set up anew has older nodes at its VTEP: who is up counts, and who was started last.
func memberAt(members []discovery.Member) map[netip.AddrPort]discovery.Member {
	isUp := func(m discovery.Member) bool { return m.State != discovery.StateDead && m.State != discovery.StateLeft }
	at := map[netip.AddrPort]discovery.Member{}
	for _, m := range members {
		before, found := at[m.VTEP]
		if !m.Self && (!found || isUp(m) && !isUp(before) || isUp(m) == isUp(before) && m.Incarnation > before.Incarnation) {
			at[m.VTEP] = m
		}
	}
	return at
}
