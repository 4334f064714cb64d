package check

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// traffic is what the other hosts send this one.
type traffic struct {
	what     string
	protocol byte // unix.IPPROTO_UDP or IPPROTO_TCP
	port     uint16
}

func vxlanTo(port uint16) traffic { return traffic{"VXLAN", unix.IPPROTO_UDP, port} }

func (t traffic) by() string {
	return map[byte]string{unix.IPPROTO_UDP: "udp", unix.IPPROTO_TCP: "tcp"}[t.protocol]
}

func (t traffic) String() string { return fmt.Sprintf("%s port %d", strings.ToUpper(t.by()), t.port) }

// firewalls looks for rules about VXLAN and gossip.
func firewalls(vxlanPort, gossipPort uint16) []Result {
	return []Result{
		firewall("firewall", vxlanTo(vxlanPort)),
		firewall("firewall, gossip by UDP", traffic{"gossip", unix.IPPROTO_UDP, gossipPort}),
		firewall("firewall, gossip by TCP", traffic{"gossip", unix.IPPROTO_TCP, gossipPort}),
	}
}

// firewall looks for rules about traffic in the kernel's nf_tables, and asks iptables, where it is.
func firewall(name string, about traffic) Result {
	asked, found, failures := ask(about)
	r := Result{name, OK, "", ""}
	switch {
	case asked == nil:
		r.State, r.Seen = Warn, "could not be told: "+strings.Join(failures, "; ")
		r.Cure = fmt.Sprintf("see that nothing drops %v from the other hosts", about)
	case found.drops != nil && found.accepts != nil:
		r.Seen = fmt.Sprintf("rules say which hosts may send %s: ", about.what) + texts(append(found.accepts, found.drops...))
	case slices.ContainsFunc(found.drops, func(r rule) bool { return r.plain }):
		r.State, r.Seen = Fail, "drops "+about.what+": "+texts(found.drops)
		r.Cure = fmt.Sprintf("remove the rule, or accept %v from the other hosts before it", about)
	case found.drops != nil:
		r.State, r.Seen = Warn, "drops some "+about.what+": "+texts(found.drops)
		r.Cure = "see that the rule is about none of the other hosts, and about no packets of theirs, such as long ones; else remove it"
	case found.closed != nil && found.accepts == nil:
		r.State, r.Seen = Warn, "drops what no rule accepts, and none names "+about.what+": "+strings.Join(found.closed, "; ")
		r.Cure = fmt.Sprintf("accept %v from the other hosts, unless a rule does so that names no port", about)
	default:
		r.Seen = fmt.Sprintf("%s: no rule that drops %v", strings.Join(asked, ", "), about)
	}
	return r
}

// ask says who answered, and if nobody did, why not.
func ask(about traffic) (asked []string, found verdict, failures []string) {
	for _, source := range []struct {
		name string
		read func() (ruleset, error)
	}{
		{"nftables", func() (ruleset, error) { return readNFTables(about) }},
		{"iptables", func() (ruleset, error) { return readIPTables("iptables", about) }},
		{"ip6tables", func() (ruleset, error) { return readIPTables("ip6tables", about) }},
	} {
		set, err := source.read()
		if err == nil {
			asked = append(asked, source.name)
			found.judge(set)
		} else if !errors.Is(err, exec.ErrNotFound) {
			failures = append(failures, fmt.Sprintf("%s: %v", source.name, err))
		}
	}
	return asked, found, failures
}

// ruleset is what a firewall has of rules, by chain.
type ruleset struct {
	rules  map[string][]rule
	roots  []string // chains that packets to and from this host itself meet first
	closed []string // of these, those that drop what no rule accepts
}

// rule is what is to be known of one.
type rule struct {
	text   string
	jumps  []string // chains that it may lead to
	action action
	named  bool // it is about the traffic's port
	plain  bool // it is about whoever sends
	all    bool // it is about whoever sends, and about all ports
}

type action int

const (
	goesOn action = iota
	accepts
	drops
	returns
)

// verdict is what rules for packets to and from this host itself say of traffic.
type verdict struct {
	drops, accepts []rule // that name the port
	closed         []string
}

// judge looks at all chains that packets to and from this host itself may meet. Those that only forwarded packets meet are left out: there
// VXLAN of containers may well be dropped. A rule that drops all that comes to it is how a chain without a policy is closed.
func (v *verdict) judge(set ruleset) {
	v.closed = append(v.closed, set.closed...)
	set.visit(func(r rule) (follow, on bool) {
		switch {
		case !r.named:
		case r.action == drops:
			v.drops = append(v.drops, r)
		case r.action == accepts:
			v.accepts = append(v.accepts, r)
		}
		return true, true
	})
	set.visit(func(r rule) (follow, on bool) {
		if r.all && r.action == drops {
			v.closed = append(v.closed, r.text)
		}
		// Not all come to what is behind a rule that has some go back, and none behind one for all.
		return r.all, r.action != returns && !(r.all && r.action != goesOn)
	})
}

// visit sees the rules of each chain once. It follows the jumps of those of which see says so, and goes on in the chain if it says that.
func (set ruleset) visit(see func(rule) (follow, on bool)) {
	seen := map[string]bool{}
	for chains := set.roots; len(chains) > 0; chains = chains[1:] {
		if seen[chains[0]] {
			continue
		}
		seen[chains[0]] = true
		for _, r := range set.rules[chains[0]] {
			follow, on := see(r)
			if follow {
				chains = append(chains, r.jumps...)
			}
			if !on {
				break
			}
		}
	}
}

func texts(rules []rule) string {
	var all []string
	for _, r := range rules {
		all = append(all, r.text)
	}
	return strings.Join(all, "; ")
}
