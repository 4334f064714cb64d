package overlay

import (
	"fmt"
	"slices"
	"strings"

	"github.com/overlane/overlane/discovery"
)

// Withdraw takes the endpoints of hosts that are down, by name or the beginning of an ID, out of use on this host, and gives the hosts'
// names; without any named those of all that are down. It is an operator's word that it is not this host which is cut off.
func (o *Overlay) Withdraw(hosts []string) ([]string, error) {
	var down []discovery.Member
	for _, m := range o.cluster.Members() {
		if m.State == discovery.StateDead {
			down = append(down, m)
		}
	}
	chosen := down
	if len(hosts) > 0 {
		chosen = nil
	}
	for _, host := range hosts {
		called := slices.DeleteFunc(slices.Clone(down), func(m discovery.Member) bool { return m.Host != host })
		if len(called) == 0 && host != "" {
			called = slices.DeleteFunc(slices.Clone(down), func(m discovery.Member) bool { return !strings.HasPrefix(m.ID, host) })
		}
		if len(called) == 0 {
			return nil, fmt.Errorf("node %q: no host that is down is called so: %s", host, listed(down))
		}
		chosen = append(chosen, called...)
	}
	var names []string
	for _, m := range chosen {
		if err := o.cluster.Withdraw(m.ID); err != nil {
			return nil, err
		}
		names = append(names, hostOf(m, m.ID))
	}
	return names, nil
}

// listed says which hosts are down.
func listed(down []discovery.Member) string {
	if len(down) == 0 {
		return "none is down"
	}
	names := make([]string, len(down))
	for i, m := range down {
		names[i] = fmt.Sprintf("%s (%s)", hostOf(m, m.ID), short(m.ID))
	}
	return "those are " + strings.Join(names, ", ")
}
