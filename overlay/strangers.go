package overlay

import (
	"cmp"
	"fmt"
	"time"

	"github.com/overlane/overlane/discovery"
)

// StateStranger is that of a host which knocked, or was found where a member was to be, and belongs to another cluster.
const StateStranger discovery.State = "stranger"

// StateReplaced is that of a node whose host was set up anew: discovery.Member.Replaced.
const StateReplaced discovery.State = "replaced"

// StateCopy is that of a host which runs on a copy of this host's data directory.
const StateCopy discovery.State = "copy"

func copyStatus(t discovery.Twin) MemberStatus {
	return MemberStatus{Host: t.Host, State: StateCopy, Gossip: t.Addr, Health: Health{
		fmt.Sprintf("it has this host's identity: one of the two has a copy of the other's data directory; this host began first, and the other does not serve; last heard of at %s", t.Seen.Local().Format(time.TimeOnly)),
		"remove the data directory of the copy, restart overlane there with --join, and make its networks and containers anew"}}
}

// strangers lists them as the members are, with the reason why they are none.
func strangers(all []discovery.Stranger, self discovery.Member) []MemberStatus {
	var rows []MemberStatus
	for _, s := range all {
		rows = append(rows, MemberStatus{Host: cmp.Or(s.Host, s.Addr.Addr().String()), State: StateStranger, Gossip: s.Addr, Health: strangerHealth(s, self)})
	}
	return rows
}

func strangerHealth(s discovery.Stranger, self discovery.Member) Health {
	here := self.Addr.Addr()
	mine := cmp.Or(self.Cluster, "none yet")
	seen := s.Seen.Local().Format(time.TimeOnly)
	switch {
	case s.Key:
		return Health{fmt.Sprintf("it has another token, or only one of the two has one; last heard of at %s", seen),
			"if it belongs to this cluster, give it what `overlane token` prints here, by --token"}
	case s.Cluster == "":
		return Health{fmt.Sprintf("it has no cluster yet, and was not told to join this host's, %s; last heard of at %s", mine, seen),
			fmt.Sprintf("if it belongs to this cluster, start overlane there with --join %s", here)}
	}
	return Health{fmt.Sprintf("it belongs to cluster %s, and this host to %s: neither takes anything from the other; last heard of at %s", s.Cluster, mine, seen),
		fmt.Sprintf("nothing, where this is meant; to move it here, remove its containers and networks, run `overlane leave` there, remove its data directory, and start it with --join %s", here)}
}
