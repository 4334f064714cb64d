package discovery

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/overlane/overlane/internal/hostaddr"
)

const (
	minJoinWait     = 200 * time.Millisecond // between tries while alone, doubling
	maxJoinWait     = rejoinInterval         // up to this
	rejoinInterval  = 2 * time.Second        // between tries to heal a split
	rejoinNodes     = 3                      // addresses a try
	joinParallel    = 8
	lookupTimeout   = 3 * time.Second
	requestInterval = time.Second // between joins of one address on request
)

// seed is a node to join: a host name or IP address, and a port (0: our own).
type seed struct {
	host string
	port uint16
}

func parseSeeds(texts []string) ([]seed, error) {
	var seeds []seed
	for _, text := range texts {
		s, err := parseSeed(text)
		if err != nil {
			return nil, err
		}
		seeds = append(seeds, s)
	}
	return seeds, nil
}

func parseSeed(text string) (seed, error) {
	host := text
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return seed{ip.String(), 0}, nil
	}
	var port uint64
	if strings.ContainsAny(text, ":[]") {
		var number string
		var err error
		if host, number, err = net.SplitHostPort(text); err != nil {
			return seed{}, fmt.Errorf("join address %q is not an IP address or host name, with or without a port: %w", text, err)
		}
		if port, err = strconv.ParseUint(number, 10, 16); err != nil || port == 0 {
			return seed{}, fmt.Errorf("join address %q: port %q is not from 1 to 65535", text, number)
		}
	}
	if host == "" || strings.ContainsAny(host, "/ ") {
		return seed{}, fmt.Errorf("join address %q has no IP address or host name", text)
	}
	return seed{host, uint16(port)}, nil
}

// AddSeed has this node join the one at an address, on this node's own port: now,
// and until RemoveSeed whenever it is not a member. One that gossip can't reach is logged.
func (c *Cluster) AddSeed(addr netip.Addr) {
	if addr.IsUnspecified() || addr.IsMulticast() || addr.Zone() != "" || addr.Is4() != c.address.Addr().Is4() {
		c.log.Warnf("node %s is not joined: gossip goes from %s to addresses of its family", addr, c.address.Addr())
		return
	}
	address := netip.AddrPortFrom(addr, c.address.Port())
	c.mu.Lock()
	c.seeds[addr] = true
	c.mu.Unlock()
	c.affiliation.tell(address, true)
	c.unsettle()
	select {
	case c.joinRequests <- address:
	default: // it is tried with all others
	}
}

// RemoveSeed takes back what AddSeed said. A member stays one.
func (c *Cluster) RemoveSeed(addr netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.seeds, addr)
	c.affiliation.tell(netip.AddrPortFrom(addr, c.address.Port()), false)
}

// runJoin tries the seeds until the node is not alone, and then now and again,
// with the members that were lost, so that a split heals. It also joins nodes
// that talk to this one without being members: a restarted one does not know
// whom it forgot.
func (c *Cluster) runJoin(seeds []seed) {
	wait := minJoinWait / 2
	joinedAt := map[netip.AddrPort]time.Time{}
	var founding founding
	if len(seeds) > 0 {
		c.unsettle()
	}
	looked := sync.OnceFunc(func() { close(c.looked) })
	for c.joining.Err() == nil {
		targets, missing := c.joinTargets(seeds)
		c.join(targets)
		looked()
		c.found(&founding, missing)
		if c.gossip.list.Load().NumMembers() > 1 {
			wait = rejoinInterval
		} else if wait = wait * 2; wait > maxJoinWait {
			wait = maxJoinWait
		}
		timer := time.NewTimer(wait)
		for waiting := true; waiting; {
			select {
			case <-c.joining.Done():
				waiting = false
			case <-timer.C:
				waiting = false
			case <-c.affiliation.changed:
				c.publishCluster()
			case address := <-c.joinRequests:
				if now := time.Now(); now.Sub(joinedAt[address]) >= requestInterval {
					joinedAt[address] = now
					c.join([]netip.AddrPort{address})
				}
			}
		}
		timer.Stop()
		clear(joinedAt)
	}
}

// joinTargets lists the addresses of seeds and of lost members that are not
// members already, as this node itself is. Missing names those without which the
// cluster gets no identity.
func (c *Cluster) joinTargets(seeds []seed) (targets []netip.AddrPort, missing []string) {
	c.mu.Lock()
	before := c.core.before()
	c.mu.Unlock()
	for _, address := range before {
		missing = append(missing, fmt.Sprintf("the upgrade of %s", address))
	}
	if c.affiliation.seeks() {
		targets = before // to whom the named cluster may belong
	}
	seen := map[netip.AddrPort]bool{}
	add := func(address netip.AddrPort, there bool) {
		if seen[address] {
			return
		}
		seen[address] = true
		targets = append(targets, address)
		// A host's own name may lead to its loopback device.
		there = there || address.Addr().IsLoopback() && !c.gossip.address.Load().Addr().IsLoopback()
		if !there {
			missing = append(missing, address.String())
		}
	}
	members := c.Members()
	joined := false
	for _, m := range members {
		if m.State == StateAlive || m.State == StateSuspect {
			seen[m.Addr] = true
			joined = joined || !m.Self
		}
	}
	for _, s := range seeds {
		addresses := c.lookup(s)
		if len(addresses) == 0 {
			missing = append(missing, s.host)
		}
		for _, address := range addresses {
			c.affiliation.tell(address, true)
			add(address, c.reaches(address))
		}
	}
	c.mu.Lock()
	for addr := range c.seeds {
		address := netip.AddrPortFrom(addr, c.address.Port())
		add(address, c.reaches(address))
	}
	c.mu.Unlock()
	for _, m := range members {
		if m.State == StateDead {
			add(m.Addr, false)
		}
	}
	if joined && len(targets) > rejoinNodes {
		rand.Shuffle(len(targets), func(i, j int) { targets[i], targets[j] = targets[j], targets[i] })
		targets = targets[:rejoinNodes]
	}
	return targets, missing
}

// reaches says whether the last join of an address succeeded: then a member, or
// this node, is there that advertises another one, as behind network address
// translation.
func (c *Cluster) reaches(address netip.AddrPort) bool {
	reached, _ := c.reached.Load(address)
	return reached == true
}

func (c *Cluster) lookup(s seed) []netip.AddrPort {
	port := s.port
	if port == 0 {
		port = c.address.Port()
	}
	ctx, cancel := context.WithTimeout(c.joining, lookupTimeout)
	defer cancel()
	family := "ip4" // gossip listens on one address: those of the other family are of no use
	if c.address.Addr().Is6() {
		family = "ip6"
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, family, s.host)
	if err != nil && c.joining.Err() == nil && c.limiter.allow("lookup "+s.host) {
		c.log.Warnf("cannot join %s yet: %v: gossip goes from %s, and to addresses of its family; --advertise gives this host another", s.host, err, c.address.Addr())
	}
	var addresses []netip.AddrPort
	for _, ip := range ips {
		addresses = append(addresses, netip.AddrPortFrom(ip.Unmap(), port))
	}
	return addresses
}

// join joins the nodes at the addresses. Those of a cluster whose identity this
// node takes over do not take it in before it tells them of that.
func (c *Cluster) join(targets []netip.AddrPort) {
	c.pushPull(targets)
	select {
	case <-c.affiliation.changed:
		c.publishCluster()
		c.pushPull(targets)
	default:
	}
}

func (c *Cluster) pushPull(targets []netip.AddrPort) {
	var group errgroup.Group
	group.SetLimit(joinParallel)
	for _, address := range targets {
		group.Go(func() error {
			c.affiliation.dial(address, true)
			_, err := c.gossip.list.Load().Join([]string{address.String()})
			c.affiliation.dial(address, false)
			if c.affiliation.isTold(address) {
				c.reached.Store(address, err == nil)
			}
			c.logJoin(address, err)
			return nil
		})
	}
	group.Wait()
}

func (c *Cluster) logJoin(address netip.AddrPort, err error) {
	switch {
	case c.joining.Err() != nil:
	case err == nil:
		c.log.Debugf("joined %s", address)
	case strings.Contains(err.Error(), errStranger.Error()):
		c.logStranger(address)
	case isKeyError(err.Error()):
		c.affiliation.refuseKey(address)
		if c.limiter.allow("join key") {
			c.log.Errorf("cannot join %s: it has another token than this node, or only one of the two has one: give this one what `overlane token` prints there, by --token", address)
		}
	case c.limiter.allow("join " + address.String()):
		if misplaced := hostaddr.Misplaced(c.gossip.address.Load().Addr(), address.Addr()); misplaced != "" {
			err = fmt.Errorf("%w; %s", err, misplaced)
		}
		c.log.Warnf("cannot join %s yet: %v", address, err)
	}
}

// logStranger says how a node that is to be joined can be, though its cluster is
// another. Where a lost member was, strangers are none of the operator's business.
func (c *Cluster) logStranger(address netip.AddrPort) {
	s, known := c.affiliation.stranger(address)
	if !c.affiliation.isTold(address) || !c.limiter.allow("join "+address.String()) {
		return
	}
	if !known { // it advertises another address
		c.log.Errorf("cannot join %s: it is not of this host's cluster; `overlane status members` lists whom it knows as strangers", address)
		return
	}
	if s.Cluster == "" {
		c.log.Warnf("cannot join %s at %s yet: it has no cluster, and was not told to join this host's: start overlane there with --join %s", s.Host, address, c.gossip.address.Load().Addr())
		return
	}
	c.log.Errorf("cannot join %s at %s: it belongs to cluster %s, and this host to %s; clusters are never merged. To move this host, remove its containers and networks, run `overlane leave`, remove %s, and start it with --join %s",
		s.Host, address, s.Cluster, c.affiliation.claim().cluster, c.cfg.Dir, address.Addr())
}
