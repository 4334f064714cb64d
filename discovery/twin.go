package discovery

import (
	"fmt"
	"maps"
	"net/netip"
	"time"

	"github.com/overlane/overlane/discovery/internal/wire"
)

// Two daemons that run under one identity: a data directory was copied, as with a
// clone of a virtual machine. Both would be given the same addresses. Membership
// keeps the second one out, and tells both of a node that has their name and
// another address. That may be no more than where this node itself was before a
// restart; so it is asked, over a stream, and who answers from there is a twin. The one that
// began later ends, and does not begin again.
//
// Anybody who reaches the gossip port can greet. So a node ends only by an answer
// from where membership itself has found its name, and greets little.

// Twin is another node under this node's identity, and when it was last heard of.
type Twin struct {
	Host string
	Addr netip.AddrPort
	Seen time.Time
}

// TwinError says that this node must not run.
type TwinError struct {
	Twin string // host and address
	Dir  string // data directory
}

func (e *TwinError) Error() string {
	return fmt.Sprintf("this host does not serve: %s has its identity, and ran first; one of the two has a copy of the other's data directory. "+
		"Where this one is the copy, remove %s here, restart overlane with --join, and make networks and containers of this host anew", e.Twin, e.Dir)
}

// greeting is what a node says to another under its own identity.
type greeting struct {
	instance uint64 // tells apart two processes
	started  uint64 // the incarnation it started with
	to       uint64 // the instance that it answers; 0: it is no answer
	host     string
}

const (
	greetInterval = time.Second // between greetings to answer NotifyConflict
	maxGreetings  = 8           // questions, and as many answers, under way or begun within greetInterval
	answerTime    = time.Second // that a twin may take to answer
	namedTime     = time.Minute // for which an answer from an address counts that membership has named
	maxNamed      = 16
)

// conflict is that membership knows this node's name at another address.
type conflict struct {
	address netip.AddrPort
	former  bool // this node was there, and is not asked
}

// Fenced gives the reason once this node must not go on, and be closed.
func (c *Cluster) Fenced() <-chan *TwinError { return c.fenced }

// Unique waits until the node has found others, no longer than patience, and where
// one was said to have its name, for an answer from there. It tells nothing of what
// comes later: see Fenced.
func (c *Cluster) Unique(patience time.Duration) *TwinError {
	select {
	case err := <-c.fenced:
		return err
	case <-c.looked:
	case <-time.After(patience):
	}
	if !c.doubted.Load() {
		return nil
	}
	select {
	case err := <-c.fenced:
		return err
	case <-time.After(answerTime):
		return nil
	}
}

// Twin is the last node that was found to have this node's identity; false: none
// was lately.
func (c *Cluster) Twin() (Twin, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.twin, c.twin.Addr.IsValid() && time.Since(c.twin.Seen) < strangerMemory
}

// doubt asks who is where membership knows this node to be too.
func (c *Cluster) doubt(at conflict) {
	now := time.Now()
	maps.DeleteFunc(c.named, func(_ netip.AddrPort, when time.Time) bool { return now.Sub(when) > namedTime })
	if _, known := c.named[at.address]; !known && len(c.named) >= maxNamed {
		c.reject("greeting")
		return
	}
	c.named[at.address] = now
	if !at.former {
		c.ask(at.address)
	}
}

func (c *Cluster) ask(address netip.AddrPort) {
	if now := time.Now(); now.Sub(c.greeted) >= greetInterval {
		c.greeted = now
		c.greet(c.asking, address, 0)
	}
}

func (c *Cluster) isNamed(address netip.AddrPort) bool {
	when, named := c.named[address]
	return named && time.Since(when) <= namedTime
}

// greet reports whether a greeting is sent: slots has room for those that may be
// under way.
func (c *Cluster) greet(slots chan struct{}, address netip.AddrPort, to uint64) bool {
	p := &packet{from: c.identity.id, address: *c.gossip.address.Load(), claim: c.affiliation.claim(), greeting: c.greeting}
	p.greeting.to = to
	b, err := encodePacket(p)
	if err != nil {
		c.log.Errorf("a greeting to %s cannot be sent: %v", address, err)
		return false
	}
	select {
	case slots <- struct{}{}:
	default:
		c.reject("greeting")
		return false
	}
	c.wg.Go(func() {
		defer func() { <-slots }()
		c.gossip.sendStream(recipient{c.identity.id, address}, b)
		select {
		case <-time.After(greetInterval):
		case <-c.ctx.Done():
		}
	})
	return true
}

// meet takes a message under this node's own identity. Only an answer to what this
// node asked makes it end: anybody can send the rest.
func (c *Cluster) meet(p *packet) {
	g := p.greeting
	if g.instance == 0 || g.instance == c.greeting.instance || !p.address.IsValid() {
		return // an echo
	}
	if g.to != 0 && (g.to != c.greeting.instance || !c.isNamed(p.address)) {
		c.reject("greeting")
		return
	}
	if g.to == 0 && !c.greet(c.answering, p.address, g.instance) {
		return
	}
	c.mu.Lock()
	c.twin = Twin{g.host, p.address, time.Now()}
	c.mu.Unlock()
	twin := fmt.Sprintf("%s at %s", g.host, p.address)
	switch {
	case c.greeting.before(g):
		if c.limiter.allow("twin") {
			c.log.Errorf("%s has the identity of this host: one of the two has a copy of the other's data directory; this one ran first, and goes on", twin)
		}
	case g.to != 0:
		c.end(twin)
	case c.isNamed(p.address):
		c.ask(p.address)
	default:
		select {
		case c.joinRequests <- p.address: // if it is a twin, membership names it then
		default:
		}
	}
}

// end keeps this node from going on, on account of one that ran first.
func (c *Cluster) end(twin string) {
	if err := c.identity.fence(twin); err != nil {
		c.log.WithError(err).Error("that this host has another's identity is not on disk")
	}
	select {
	case c.fenced <- &TwinError{twin, c.cfg.Dir}:
	default:
	}
}

// before says which of two began first.
func (g greeting) before(o greeting) bool {
	return g.started < o.started || g.started == o.started && g.instance < o.instance
}

func (d *decoder) greeting(w *wire.Greeting) greeting {
	g := greeting{w.GetInstance(), d.incarnation(w.GetStarted()), w.GetTo(), w.GetHost()}
	if len(g.host) > maxHost {
		d.fail("host", "%d bytes, at most %d", len(g.host), maxHost)
	}
	return g
}
