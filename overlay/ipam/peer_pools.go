package ipam

import (
	"maps"
	"slices"
)

// maxPeerPools is how many pools of a host are noted: it may make any number up.
const maxPeerPools = 1 << 12

// What a host has heard of pools that others have is kept, whether it uses them or not: the first use of a pool must not
// claim it anew while those that have it are down.

// notePeerPool notes whether another host has a pool.
func (c *core) notePeerPool(from string, m *message) {
	id := poolID{m.Key, m.Subnet}
	has := m.Origin != nil && m.Member && !m.Proposed
	name, known := c.peerPools[id][from]
	if !m.Subnet.IsValid() || has == known && name == m.Host {
		return
	}
	switch {
	case !has:
		delete(c.peerPools[id], from)
	case !known && c.notedOf(from) >= maxPeerPools:
		return
	case c.peerPools[id] == nil:
		c.peerPools[id] = map[string]string{from: m.Host}
	default:
		c.peerPools[id][from] = m.Host
	}
	c.writePeerPools(id)
}

func (c *core) notedOf(from string) (n int) {
	for hosts := range maps.Values(c.peerPools) {
		if _, has := hosts[from]; has {
			n++
		}
	}
	return n
}

// forgetPeerPools forgets what a lost host had.
func (c *core) forgetPeerPools(node string) {
	for id, hosts := range c.peerPools {
		if _, has := hosts[node]; has {
			delete(hosts, node)
			c.writePeerPools(id)
		}
	}
}

func (c *core) writePeerPools(id poolID) {
	if len(c.peerPools[id]) == 0 {
		delete(c.peerPools, id)
	}
	if !slices.Contains(c.out.peerPools, id) {
		c.out.peerPools = append(c.out.peerPools, id)
	}
}
