package ipam

import "slices"

// What a host has heard of pools that others have is kept, whether it uses them or not: the first use of a pool must not
// claim it anew while those that have it are down.

// hear notes whether another host has a pool.
func (c *core) hear(from string, m *message) {
	id := poolID{m.Key, m.Subnet}
	has := m.Origin != nil && m.Member && !m.Proposed
	if name, known := c.heard[id][from]; !m.Subnet.IsValid() || has == known && name == m.Host {
		return
	}
	switch {
	case !has:
		delete(c.heard[id], from)
	case c.heard[id] == nil:
		c.heard[id] = map[string]string{from: m.Host}
	default:
		c.heard[id][from] = m.Host
	}
	c.noteHeard(id)
}

// unhear forgets what a lost host had.
func (c *core) unhear(node string) {
	for id, hosts := range c.heard {
		if _, has := hosts[node]; has {
			delete(hosts, node)
			c.noteHeard(id)
		}
	}
}

func (c *core) noteHeard(id poolID) {
	if len(c.heard[id]) == 0 {
		delete(c.heard, id)
	}
	if !slices.Contains(c.out.heard, id) {
		c.out.heard = append(c.out.heard, id)
	}
}
