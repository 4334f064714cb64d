package overlay

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/overlane/overlane/discovery"
)

const stuckAdvice = "see what keeps that CPU busy at a real-time priority, or has stopped the thread (overlane bugreport has its state); else restart overlane: containers keep running"

// Problem is something that is not well, by the words of the part of a status that tells of it.
type Problem struct {
	What string `json:"what"`
	Host string `json:"host,omitempty"` // that it is about, if that is another
	Health
}

// FullAdvice is the next step where a table of the datapath is nearly full.
const FullAdvice = "remove networks from this host, or containers from its networks: what does not fit is not reached"

// Problems lists all that is not well: first of this host, then of others, then of networks and containers. A host that left is
// gone on purpose.
func (s *Status) Problems() []Problem {
	all := s.hereProblems()
	for _, m := range s.Members {
		if m.Reason != "" && m.State != discovery.StateLeft {
			all = append(all, Problem{fmt.Sprintf("host %s is %s", cmp.Or(m.Host, m.Gossip.String()), m.State), m.Host, m.Health})
		}
	}
	for _, p := range s.Paths {
		if p.Reason != "" {
			all = append(all, Problem{fmt.Sprintf("path to %s", cmp.Or(p.Host, p.VTEP.String())), p.Host, p.Health})
		}
	}
	for _, e := range s.Encryption {
		// Of a member it stands there already.
		if e.Reason != "" && !slices.ContainsFunc(s.Members, func(m MemberStatus) bool { return m.ID == e.ID && m.Health == e.Health }) {
			all = append(all, Problem{fmt.Sprintf("encryption to %s", cmp.Or(e.Host, e.VTEP.String())), e.Host, e.Health})
		}
	}
	return append(all, s.networkProblems()...)
}

// hereProblems are those of this host alone.
func (s *Status) hereProblems() []Problem {
	all := []Problem{}
	note := func(what, reason, advice string) {
		all = append(all, Problem{What: what, Health: Health{reason, advice}})
	}
	if s.Node.Insecure {
		note("cluster", "it has no token (--insecure): everybody who reaches the gossip port is believed", "give all hosts one --token: see docs/operations.md")
	}
	if s.Node.Spoofable != "" {
		note("antispoof", "containers of this host can send forged VXLAN to other hosts: "+s.Node.Spoofable, "have a firewall drop what containers forward to the VXLAN port: see SECURITY.md")
	}
	for _, cpu := range s.Datapath.Stuck {
		note(fmt.Sprint("packet worker on CPU ", cpu), "it does not run: containers' packets wait for it", stuckAdvice)
	}
	if s.Names.Off != "" {
		note("names", "containers find those of other hosts by address alone: "+s.Names.Off, "see docs/names.md")
	} else if s.Names.Engine != "" && slices.ContainsFunc(s.Endpoints, isUnnamed) {
		note("names", "containers of this host have none: "+s.Names.Engine, "see docs/names.md")
	}
	for _, sandbox := range slices.Sorted(maps.Keys(s.Names.Failed)) {
		note("names in "+sandbox, s.Names.Failed[sandbox], "")
	}
	for _, t := range s.Datapath.Tables {
		if t.NearlyFull {
			note("table of "+t.Name, fmt.Sprintf("%d of %d entries are in use", t.Entries, t.Capacity), FullAdvice)
		}
	}
	return all
}

// isUnnamed is of a container without a name. A host that has none may do without Docker.
func isUnnamed(e EndpointStatus) bool { return e.Endpoint.Host == nil && e.Names == "" }

func containerProblems(endpoints []EndpointStatus) (all []Problem) {
	for _, e := range endpoints {
		if e.Reason != "" {
			all = append(all, Problem{What: fmt.Sprintf("container %s on %s", cmp.Or(e.container(), short(e.ID)), e.Network), Health: e.Health})
		}
	}
	return all
}

// networkProblems are those of networks and containers.
func (s *Status) networkProblems() (all []Problem) {
	note := func(what, reason, advice string) {
		all = append(all, Problem{What: what, Health: Health{reason, advice}})
	}
	for _, r := range s.Refused {
		all = append(all, Problem{fmt.Sprintf("network %s of host %s is refused", r.TheirKey, r.TheirHost), r.TheirHost, Health{fmt.Sprintf("it and %s of this host have one key or one VNI, and are not the same", r.Key), r.Advice}})
	}
	for _, n := range s.Everywhere {
		if n.Reason != "" {
			note("network "+n.Name, "it is not as defined for all hosts: "+n.Reason, "see `overlane network ls`")
		}
	}
	all = append(all, containerProblems(s.Endpoints)...)
	for _, c := range s.Conflicts {
		note(fmt.Sprintf("address %s of %s", c.Address, c.Network), "it is claimed by "+strings.Join(c.Claims, " and "), conflictAdvice)
	}
	for _, p := range s.Pending {
		note(fmt.Sprintf("%s of %s", p.What, p.Network), fmt.Sprintf("%s; tried %d times", p.Reason, p.Tries), "it is tried again until it succeeds; if this lasts, see the daemon's log")
	}
	return all
}
