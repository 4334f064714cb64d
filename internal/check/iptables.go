package check

import (
	"fmt"
	"os/exec"
	"regexp"
	"strings"
)

var (
	appended = regexp.MustCompile(`^-A (\S+) `)
	policy   = regexp.MustCompile(`^-P (INPUT|OUTPUT) (\S+)`)
	target   = regexp.MustCompile(` -[jg] (\S+)`)
	// A rule for whoever sends.
	plain = regexp.MustCompile(`^-A \S+ (-p (udp|tcp) |-m (udp|tcp) |-m multiport |--dports? \S+ )*-j \S+`)
)

// aboutTraffic tells rules on the port of some traffic, and on all of its protocol.
type aboutTraffic struct{ named, all *regexp.Regexp }

func (t traffic) rules() aboutTraffic {
	return aboutTraffic{
		named: regexp.MustCompile(fmt.Sprintf(`-p %s .*--dports? \S*\b%d\b`, t.by(), t.port)),
		all:   regexp.MustCompile(fmt.Sprintf(`^-A \S+ (-p %[1]s |-m %[1]s )*-[jg] \S+`, t.by())),
	}
}

// readIPTables reads the rules of iptables, or of ip6tables: nf_tables has none of the legacy kind, and of matches such as
// multiport it has bytes alone. go-iptables would give the same lines to read, and start a process for each chain.
func readIPTables(command string, about traffic) (ruleset, error) {
	out, err := exec.Command(command, "-S").CombinedOutput()
	if err != nil {
		return ruleset{}, fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
	}
	rules := about.rules()
	set := ruleset{rules: map[string][]rule{}}
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if m := policy.FindStringSubmatch(line); m != nil {
			set.roots = append(set.roots, m[1])
			if m[2] == "DROP" {
				set.closed = append(set.closed, m[1])
			}
		} else if m := appended.FindStringSubmatch(line); m != nil {
			set.rules[m[1]] = append(set.rules[m[1]], parseIPTables(line, rules))
		}
	}
	return set, nil
}

func parseIPTables(line string, about aboutTraffic) rule {
	r := rule{text: line, named: about.named.MatchString(line), plain: plain.MatchString(line), all: about.all.MatchString(line)}
	m := target.FindStringSubmatch(line)
	if m == nil {
		return r
	}
	switch m[1] {
	case "DROP", "REJECT":
		r.action = drops
	case "ACCEPT":
		r.action = accepts
	case "RETURN":
		r.action = returns
	default:
		r.jumps = []string{m[1]}
	}
	return r
}
