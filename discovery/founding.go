package discovery

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// How a cluster gets its identity. Nodes that have none find each other as they
// were told to; one of them makes it, and the others take it over. Two that are
// made would keep their nodes apart for good: so it is made only where nobody is
// missing, neither a member nor a node that is to be joined, and where no member is
// of the version before, which can't say whether its cluster has one.

// saveRetry is how long after a write that failed the identity is written again.
const saveRetry = 10 * time.Second

// founding is a node's wait for that.
type founding struct {
	since   time.Time
	members []nodeID
	lacking time.Time // since when somebody is missing
}

// due says whether this node makes the identity. members are those that are up,
// this one included; first says that it is the one of those without an identity
// to do it, needed that there is something to be kept apart from strangers.
func (f *founding) due(now time.Time, members []nodeID, complete, first, needed bool) bool {
	if !complete || !first || !needed || !slices.Equal(members, f.members) {
		f.since, f.members = now, members
		return false
	}
	return now.Sub(f.since) >= settleTime
}

// found makes the cluster's identity when that is due.
func (c *Cluster) found(f *founding, missing []string) {
	if c.affiliation.claim().cluster != (clusterID{}) {
		return
	}
	c.mu.Lock()
	members, first := c.core.founders()
	needed := len(members) > 1 || len(c.core.self.subscriptions) > 0
	c.mu.Unlock()
	now := time.Now()
	if len(missing) == 0 || f.lacking.IsZero() {
		f.lacking = now
	}
	if needed && now.Sub(f.lacking) >= settleTime && c.limiter.allow("founding") {
		c.log.Infof("this host's cluster has no identity yet: it waits for %s", strings.Join(missing, ", "))
	}
	if !f.due(now, members, len(missing) == 0, first, needed) {
		return
	}
	id, err := newClusterID()
	if err != nil {
		c.log.WithError(err).Error("the cluster gets no identity")
		return
	}
	c.log.Infof("this host's cluster gets the identity %s", id)
	c.affiliation.set(id)
}

// founders lists the nodes that are up, and says whether this one is the first of
// those that could have an identity and have none.
func (c *core) founders() (members []nodeID, first bool) {
	someone := false
	for _, o := range c.order {
		if !o.member {
			continue
		}
		members = append(members, o.id)
		if o.meta.claim == (claim{known: true}) && !someone {
			someone, first = true, o == c.self
		}
	}
	return members, first
}

// before lists the members of the version before.
func (c *core) before() (addresses []netip.AddrPort) {
	for _, o := range c.order {
		if o.member && o != c.self && !o.meta.claim.known {
			addresses = append(addresses, o.address)
		}
	}
	return addresses
}

// unsettle makes a node that is told to join others ready to take over their
// identity, in place of one that it was alone with and needs no more.
func (c *Cluster) unsettle() {
	c.mu.Lock()
	used := len(c.core.self.subscriptions) > 0
	c.mu.Unlock()
	if !used && !c.cfg.Used() && c.affiliation.alone() && c.affiliation.claim().cluster != (clusterID{}) {
		c.affiliation.set(clusterID{})
	}
}

// publishCluster puts the identity on disk and into what the others are told.
// What the disk does not take is tried again: at the next start the host would be
// of no cluster.
func (c *Cluster) publishCluster() {
	mine := c.affiliation.claim()
	if err := saveCluster(c.cfg.Dir, mine.cluster); err != nil {
		c.log.WithError(err).Error("the identity of this host's cluster is not on disk: it is tried again")
		time.AfterFunc(saveRetry, func() { signal(c.affiliation.changed) })
	}
	c.do(clusterEvent{mine})
	c.gossip.changeMeta(func(m *meta) { m.claim = mine })
	c.gossip.update(time.Millisecond) // a join that follows tells of it
	c.gossip.spreadMeta()
}
