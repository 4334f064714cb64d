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
	Name    string          `json:"name"`              // Docker's
	Version uint64          `json:"version"`           // of two definitions of a name the one with the higher version counts
	Origin  string          `json:"origin"`            // Member.ID of the host on which it was made, or removed
	Removed bool            `json:"removed,omitempty"` // what follows is empty
	Only    []string        `json:"only,omitempty"`    // hosts that have it, by name or Member.ID; empty: all
	Spec    json.RawMessage `json:"spec,omitempty"`    // an engine.Spec without the driver, which hosts call differently
}

// Spec is kept and passed on as it came: a later version may have put more into it.

// OwnIPAM stands in a Spec for overlane's own address management, which hosts call differently too.
const OwnIPAM = "overlane"

// dockerIPAM is Docker's own, on each host for itself.
const dockerIPAM = "default"

// Option marks networks that are everywhere, with the value "true", among the options of `docker network create -o`.
const Option = "everywhere"

// OptionEncrypted is the option by which a network is encrypted.
const OptionEncrypted = "encrypted"

// Label is that of networks that overlane made by a definition: its identity.
const Label = "overlane.definition"

// Limits of what is taken from other hosts. A host keeps to them in what it sends: all that it holds fits one message.
const (
	maxDefinitions = 1000    // that users can make, those of removed networks aside
	maxHeld        = 1100    // of them that are held, for hosts may make some at the same time
	maxRemoved     = 4000    // of those the oldest are forgotten
	maxSpec        = 3 << 10 // bytes of a definition's JSON
	maxHostName    = 255     // bytes
	maxVersion     = 1<<53 - 1
)

// name is the form that Docker demands of a network's name.
var name = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)

// identity tells a definition from others of its name, and from those alone.
func (d *Definition) identity() string { return fmt.Sprintf("%d@%s", d.Version, d.Origin) }

// beats says whether the definition counts, and not another one of its name.
func (d *Definition) beats(other *Definition) bool {
	return other == nil || cmp.Or(cmp.Compare(d.Version, other.Version), cmp.Compare(d.Origin, other.Origin), bytes.Compare(d.text(), other.text())) > 0
}

// text is the same for equal definitions.
func (d *Definition) text() []byte {
	text, _ := json.Marshal(d) // fails for a Spec alone that is no JSON, which check refuses
	return text
}

// appliesTo says whether a host has the network.
func (d *Definition) appliesTo(id, host string) bool {
	return len(d.Only) == 0 || slices.Contains(d.Only, id) || slices.Contains(d.Only, host)
}

// Network reads the Spec, as far as this version knows it.
func (d *Definition) Network() (spec engine.Spec) {
	json.Unmarshal(d.Spec, &spec) // what is no such JSON was refused
	return spec
}

// write sets the Spec.
func (d *Definition) write(spec engine.Spec) (err error) {
	d.Spec, err = json.Marshal(spec)
	return err
}

// check says what is wrong with a definition that a host is to hold.
func (d *Definition) check() error {
	var spec engine.Spec
	switch {
	case !name.MatchString(d.Name):
		return fmt.Errorf("network name %q: want 1 to 128 letters, digits, '_', '.' or '-', the first a letter or digit", d.Name)
	case d.Version == 0 || d.Version > maxVersion:
		return fmt.Errorf("network %s: version %d: want one from 1 to %d", d.Name, d.Version, uint64(maxVersion))
	case len(d.text()) > maxSpec:
		return fmt.Errorf("network %s: %d bytes of options, labels, subnets and hosts, at most %d: leave some out", d.Name, len(d.text()), maxSpec)
	case d.Removed && (len(d.Only) > 0 || len(d.Spec) > 0):
		return fmt.Errorf("network %s: it is removed, and defined", d.Name)
	case d.Removed:
		return nil
	}
	if err := json.Unmarshal(d.Spec, &spec); err != nil {
		return fmt.Errorf("network %s: %w", d.Name, err)
	}
	switch {
	case spec.Options[Option] != "true":
		return fmt.Errorf("network %s: option %s is %q: want true", d.Name, Option, spec.Options[Option])
	case spec.IPAM.Driver != OwnIPAM && spec.IPAM.Driver != dockerIPAM:
		return fmt.Errorf("network %s: --ipam-driver %q: want %s or %s", d.Name, spec.IPAM.Driver, OwnIPAM, dockerIPAM)
	}
	for _, host := range d.Only {
		if host == "" || len(host) > maxHostName {
			return fmt.Errorf("network %s: --only %q: want a host's name or ID", d.Name, host)
		}
	}
	return checkPools(d.Name, spec.IPAM.Config)
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
	if spec.EnableIPv4 != nil && *spec.EnableIPv4 {
		spec.EnableIPv4 = nil
	}
	spec.IPAM.Config = slices.Clone(spec.IPAM.Config)
	for i, p := range spec.IPAM.Config {
		spec.IPAM.Config[i].Gateway = gatewayOf(p)
	}
	spec.Labels = maps.Clone(spec.Labels)
	delete(spec.Labels, Label)
	if value, given := spec.Options[OptionEncrypted]; given && value == "" {
		spec.Options = maps.Clone(spec.Options)
		spec.Options[OptionEncrypted] = "true"
	}
	return spec
}

// made is a network that a user has made on this host, in the words of a definition: other hosts may have been told otherwise of encryption.
func (m *Manager) made(n engine.Network) engine.Spec {
	spec := general(n)
	spec.Options = withEncryption(spec.Options, m.cfg.Encrypted(n.ID))
	return spec
}

// withEncryption are the options of a network that is encrypted, or not, also where they did not say so.
func withEncryption(given map[string]string, encrypted bool) map[string]string {
	if _, chosen := given[OptionEncrypted]; chosen || !encrypted {
		return given
	}
	options := map[string]string{OptionEncrypted: "true"}
	maps.Copy(options, given)
	return options
}

// gatewayOf is a pool's gateway, if it has one: Docker 20.10 tells of one that it chose itself with its prefix length, and of none by "<nil>".
func gatewayOf(p engine.Pool) string {
	addr, _, _ := strings.Cut(p.Gateway, "/")
	if addr == "<nil>" {
		return ""
	}
	return addr
}

// local is a definition in the words of this host's engine, which knows overlane by the name of a driver.
func (d *Definition) local(driver string) (engine.Spec, error) {
	var spec engine.Spec
	strict := json.NewDecoder(bytes.NewReader(d.Spec))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&spec); err != nil {
		return spec, fmt.Errorf("a later version of overlane has defined it: upgrade this host (%w)", err)
	}
	spec.Driver = driver
	if spec.IPAM.Driver == OwnIPAM {
		spec.IPAM.Driver = driver
	}
	spec.Labels = maps.Clone(spec.Labels)
	if spec.Labels == nil {
		spec.Labels = map[string]string{}
	}
	spec.Labels[Label] = d.identity()
	return spec, nil
}

// same says whether two networks are made alike, whatever labels they have. A gateway that one of them leaves open is no difference.
func same(a, b engine.Spec) bool {
	pool := func(p, q engine.Pool) bool {
		return p.Subnet == q.Subnet && p.IPRange == q.IPRange && (p.Gateway == q.Gateway || p.Gateway == "" || q.Gateway == "") && maps.Equal(p.AuxiliaryAddresses, q.AuxiliaryAddresses)
	}
	return a.Internal == b.Internal && (a.EnableIPv4 == nil) == (b.EnableIPv4 == nil) && a.EnableIPv6 == b.EnableIPv6 && a.IPAM.Driver == b.IPAM.Driver &&
		maps.Equal(a.IPAM.Options, b.IPAM.Options) && maps.Equal(a.Options, b.Options) && slices.EqualFunc(sorted(a.IPAM.Config), sorted(b.IPAM.Config), pool)
}

func sorted(pools []engine.Pool) []engine.Pool {
	return slices.SortedFunc(slices.Values(pools), func(a, b engine.Pool) int { return strings.Compare(a.Subnet, b.Subnet) })
}
