package networks

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/overlane/overlane/engine"
)

// Definition says what a network is, on all hosts that have it.
type Definition struct {
	Name    string      `json:"name"`              // Docker's
	Version uint64      `json:"version"`           // of two definitions of a name the one with the higher version counts
	Origin  string      `json:"origin"`            // Member.ID of the host on which it was made, or removed
	Removed bool        `json:"removed,omitempty"` // what follows is empty
	Only    []string    `json:"only,omitempty"`    // hosts that have it, by name or Member.ID; empty: all
	Spec    engine.Spec `json:"spec"`              // without the driver, which hosts call differently
}

// OwnIPAM stands in a Spec for overlane's own address management, which hosts call differently too.
const OwnIPAM = "overlane"

// dockerIPAM is Docker's own, on each host for itself.
const dockerIPAM = "default"

// Option marks networks that are everywhere, with the value "true", among the options of `docker network create -o`.
const Option = "everywhere"

// Label is that of networks that overlane made by a definition: its identity.
const Label = "overlane.definition"

// Limits of what is taken from other hosts. A host keeps to them in what it sends.
const (
	maxDefinitions = 1000    // that hosts hold, those of removed networks aside
	maxRemoved     = 1000    // of those the oldest are forgotten
	maxSpec        = 3 << 10 // bytes of JSON
	maxOnly        = 256     // hosts of a definition
	maxHostName    = 255     // bytes
	maxVersion     = 1<<53 - 1
)

// name is the form that Docker demands of a network's name.
var name = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)

// identity tells a definition from others of its name.
func (d *Definition) identity() string { return fmt.Sprintf("%d@%s", d.Version, d.Origin) }

// beats says whether the definition counts, and not another one of its name.
func (d *Definition) beats(other *Definition) bool {
	return other == nil || cmp.Or(cmp.Compare(d.Version, other.Version), cmp.Compare(d.Origin, other.Origin), bytes.Compare(d.text(), other.text())) > 0
}

// text is the same for equal definitions.
func (d *Definition) text() []byte {
	text, _ := json.Marshal(d) // never fails: maps are sorted
	return text
}

// appliesTo says whether a host has the network.
func (d *Definition) appliesTo(id, host string) bool {
	return len(d.Only) == 0 || slices.Contains(d.Only, id) || slices.Contains(d.Only, host)
}

// check says what is wrong with a definition that a host is to hold.
func (d *Definition) check() error {
	spec, _ := json.Marshal(d.Spec)
	switch {
	case !name.MatchString(d.Name):
		return fmt.Errorf("network name %q: want 1 to 128 letters, digits, '_', '.' or '-', the first a letter or digit", d.Name)
	case d.Version == 0 || d.Version > maxVersion:
		return fmt.Errorf("network %s: version %d: want one from 1 to %d", d.Name, d.Version, uint64(maxVersion))
	case len(spec) > maxSpec:
		return fmt.Errorf("network %s: %d bytes of options, labels and subnets, at most %d: leave some out", d.Name, len(spec), maxSpec)
	case len(d.Only) > maxOnly:
		return fmt.Errorf("network %s: --only with %d hosts, at most %d", d.Name, len(d.Only), maxOnly)
	case d.Removed:
		return nil
	case d.Spec.Options[Option] != "true":
		return fmt.Errorf("network %s: option %s is %q: want true", d.Name, Option, d.Spec.Options[Option])
	case d.Spec.IPAM.Driver != OwnIPAM && d.Spec.IPAM.Driver != dockerIPAM:
		return fmt.Errorf("network %s: --ipam-driver %q: want %s or %s", d.Name, d.Spec.IPAM.Driver, OwnIPAM, dockerIPAM)
	}
	for _, host := range d.Only {
		if host == "" || len(host) > maxHostName {
			return fmt.Errorf("network %s: --only %q: want a host's name or ID", d.Name, host)
		}
	}
	return checkPools(d.Name, d.Spec.IPAM.Config)
}

// checkPools demands a subnet: without one each host's engine would choose another.
func checkPools(name string, pools []engine.Pool) error {
	if len(pools) == 0 {
		return fmt.Errorf("network %s: it has no subnet: give --subnet", name)
	}
	for _, p := range pools {
		subnet, err := netip.ParsePrefix(p.Subnet)
		if err != nil {
			return fmt.Errorf("network %s: --subnet %q: want one such as 10.20.0.0/16", name, p.Subnet)
		}
		within := func(what, text string, addr netip.Addr, err error) error {
			if err != nil || !subnet.Contains(addr) {
				return fmt.Errorf("network %s: %s %q is not in subnet %s", name, what, text, subnet)
			}
			return nil
		}
		var errs []error
		if p.IPRange != "" {
			part, err := netip.ParsePrefix(p.IPRange)
			errs = append(errs, within("--ip-range", p.IPRange, part.Addr(), err))
		}
		if p.Gateway != "" {
			addr, err := netip.ParseAddr(p.Gateway)
			errs = append(errs, within("--gateway", p.Gateway, addr, err))
		}
		for _, key := range slices.Sorted(maps.Keys(p.AuxiliaryAddresses)) {
			addr, err := netip.ParseAddr(p.AuxiliaryAddresses[key])
			errs = append(errs, within("--aux-address "+key, p.AuxiliaryAddresses[key], addr, err))
		}
		if err := errors.Join(errs...); err != nil {
			return err
		}
	}
	return nil
}

// general is a network of this host's engine in the words of a definition.
func general(n engine.Network) engine.Spec {
	spec := n.Spec
	if engine.SameDriver(spec.IPAM.Driver, spec.Driver) {
		spec.IPAM.Driver = OwnIPAM
	}
	spec.Driver = ""
	spec.Labels = maps.Clone(spec.Labels)
	delete(spec.Labels, Label)
	return spec
}

// local is a definition in the words of this host's engine, which knows overlane by the name of a driver.
func (d *Definition) local(driver string) engine.Spec {
	spec := d.Spec
	spec.Driver = driver
	if spec.IPAM.Driver == OwnIPAM {
		spec.IPAM.Driver = driver
	}
	spec.Labels = maps.Clone(spec.Labels)
	if spec.Labels == nil {
		spec.Labels = map[string]string{}
	}
	spec.Labels[Label] = d.identity()
	return spec
}

// same says whether two networks are made alike, whatever labels they have. A gateway that one of them leaves open is no difference.
func same(a, b engine.Spec) bool {
	pool := func(p, q engine.Pool) bool {
		return p.Subnet == q.Subnet && p.IPRange == q.IPRange && (p.Gateway == q.Gateway || p.Gateway == "" || q.Gateway == "") && maps.Equal(p.AuxiliaryAddresses, q.AuxiliaryAddresses)
	}
	return a.Internal == b.Internal && a.EnableIPv6 == b.EnableIPv6 && a.IPAM.Driver == b.IPAM.Driver &&
		maps.Equal(a.IPAM.Options, b.IPAM.Options) && maps.Equal(a.Options, b.Options) && slices.EqualFunc(sorted(a.IPAM.Config), sorted(b.IPAM.Config), pool)
}

func sorted(pools []engine.Pool) []engine.Pool {
	return slices.SortedFunc(slices.Values(pools), func(a, b engine.Pool) int { return strings.Compare(a.Subnet, b.Subnet) })
}
