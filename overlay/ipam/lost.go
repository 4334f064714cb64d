package ipam

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Which hosts an operator calls lost, and how to call them.

// absence is how a host went that is not up.
type absence struct {
	since    time.Time // last seen then
	together bool      // with so many others that this host may be the one that is cut off
}

// nodes are the names of all hosts that have, or may have, addresses, by their IDs.
func (c *core) nodes() map[string]string {
	nodes := map[string]string{}
	maps.Copy(nodes, c.absent)
	for _, hosts := range c.peerPools {
		maps.Copy(nodes, hosts)
	}
	for _, p := range c.sorted() {
		for _, owner := range p.Table.owners() {
			nodes[nodeOf(owner)] = c.name(p, nodeOf(owner))
		}
	}
	return nodes
}

// called are the hosts with a name, or else those whose IDs begin so.
func called(nodes map[string]string, host string) []string {
	var found, begin []string
	for _, node := range slices.Sorted(maps.Keys(nodes)) {
		switch {
		case nodes[node] == host:
			found = append(found, node)
		case host != "" && strings.HasPrefix(node, host):
			begin = append(begin, node)
		}
	}
	if found == nil {
		return begin
	}
	return found
}

// find is the ID of a host that owns addresses.
func (c *core) find(host string) (string, error) {
	nodes := c.nodes()
	found := called(nodes, host)
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", fmt.Errorf("node %q: owns no addresses: those that do are %s", host, cmp.Or(c.described(slices.Sorted(maps.Keys(nodes))), "none"))
	}
	cure := "all are up: `overlane leave` there gives back what one has"
	if down := slices.DeleteFunc(slices.Clone(found), c.here); len(down) > 0 {
		cure = c.reclaimAdvice(down...)
	}
	return "", fmt.Errorf("node %q: several are called so: %s: %s", host, c.described(found), cure)
}

// lostOnes are the IDs of hosts that own addresses; without any named, those of all that are down.
func (c *core) lostOnes(hosts []string) (lost []string, err error) {
	if len(hosts) == 0 {
		return c.allDown()
	}
	for _, host := range hosts {
		node, err := c.find(host)
		if err != nil {
			return nil, err
		}
		lost = append(lost, node)
	}
	return lost, nil
}

// allDown are the hosts that are not up. The error is why this host is not to take their addresses without their names.
func (c *core) allDown() ([]string, error) {
	down := slices.DeleteFunc(slices.Sorted(maps.Keys(c.nodes())), c.here)
	cutOff := len(c.order) == 0 || slices.ContainsFunc(down, func(id string) bool { return c.away[id].together })
	if cutOff && len(down) > 0 {
		return nil, fmt.Errorf("--down: this host may be the one that is cut off, as so many are down: %s: %s", c.described(down), c.reclaimAdvice(down...))
	}
	return down, nil
}

// here says whether a host is up.
func (c *core) here(id string) bool { return id == c.self || c.up(id) }

// described is what tells hosts from each other.
func (c *core) described(ids []string) string {
	nodes := c.nodes()
	texts := make([]string, len(ids))
	for i, id := range ids {
		state := "up"
		if !c.here(id) {
			state = "down, last seen " + c.lastSeen(id)
		}
		texts[i] = fmt.Sprintf("%s (%s, %s)", nodes[id], short(id), state)
	}
	return strings.Join(texts, ", ")
}

func (c *core) lastSeen(id string) string {
	if since := c.away[id].since; !since.IsZero() {
		return since.Local().Format(time.DateTime)
	}
	return "more than a day ago" // discovery has forgotten it
}

// reclaimAdvice is the command that takes the addresses of lost hosts. It names all that are down and may have what a lost host gave them.
func (c *core) reclaimAdvice(lost ...string) string {
	lost = slices.Compact(slices.Sorted(slices.Values(lost)))
	for grows := true; grows; {
		grows = false
		for _, p := range c.affected(lost) {
			for id := c.down(p, lost); id != ""; id = c.down(p, lost) {
				lost, grows = append(lost, id), true
			}
		}
	}
	nodes := c.nodes()
	var down []string
	for i, id := range lost {
		if lost[i] = nodes[id]; lost[i] == "" || len(called(nodes, nodes[id])) > 1 {
			lost[i] = short(id)
		}
		if !c.here(id) {
			down = append(down, lost[i])
		}
	}
	run := "run `overlane ipam reclaim " + strings.Join(lost, " ") + "`"
	switch len(down) {
	case 0:
		return run
	case 1:
		return fmt.Sprintf("if %s is lost for good, %s", down[0], run)
	}
	return fmt.Sprintf("if %s are lost for good, all of them, %s", strings.Join(down, ", "), run)
}

// short is an ID as `overlane ipam` shows it.
func short(id string) string { return id[:min(len(id), 12)] }
