package check

import (
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// firewall asks nft and iptables, where they are, for rules about VXLAN.
func firewall(port uint16) Result {
	asked, found, err := ask(port)
	r := Result{"firewall", OK, "", ""}
	switch {
	case asked == nil:
		r.State, r.Seen = Warn, "could not be told: "+err.Error()
		r.Cure = fmt.Sprintf("see that nothing drops UDP port %d from the other hosts", port)
	case found.drops != nil && found.accepts != nil:
		r.Seen = "rules say which hosts may send VXLAN: " + strings.Join(append(found.accepts, found.drops...), "; ")
	case slices.ContainsFunc(found.drops, plain.MatchString):
		r.State, r.Seen = Fail, "drops VXLAN: "+strings.Join(found.drops, "; ")
		r.Cure = fmt.Sprintf("remove the rule, or accept UDP port %d from the other hosts before it", port)
	case found.drops != nil:
		r.State, r.Seen = Warn, "drops some VXLAN: "+strings.Join(found.drops, "; ")
		r.Cure = "see that the rule is not about the other hosts"
	case found.closed != nil && found.accepts == nil:
		r.State, r.Seen = Warn, "drops what no rule accepts, and none names VXLAN: "+strings.Join(found.closed, "; ")
		r.Cure = fmt.Sprintf("accept UDP port %d from the other hosts, unless a rule does so that names no port", port)
	default:
		r.Seen = fmt.Sprintf("%s: no rule that drops UDP port %d", strings.Join(asked, ", "), port)
	}
	return r
}

// ask says who answered, and if nobody did, why not.
func ask(port uint16) (asked []string, found verdict, err error) {
	err = errors.New("neither nft nor iptables is here to ask")
	for _, command := range [][]string{{"nft", "list", "ruleset"}, {"iptables", "-S"}, {"ip6tables", "-S"}} {
		out, failed := exec.Command(command[0], command[1:]...).CombinedOutput()
		if failed == nil {
			asked = append(asked, command[0])
			found.add(judge(string(out), port))
		} else if !errors.Is(failed, exec.ErrNotFound) {
			err = fmt.Errorf("%s: %w: %s", command[0], failed, strings.TrimSpace(string(out)))
		}
	}
	return asked, found, err
}

// verdict is what rules for packets to and from this host itself say of a port.
type verdict struct {
	drops, accepts []string // rules that name the port
	closed         []string // chains that drop what no rule accepts
}

func (v *verdict) add(w verdict) {
	v.drops = append(v.drops, w.drops...)
	v.accepts = append(v.accepts, w.accepts...)
	v.closed = append(v.closed, w.closed...)
}

var (
	nftTable = regexp.MustCompile(`^table (\S+ \S+) \{`)
	nftChain = regexp.MustCompile(`^\s+chain (\S+) \{`)
	nftBase  = regexp.MustCompile(`^\s+type filter hook (input|output|prerouting) `)
	appended = regexp.MustCompile(`^-A (\S+) (.*)`)
	policy   = regexp.MustCompile(`^-P (INPUT|OUTPUT) `)
	target   = regexp.MustCompile(`(?:-j|-g|jump|goto) (\S+)`)
	closes   = regexp.MustCompile(`policy drop|^-P \S+ DROP`)
	drops    = regexp.MustCompile(`\b(?i:drop|reject)\b`)
	accepts  = regexp.MustCompile(`\b(?i:accept)\b`)
	// A rule that drops whoever sends.
	plain = regexp.MustCompile(`^-A \S+ (-p udp |-m udp |-m multiport |--dports? \S+ )*-j \S+|^udp dport (\S+|\{[^}]*\}) (counter packets \d+ bytes \d+ )?(drop|reject)`)
)

// judge reads what `nft list ruleset` or `iptables -S` writes. Chains that only forwarded packets meet are left out: there
// VXLAN of containers may well be dropped.
func judge(text string, port uint16) verdict {
	var v verdict
	rules := map[string][]string{}
	var roots []string
	table, chain := "", ""
	for line := range strings.Lines(text) {
		if m := nftTable.FindStringSubmatch(line); m != nil {
			table = m[1] + " "
		} else if m := nftChain.FindStringSubmatch(line); m != nil {
			chain = table + m[1]
		} else if m := appended.FindStringSubmatch(line); m != nil {
			rules[m[1]] = append(rules[m[1]], strings.TrimSpace(line))
		} else if m := policy.FindStringSubmatch(line); m != nil || nftBase.MatchString(line) {
			if m != nil {
				chain = m[1]
			}
			roots = append(roots, chain)
			if closes.MatchString(line) {
				v.closed = append(v.closed, chain)
			}
		} else if table != "" {
			rules[chain] = append(rules[chain], strings.TrimSpace(line))
		}
	}
	v.walk(rules, roots, regexp.MustCompile(fmt.Sprintf(`udp.*dports? .*\b%d\b`, port)))
	return v
}

// walk follows the jumps from chain to chain. A chain's name starts with its table's where there are tables.
func (v *verdict) walk(rules map[string][]string, chains []string, named *regexp.Regexp) {
	seen := map[string]bool{}
	for len(chains) > 0 {
		chain := chains[0]
		chains = chains[1:]
		if seen[chain] {
			continue
		}
		seen[chain] = true
		for _, rule := range rules[chain] {
			if m := target.FindStringSubmatch(rule); m != nil {
				chains = append(chains, chain[:strings.LastIndex(chain, " ")+1]+m[1])
			}
			switch {
			case !named.MatchString(rule):
			case drops.MatchString(rule):
				v.drops = append(v.drops, rule)
			case accepts.MatchString(rule):
				v.accepts = append(v.accepts, rule)
			}
		}
	}
}
