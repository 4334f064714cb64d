package discovery

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/sync/errgroup"
)

// A node that gets another address keeps its identity, its records and what it knows. To memberlist an address is a member's for
// as long as it is alive, so that the node leaves under the old one and is back under the new one at once: both go to each peer in
// turn, over streams from the new address. The core is told of neither: to it no member came or went.
//
// Gossip is no way to tell: of one member it passes on only the latest word, and to who knows the old address "alive" is a conflict
// that counts for nothing. Who is not told waits until probes have found the old address dead, 17 to 36 s.

const (
	moveParallel = 64               // peers that are told at a time: each that is down holds one up for dialTimeout
	moveTime     = 30 * time.Second // in which they are told: a stop of the node waits for it
)

// Move gives this node another address of the same family, at which it is bound and which it advertises for gossip and VXLAN. The
// peers go on using its records, under the new VTEP. If the address can't be bound, nothing has changed.
func (c *Cluster) Move(bind, advertise netip.Addr) error {
	if advertise.Is4() != c.address.Addr().Is4() {
		return fmt.Errorf("address %s is not of the family of %s, in which the others reach this node", advertise, c.address.Addr())
	}
	at := netip.AddrPortFrom(advertise, c.address.Port())
	vtep := netip.AddrPortFrom(advertise, c.cfg.VTEP.Port())
	peers := c.movePeers()
	if err := c.gossip.move(netip.AddrPortFrom(bind, c.address.Port()), at, vtep, peers); err != nil {
		return err
	}
	c.log.Infof("this node moved to %s, VTEP %s", at, vtep)
	return nil
}

// movePeers are those that are up, or where there are none those that were.
func (c *Cluster) movePeers() []netip.AddrPort {
	var up, down []netip.AddrPort
	for _, m := range c.Members() {
		switch {
		case m.Self || m.State == StateLeft:
		case m.State == StateDead:
			down = append(down, m.Addr)
		default:
			up = append(up, m.Addr)
		}
	}
	if len(up) == 0 {
		up = down
	}
	rand.Shuffle(len(up), func(i, j int) { up[i], up[j] = up[j], up[i] })
	return up
}

// move puts a new memberlist in the place of the one at the old address.
func (g *gossip) move(bind, address, vtep netip.AddrPort, peers []netip.AddrPort) error {
	g.listMu.Lock()
	defer g.listMu.Unlock()
	if g.down {
		return nil
	}
	transport, _, err := g.listen(g.ctx, bind, g.cluster.memberlistLogger())
	if err != nil {
		return fmt.Errorf("cannot listen for gossip on %s: %w", bind, err)
	}
	before := g.setVTEP(vtep)
	events := &listEvents{gossip: g}
	list, err := g.newList(transport, address, events)
	if err != nil {
		g.setVTEP(before)
		return err
	}
	g.cluster.do(moveEvent{address, vtep})
	g.formerly.Store(*g.address.Swap(&address), true)
	g.formerly.Delete(address)
	old := g.list.Swap(list)
	g.telling.over.Store(true)
	g.telling = events
	old.Leave(time.Millisecond) // it is told below
	g.tellMove(old, list, peers)
	g.inbox.add(strayEvent{}) // behind all whom the new list has found
	return old.Shutdown()
}

// setVTEP changes what a memberlist that is made then tells of this node. It gives what was told before.
func (g *gossip) setVTEP(vtep netip.AddrPort) (before netip.AddrPort) {
	g.metaMu.Lock()
	defer g.metaMu.Unlock()
	before, g.meta.vtep = g.meta.vtep, vtep
	return before
}

// tellMove has each peer hear that the node has left, and then at once that it is back. The first answers teach the new list above
// which incarnation of memberlist's it must speak, so that what is still said of the old one does not count: hence the second round.
func (g *gossip) tellMove(old, list *memberlist.Memberlist, peers []netip.AddrPort) {
	deadline := time.Now().Add(moveTime)
	for _, lists := range [][]*memberlist.Memberlist{{old, list}, {list}} {
		reached := make([]bool, len(peers))
		var group errgroup.Group
		group.SetLimit(moveParallel)
		for i, peer := range peers {
			group.Go(func() error {
				reached[i] = time.Now().Before(deadline) && joinAll(lists, peer)
				return nil
			})
		}
		group.Wait()
		var next []netip.AddrPort // who is not reached is joined later, as any member that was lost
		for i, peer := range peers {
			if reached[i] {
				next = append(next, peer)
			}
		}
		peers = next
	}
}

// joinAll has each list exchange what it knows with a node, until one does not reach it.
func joinAll(lists []*memberlist.Memberlist, at netip.AddrPort) bool {
	for _, l := range lists {
		if _, err := l.Join([]string{at.String()}); err != nil {
			return false
		}
	}
	return true
}

// listEvents passes on what one memberlist tells, until another has taken its place: its timers outlive it.
type listEvents struct {
	*gossip
	over atomic.Bool
}

// NotifyJoin implements memberlist.EventDelegate.
func (e *listEvents) NotifyJoin(n *memberlist.Node) { e.NotifyUpdate(n) }

// NotifyUpdate implements memberlist.EventDelegate.
func (e *listEvents) NotifyUpdate(n *memberlist.Node) {
	if ev, err := memberOf(n); err == nil && !e.over.Load() {
		e.inbox.add(ev)
	}
}

// NotifyLeave implements memberlist.EventDelegate.
func (e *listEvents) NotifyLeave(n *memberlist.Node) {
	if id, err := parseNodeID(n.Name); err == nil && !e.over.Load() {
		e.inbox.add(memberDownEvent{id})
	}
}

// moveEvent says that this node has another address. Its members are those of a list that is given up, until the new one has them.
type moveEvent struct{ address, vtep netip.AddrPort }

func (e moveEvent) apply(c *core) {
	c.address = e.address
	c.self.address, c.self.meta.vtep = e.address, e.vtep
	for _, o := range c.order {
		o.stray = o.member && o != c.self
	}
}

// strayEvent says that who is not in the new list by now is down: nobody else would tell.
type strayEvent struct{}

func (strayEvent) apply(c *core) {
	for _, o := range c.order {
		if o.stray {
			memberDownEvent{o.id}.apply(c)
		}
	}
}
