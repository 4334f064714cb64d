package ipam

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

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

// advanceSearch is true when a search is over.
func (c *core) advanceSearch(s *search) bool {
	finish := func(subnet netip.Prefix, err error) bool {
		c.out.done = append(c.out.done, func(error) { s.done(subnet, err) })
		return true
	}
	for _, p := range c.sorted() {
		if p.Key == s.key && p.Subnet.Addr().Is6() == s.v6 {
			return finish(p.Subnet, nil)
		}
	}
	for id := range c.peerPools {
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
	case c.unjoined():
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

// takeSearchAnswer takes an answer to a search.
func (c *core) takeSearchAnswer(from string, m *message) {
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
