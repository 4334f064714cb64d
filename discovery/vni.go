package discovery

import (
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// derivedVNIs is where VNIs derived from a key begin: above what people and
// VLAN-minded tools choose by hand.
const derivedVNIs = 4096

// Conflict is a member's network that cannot be merged with one of this node:
// the same key with another VNI, another key with the same VNI, or the same of
// which one is encrypted. Neither node takes the other's records of them.
type Conflict struct {
	Member string // Member.ID
	Host   string
	Ours   Network
	Theirs Network
}

func (c Conflict) String() string {
	if c.Ours.encryptedUnlike(c.Theirs) {
		return fmt.Sprintf("network %q is %s here, and %s on member %s (%s)", c.Ours.Key, c.Ours.protection(), c.Theirs.protection(), c.Host, c.Member)
	}
	return fmt.Sprintf("network %q has VNI %d here, but member %s (%s) has network %q with VNI %d",
		c.Ours.Key, c.Ours.VNI, c.Host, c.Member, c.Theirs.Key, c.Theirs.VNI)
}

// Advice is the way out.
func (c Conflict) Advice() string {
	if c.Ours.encryptedUnlike(c.Theirs) {
		return c.Ours.encryptionAdvice()
	}
	return vniAdvice
}

const vniAdvice = "use another VNI, or the same key on all hosts"

func (n Network) encryptionAdvice() string {
	if n.Encrypted {
		return "make it anew, there with -o encrypted or here without"
	}
	return "make it anew, here with -o encrypted or there without"
}

func (n Network) protection() string {
	if n.Encrypted {
		return "encrypted"
	}
	return "plain"
}

func (n Network) conflictsWith(o Network) bool { return (n.Key == o.Key || n.VNI == o.VNI) && n != o }

// encryptedUnlike says whether the networks are the same but for that.
func (n Network) encryptedUnlike(o Network) bool {
	return n.Key == o.Key && n.VNI == o.VNI && n.Encrypted != o.Encrypted
}

// check says why this node cannot subscribe to the network.
func (c *core) check(n Network) error {
	switch {
	case n.Key == "" || len(n.Key) > maxKey || !utf8.ValidString(n.Key):
		return fmt.Errorf("network key %q is not from 1 to %d bytes of UTF-8", n.Key, maxKey)
	case n.VNI < 1 || n.VNI > maxVNI:
		return fmt.Errorf("VNI %d of network %q is not from 1 to %d", n.VNI, n.Key, maxVNI)
	}
	for _, sub := range c.self.subscriptions {
		if n.conflictsWith(sub.Network) {
			return n.refusal(sub.Network, "this node")
		}
	}
	if len(c.self.subscriptions) >= maxNetworks {
		return fmt.Errorf("network %q is one too many: a node subscribes to %d at most; remove one of its networks", n.Key, maxNetworks)
	}
	for _, o := range c.order {
		if !c.visible(o) {
			continue
		}
		for _, sub := range o.subscriptions {
			if n.conflictsWith(sub.Network) {
				return n.refusal(sub.Network, fmt.Sprintf("member %s (%s)", o.meta.host, o.id))
			}
		}
	}
	return nil
}

// refusal says why this node cannot have the network beside one that it has, or another.
func (n Network) refusal(o Network, whose string) error {
	if !n.encryptedUnlike(o) {
		return fmt.Errorf("network %q cannot have VNI %d: %s has network %q with VNI %d; %s", n.Key, n.VNI, whose, o.Key, o.VNI, vniAdvice)
	}
	option := "without"
	if o.Encrypted {
		option = "with"
	}
	return fmt.Errorf("network %q cannot be %s here: on %s it is %s; make it %s -o encrypted, or anew there", n.Key, n.protection(), whose, o.protection(), option)
}

// Subscriber is a member that has a network.
type Subscriber struct {
	Host    string
	Network Network
}

// subscribers lists the other nodes whose announcement of a network counts. That one is encrypted counts as long as it is known, also of a node that is
// down: who keeps nodes from hearing of each other for a while is not to have them agree on less.
func (c *core) subscribers(key string) []Subscriber {
	var all []Subscriber
	for _, o := range c.order {
		if sub := o.subscription(key); sub != nil && (c.visible(o) || sub.Encrypted && !o.left) {
			all = append(all, Subscriber{o.meta.host, sub.Network})
		}
	}
	return all
}

// conflictsWith lists the conflicts with one member.
func (c *core) conflictsWith(o *owner) map[Conflict]bool {
	if !c.visible(o) {
		return nil
	}
	var found map[Conflict]bool
	for _, ours := range c.self.subscriptions {
		for _, theirs := range o.subscriptions {
			if ours.Network.conflictsWith(theirs.Network) {
				if found == nil {
					found = map[Conflict]bool{}
				}
				found[Conflict{o.id.String(), o.meta.host, ours.Network, theirs.Network}] = true
			}
		}
	}
	return found
}

// noteConflicts warns of each conflict with a member once.
func (c *core) noteConflicts(o *owner) {
	found := c.conflictsWith(o)
	for _, conflict := range sortedConflicts(found) {
		if !o.conflicts[conflict] {
			c.warnf("%s: their records are not taken; %s", conflict, conflict.Advice())
		}
	}
	o.conflicts = found
}

func sortedConflicts(found map[Conflict]bool) []Conflict {
	return slices.SortedFunc(maps.Keys(found), func(a, b Conflict) int { return strings.Compare(a.String(), b.String()) })
}

// resolve gives the VNI for a network key: the one in a "vni=N" key, the one the
// cluster already uses for the key, or one derived from the key that is known to
// belong to no other.
func (c *core) resolve(key string) uint32 {
	if number, ok := strings.CutPrefix(key, "vni="); ok {
		if vni, err := strconv.ParseUint(number, 10, 24); err == nil {
			return uint32(vni)
		}
	}
	if sub := c.self.subscription(key); sub != nil {
		return sub.VNI
	}
	taken := map[uint32]bool{}
	for _, sub := range c.self.subscriptions {
		taken[sub.VNI] = true
	}
	for _, o := range c.order {
		if !c.visible(o) {
			continue
		}
		if sub := o.subscription(key); sub != nil {
			return sub.VNI
		}
		for _, sub := range o.subscriptions {
			taken[sub.VNI] = true
		}
	}
	h := fnv.New32a()
	h.Write([]byte(key))
	vni := derivedVNIs + h.Sum32()%(maxVNI-derivedVNIs+1)
	for taken[vni] {
		if vni++; vni > maxVNI {
			vni = derivedVNIs
		}
	}
	return vni
}
