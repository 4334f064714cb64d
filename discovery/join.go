package discovery

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"strings"
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
	c.mu.Lock()
	c.seeds[addr] = true
	c.mu.Unlock()
	select {
	case c.joinRequests <- netip.AddrPortFrom(addr, c.address.Port()):
	default: // it is tried with all others
	}
}

// RemoveSeed takes back what AddSeed said. A member stays one.
func (c *Cluster) RemoveSeed(addr netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.seeds, addr)
}

// runJoin tries the seeds until the node is not alone, and then now and again,
// with the members that were lost, so that a split heals. It also joins nodes
// that talk to this one without being members: a restarted one does not know
// whom it forgot.
func (c *Cluster) runJoin(seeds []seed) {
	wait := minJoinWait / 2
	joinedAt := map[netip.AddrPort]time.Time{}
	for c.joining.Err() == nil {
		c.join(c.joinTargets(seeds))
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
// members already, as this node itself is.
func (c *Cluster) joinTargets(seeds []seed) []netip.AddrPort {
	seen := map[netip.AddrPort]bool{}
	var targets []netip.AddrPort
	add := func(address netip.AddrPort) {
		if !seen[address] {
			seen[address] = true
			targets = append(targets, address)
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
		for _, address := range c.lookup(s) {
			add(address)
		}
	}
	c.mu.Lock()
	for addr := range c.seeds {
		add(netip.AddrPortFrom(addr, c.address.Port()))
	}
	c.mu.Unlock()
	for _, m := range members {
		if m.State == StateDead {
			add(m.Addr)
		}
	}
	if joined && len(targets) > rejoinNodes {
		rand.Shuffle(len(targets), func(i, j int) { targets[i], targets[j] = targets[j], targets[i] })
		targets = targets[:rejoinNodes]
	}
	return targets
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
		c.log.Warnf("cannot join %s yet: %v", s.host, err)
	}
	var addresses []netip.AddrPort
	for _, ip := range ips {
		addresses = append(addresses, netip.AddrPortFrom(ip.Unmap(), port))
	}
	return addresses
}

func (c *Cluster) join(targets []netip.AddrPort) {
	var group errgroup.Group
	group.SetLimit(joinParallel)
	for _, address := range targets {
		group.Go(func() error {
			_, err := c.gossip.list.Load().Join([]string{address.String()})
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
	case isKeyError(err.Error()):
		if c.limiter.allow("join key") {
			c.log.Errorf("cannot join %s: its gossip key differs from this node's, or only one of the two has a key", address)
		}
	case c.limiter.allow("join " + address.String()):
		if misplaced := hostaddr.Misplaced(c.gossip.address.Load().Addr(), address.Addr()); misplaced != "" {
			err = fmt.Errorf("%w; %s", err, misplaced)
		}
		c.log.Warnf("cannot join %s yet: %v", address, err)
	}
}
