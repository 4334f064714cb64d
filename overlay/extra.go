package overlay

import (
	"net/netip"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/discovery"
)

// Extra addresses.
//
// A container that is trusted claims addresses beside its own, by ARP and neighbour discovery. The datapath tells of each claim; what is
// nobody's own becomes an extra address of the endpoint: in this host's tables, in the store, and in the record, by which all hosts know
// it. It stays until another container claims it, here or elsewhere, or this one no longer answers for it. Who claims last has it: its
// sequence number is above those that are known. What is an endpoint's own is never an extra address of another, and ceases to be one.

const (
	extraInterval   = 10 // turns between two questions whether a container still has an extra address
	extraTurn       = time.Second
	extraUnanswered = 3 // questions, and it has not

	// What an endpoint may change at once, and from then on: each change is written to disk, and told to all hosts and containers.
	extraBurst = 2 * discovery.MaxExtras
	extraPace  = 3 * time.Second
)

// runClaims takes what containers claim, until the overlay is closed.
func (o *Overlay) runClaims() {
	for {
		claims, err := o.cfg.Datapath.Claims(o.ctx)
		if err != nil {
			if o.ctx.Err() == nil {
				o.log.WithError(err).Error("extra addresses are no longer learned: restart overlane")
			}
			return
		}
		for _, c := range claims {
			o.claim(c)
		}
	}
}

func (o *Overlay) claim(c datapath.Claim) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	for _, n := range o.networks {
		if n.VNI != c.VNI {
			continue
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, ep := range n.endpoints {
			if ep.hasPort && ep.port == c.Port {
				o.takeExtra(n, ep, discovery.Extra{MAC: discovery.MAC(c.MAC), Addr: c.Addr})
				return
			}
		}
	}
}

// takeExtra makes an address that a container claims one of its endpoint's, unless it is another's own.
func (o *Overlay) takeExtra(n *network, ep *endpoint, x discovery.Extra) {
	if has := ep.extra(x.Addr); has != nil && has.MAC == x.MAC {
		delete(ep.unanswered, x.Addr)
		return
	}
	// The port's number may have been another endpoint's when the claim was made.
	trusted := ep.Trust == TrustMAC || ep.Trust == TrustAddress && x.MAC == discovery.MAC{}
	if ep.State != StateJoined || !trusted || n.owns(x) {
		return
	}
	standing := o.cluster.Standing(n.Key, x)
	if standing.Owned || !n.mayChange(ep, x) {
		return
	}
	x.Seq = max(standing.Seq, n.seqOf(x))
	kept := slices.DeleteFunc(slices.Clone(ep.Extras), func(e discovery.Extra) bool { return e.Addr == x.Addr })
	if len(kept) == discovery.MaxExtras {
		if !ep.full {
			n.logOf(ep).WithField("address", x.Addr).Warnf("extra address not taken: the endpoint has %d, which is all that one can have", discovery.MaxExtras)
		}
		ep.full = true
		return
	}
	n.dropExtras(o, func(e discovery.Extra, of *endpoint) bool { return of != ep && e.Contends(x) })
	if err := o.cfg.Datapath.SetExtra(ep.port, datapath.MAC(x.MAC), x.Addr, false); err != nil {
		n.logOf(ep).WithError(err).Error("extra address not taken")
		return
	}
	n.logOf(ep).WithField("address", x.Addr).Info("the container claims an extra address")
	o.setExtras(n, ep, append(kept, x))
}

// mayChange says whether an endpoint may have another extra address or one at another MAC address already, as it has not had too many of late.
func (n *network) mayChange(ep *endpoint, x discovery.Extra) bool {
	if ep.changes == nil {
		ep.changes = rate.NewLimiter(rate.Every(extraPace), extraBurst)
	}
	if ep.changes.Allow() {
		return true
	}
	if time.Since(ep.hasty) > time.Minute {
		ep.hasty = time.Now()
		n.logOf(ep).WithField("address", x.Addr).Warnf("extra address not taken: the container's change all the time; one in %s is taken", extraPace)
	}
	return false
}

// owns says whether an endpoint of this host has the address or the MAC address for its own.
func (n *network) owns(x discovery.Extra) bool {
	for _, ep := range n.endpoints {
		if ep.MAC == x.MAC || slices.Contains(ep.Addrs, x.Addr) || slices.Contains(ep.LinkLocal, x.Addr) {
			return true
		}
	}
	return false
}

// seqOf is above the sequence numbers of this host's endpoints that contend for an extra address.
func (n *network) seqOf(x discovery.Extra) (seq uint32) {
	for _, ep := range n.endpoints {
		for _, e := range ep.Extras {
			if e.Contends(x) {
				seq = max(seq, e.Seq+1)
			}
		}
	}
	return seq
}

func (ep *endpoint) extra(addr netip.Addr) *discovery.Extra {
	for i := range ep.Extras {
		if ep.Extras[i].Addr == addr {
			return &ep.Extras[i]
		}
	}
	return nil
}

// setExtras keeps an endpoint's extra addresses, and announces them. What is not on disk is known to all the same, and claimed again
// after a restart.
func (o *Overlay) setExtras(n *network, ep *endpoint, extras []discovery.Extra) {
	n.extras.Add(int32(len(extras) - len(ep.Extras)))
	ep.Extras = extras
	if err := o.store.put(bucketEndpoints, ep.ID, ep.Endpoint); err != nil {
		n.logOf(ep).WithError(err).Error("extra addresses not stored")
	}
	if ep.announced {
		o.cluster.Put(n.Key, ep.record())
	}
}

// dropExtras takes from this host's endpoints the extra addresses that are chosen.
func (n *network) dropExtras(o *Overlay, chosen func(discovery.Extra, *endpoint) bool) {
	if n.extras.Load() == 0 {
		return
	}
	for _, ep := range n.endpoints {
		var kept []discovery.Extra
		for _, x := range ep.Extras {
			if !chosen(x, ep) {
				kept = append(kept, x)
				continue
			}
			delete(ep.unanswered, x.Addr)
			n.logOf(ep).WithField("address", x.Addr).Info("extra address given up")
			if err := o.cfg.Datapath.DelExtra(ep.port, x.Addr); err != nil {
				n.logOf(ep).WithError(err).Error("extra address stays in the tables")
			}
		}
		if len(kept) < len(ep.Extras) {
			ep.full = false
			o.setExtras(n, ep, kept)
		}
	}
}

// giveWay takes from other endpoints what becomes an endpoint's own.
func (n *network) giveWay(o *Overlay, ep *endpoint) {
	n.dropExtras(o, func(x discovery.Extra, _ *endpoint) bool {
		return x.MAC == ep.MAC || slices.Contains(ep.Addrs, x.Addr) || slices.Contains(ep.LinkLocal, x.Addr)
	})
}

// yield gives up what another host has with more right, by a change that it announced.
func (o *Overlay) yield(n *network, c discovery.Change) {
	if c.Gone || c.Kind == discovery.KindVTEP || n.extras.Load() == 0 {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dropExtras(o, func(x discovery.Extra, _ *endpoint) bool {
		about := c.Kind == discovery.KindAddr && x.Addr == c.Addr || c.Kind == discovery.KindMAC && x.MAC == c.MAC
		return about && o.cluster.Standing(n.Key, x).Outranked
	})
}

// clearExtras takes all from an endpoint whose container left it.
func (o *Overlay) clearExtras(n *network, ep *endpoint) {
	for _, addr := range ep.extraAddrs() {
		if ep.hasPort {
			if err := o.cfg.Datapath.DelExtra(ep.port, addr); err != nil {
				n.logOf(ep).WithError(err).Error("extra address stays in the tables")
			}
		}
	}
	n.extras.Add(int32(-len(ep.Extras)))
	ep.Extras, ep.LinkLocal, ep.unanswered, ep.full = nil, nil, nil, false
}

func (ep *endpoint) extraAddrs() []netip.Addr {
	addrs := slices.Clone(ep.LinkLocal)
	for _, x := range ep.Extras {
		addrs = append(addrs, x.Addr)
	}
	return addrs
}

// restoreExtras gives a port that was opened anew what the endpoint had.
func (o *Overlay) restoreExtras(n *network, ep *endpoint) {
	give := func(mac discovery.MAC, addr netip.Addr, own bool) {
		if err := o.cfg.Datapath.SetExtra(ep.port, datapath.MAC(mac), addr, own); err != nil {
			n.logOf(ep).WithError(err).Error("extra address does not work until it is claimed again")
		}
	}
	for _, addr := range ep.LinkLocal {
		give(discovery.MAC{}, addr, true)
	}
	for _, x := range ep.Extras {
		give(x.MAC, x.Addr, false)
	}
}

// runExtras asks containers whether they still have their extra addresses, until the overlay is closed.
func (o *Overlay) runExtras() {
	ticker := time.NewTicker(extraTurn)
	defer ticker.Stop()
	for turn := 0; ; turn++ {
		select {
		case <-o.ctx.Done():
			return
		case <-ticker.C:
		}
		pace := extraInterval * extraTurn // wakes are what an idle host pays for
		if o.askExtras(turn % extraInterval) {
			pace = extraTurn
		}
		ticker.Reset(pace)
	}
}

// askExtras gives up what was asked for in vain, and asks for the others, of those addresses whose turn it is: the answers to all at once
// would not find room. It says whether there are any.
func (o *Overlay) askExtras(turn int) (some bool) {
	due := func(x discovery.Extra) bool { return int(x.Addr.As16()[15])%extraInterval == turn }
	o.mu.RLock()
	defer o.mu.RUnlock()
	for _, n := range o.networks {
		if n.extras.Load() == 0 {
			continue
		}
		some = true
		n.mu.Lock()
		n.dropExtras(o, func(x discovery.Extra, ep *endpoint) bool { return due(x) && ep.unanswered[x.Addr] >= extraUnanswered })
		for _, ep := range n.endpoints {
			for _, x := range ep.Extras {
				if due(x) {
					n.ask(o, ep, x.Addr)
				}
			}
		}
		n.mu.Unlock()
	}
	return some
}

func (n *network) ask(o *Overlay, ep *endpoint, addr netip.Addr) {
	if !ep.hasPort || ep.Native != nil { // the program of a native port can't be asked
		return
	}
	if ep.unanswered == nil {
		ep.unanswered = map[netip.Addr]int{}
	}
	ep.unanswered[addr]++
	if err := o.cfg.Datapath.AskExtra(ep.port, addr); err != nil {
		n.logOf(ep).WithError(err).WithField("address", addr).Error("can't ask for an extra address")
	}
}
