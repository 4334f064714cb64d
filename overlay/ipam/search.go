package ipam

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"strings"
	"time"
)

// DefaultPool is where subnets are taken from that nobody named: Base is cut into prefixes of Bits bits.
type DefaultPool struct {
	Base netip.Prefix
	Bits int
}

// ParseDefaultPools reads a list such as 10.208.0.0/12:20,fd6f:7665:726c::/48:64.
func ParseDefaultPools(text string) ([]DefaultPool, error) {
	var pools []DefaultPool
	for part := range strings.SplitSeq(text, ",") {
		at := strings.LastIndexByte(part, ':')
		if at < 0 {
			return nil, fmt.Errorf("%q: want a prefix and the bits of a subnet, such as 10.208.0.0/12:20", part)
		}
		var p DefaultPool
		base, err := netip.ParsePrefix(part[:at])
		if err == nil {
			_, err = fmt.Sscanf(part[at+1:], "%d", &p.Bits)
		}
		if err != nil || base.Masked() != base || p.Bits < base.Bits() || p.Bits-base.Bits() > 24 {
			return nil, fmt.Errorf("%q: want a prefix and the bits of a subnet, such as 10.208.0.0/12:20", part)
		}
		if err := CheckPool(netip.PrefixFrom(base.Addr(), p.Bits), netip.Prefix{}); err != nil {
			return nil, fmt.Errorf("%q: %w", part, err)
		}
		p.Base = base
		pools = append(pools, p)
	}
	return pools, nil
}

// choose finds a subnet for a network: the first that is free, from where the network's key points to, so that hosts
// which choose at the same time choose alike.
func choose(pools []DefaultPool, key string, v6 bool, taken func(netip.Prefix) bool) (netip.Prefix, error) {
	hash := fnv.New64a()
	hash.Write([]byte(key))
	var tried []string
	for _, p := range pools {
		if p.Base.Addr().Is6() != v6 {
			continue
		}
		tried = append(tried, p.Base.String())
		n := uint64(1) << (p.Bits - p.Base.Bits())
		for i := range n {
			subnet := p.subnet((hash.Sum64() + i) % n)
			if !taken(subnet) {
				return subnet, nil
			}
		}
	}
	return netip.Prefix{}, fmt.Errorf("subnet: none is free in the default pools %v: give --subnet, or the daemon other --default-pools", tried)
}

// subnet is the i-th of the pool.
func (p DefaultPool) subnet(i uint64) netip.Prefix {
	a := p.Base.Addr().AsSlice()
	shift := len(a)*8 - p.Bits
	for at := len(a) - 1 - shift/8; at >= 0 && i != 0; at-- {
		b := i << (shift % 8)
		a[at] |= byte(b)
		i = b >> 8 >> (shift % 8)
	}
	addr, _ := netip.AddrFromSlice(a)
	return netip.PrefixFrom(addr, p.Bits)
}

// search asks all hosts which subnet a network has.
type search struct {
	key   string
	v6    bool
	began time.Time
	asked time.Time
	heard map[string]bool
	found netip.Prefix
	done  func(netip.Prefix, error) // zero: no host has the network
}

func (c *core) search(key string, v6 bool, done func(netip.Prefix, error)) {
	c.searches = append(c.searches, &search{key: key, v6: v6, began: c.now, heard: map[string]bool{}, done: done})
}

// seek is true when a search is over.
func (c *core) seek(s *search) bool {
	finish := func(subnet netip.Prefix, err error) bool {
		c.out.done = append(c.out.done, func(error) { s.done(subnet, err) })
		return true
	}
	for _, p := range c.sorted() {
		if p.Key == s.key && p.Subnet.Addr().Is6() == s.v6 {
			return finish(p.Subnet, nil)
		}
	}
	for id := range c.heard {
		if id.Key == s.key && id.Subnet.Addr().Is6() == s.v6 {
			return finish(id.Subnet, nil)
		}
	}
	if s.found.IsValid() {
		return finish(s.found, nil)
	}
	var silent []string
	for _, id := range c.order {
		if !s.heard[id] {
			silent = append(silent, c.members[id])
		}
	}
	switch {
	case c.lonely():
		return false
	case silent == nil:
		return finish(netip.Prefix{}, nil)
	case c.now.Sub(s.began) > requestLimit:
		return finish(netip.Prefix{}, fmt.Errorf("subnet: host %s does not say whether it has the network %s: give --subnet, or try again", strings.Join(silent, ", "), s.key))
	case c.now.Sub(s.asked) >= askRetry:
		s.asked = c.now
		for _, id := range c.order {
			c.out.sends = append(c.out.sends, send{id, &message{Key: s.key, V6: s.v6, Host: c.host, Reply: true}})
		}
	}
	return false
}

// heed takes an answer to a search.
func (c *core) heed(from string, m *message) {
	for _, s := range c.searches {
		if s.key != m.Key || s.v6 != (m.V6 || m.Subnet.Addr().Is6()) {
			continue
		}
		s.heard[from] = true
		if m.Origin != nil && m.Subnet.IsValid() {
			s.found = m.Subnet
		}
	}
}
