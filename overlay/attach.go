package overlay

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/hostnet"
	"github.com/overlane/overlane/overlay/ipam"
)

// An attachment is this host's own interface on a network: an endpoint like a container's, whose tap stays in the daemon's namespace.

// Host is what overlay needs of package hostnet.
type Host interface {
	Uses(subnet netip.Prefix) (what string, err error)
	Has(name string) (bool, error)
	HasIPv6() bool
	Isolate([]hostnet.Interface) error
	Antispoof([]netip.AddrPort) error
	SetUp(hostnet.Interface) error
	Check(hostnet.Interface) error
	WriteNames([]hostnet.HostsLine) error
}

// HostInterface is what an attachment has beside an endpoint, as it is stored.
type HostInterface struct {
	Name  string         `json:"name"`  // of the interface
	Addrs []netip.Prefix `json:"addrs"` // those of the endpoint, with their subnets' lengths
}

// AttachSpec is an operator's wish for an attachment.
type AttachSpec struct {
	Network string   `json:"network"` // what Docker calls it here, its key, or ID
	Addrs   []string `json:"addrs"`   // with or without the prefix length; none: those that overlane hands out
	Name    string   `json:"name"`    // by which others find this host; empty: the host's
	// The network is encrypted: it must not be plain on others.
	Encrypted bool `json:"encrypted"`
}

// Attachment is how this host takes part in a network itself.
type Attachment struct {
	Network   string         `json:"network"` // key
	Called    string         `json:"called"`  // what Docker calls the network here; empty: not known
	Interface string         `json:"interface"`
	Addrs     []netip.Prefix `json:"addrs"`
	MAC       discovery.MAC  `json:"mac"`
	Names     string         `json:"names"`
	Hosts     []string       `json:"hosts"` // others that take part in the network
	Lacks     string         `json:"lacks"` // why it does not work; empty: it does
}

// completeWait is how long an attachment to a network that is new here waits to hear who has which addresses.
const completeWait = 3 * time.Second

// AttachHost gives this host an interface on a network. The same wish again succeeds.
func (o *Overlay) AttachHost(spec AttachSpec) (Attachment, error) {
	o.attached.changing.Lock()
	defer o.attached.changing.Unlock()
	given, err := parseGiven(spec.Addrs)
	if err != nil {
		return Attachment{}, err
	}
	names, err := o.hostNames(spec.Name)
	if err != nil {
		return Attachment{}, err
	}
	id, err := o.networkOf(spec.Network)
	if err != nil {
		return Attachment{}, err
	}
	if id != "" {
		if spec.Encrypted && !o.IsEncrypted(id) {
			return Attachment{}, fmt.Errorf("--encrypted: network %s is plain on this host: make it anew with -o %s, or leave the flag out", spec.Network, OptionEncrypted)
		}
		return o.attachTo(id, spec, given, names)
	}
	if id, err = o.makeNetwork(spec.Network, given, spec.Encrypted); err != nil {
		return Attachment{}, err
	}
	a, err := o.attachTo(id, spec, given, names)
	if err != nil {
		err = errors.Join(err, o.unmakeNetwork(id))
	}
	return a, err
}

// given is an address that an operator chose.
type given struct {
	addr netip.Addr
	bits int // of its subnet; -1: not said
}

func parseGiven(texts []string) (all []given, err error) {
	for _, text := range texts {
		g := given{bits: -1}
		if p, err := netip.ParsePrefix(text); err == nil {
			g = given{p.Addr(), p.Bits()}
		} else if g.addr, err = netip.ParseAddr(text); err != nil {
			return nil, fmt.Errorf("--address %q: want one such as 10.20.0.9 or 10.20.0.9/16", text)
		}
		if !g.addr.IsGlobalUnicast() || g.addr.Zone() != "" || g.addr.Is4In6() {
			return nil, fmt.Errorf("--address %q: is none that a host can have on a network", text)
		}
		if slices.ContainsFunc(all, func(other given) bool { return other.addr.Is4() == g.addr.Is4() }) {
			return nil, fmt.Errorf("--address %q: want one of IPv4 and one of IPv6 at most", text)
		}
		all = append(all, g)
	}
	return all, nil
}

// hostNames gives what others find this host by: the name that was chosen, or the host's, to its first dot as well.
func (o *Overlay) hostNames(chosen string) (string, error) {
	name := cmp.Or(chosen, o.cluster.Self().Host)
	names := []string{name}
	if short, _, dotted := strings.Cut(name, "."); dotted && chosen == "" {
		names = []string{short, name}
	}
	text, left := namesThatFit(names)
	if len(left) > 0 {
		return "", fmt.Errorf("--name %q: want labels of letters, digits, '-' and '_', with dots between them", name)
	}
	return text, nil
}

// attachTo makes the endpoint on a network of this host.
func (o *Overlay) attachTo(id string, spec AttachSpec, given []given, names string) (Attachment, error) {
	n, known, err := o.attachmentOn(id)
	if err != nil || known != nil {
		return o.again(known, spec, given, err)
	}
	mac := newMAC(nil)
	addrs, err := o.takeAddrs(&n, given, mac)
	if err != nil {
		return Attachment{}, err
	}
	a, err := o.attachWith(&n, addrs, mac, names)
	if err != nil && o.hasAttachment(id) {
		return Attachment{}, fmt.Errorf("%w: run `overlane detach %s`", err, n.Key)
	}
	if err != nil {
		return Attachment{}, errors.Join(err, o.giveBack(addrs))
	}
	o.refreshNames()
	return a, nil
}

// hasAttachment says whether this host has an endpoint of its own on a network, though it may not work.
func (o *Overlay) hasAttachment(id string) bool {
	_, a, err := o.attachmentOn(id)
	return err == nil && a != nil
}

// attachmentOn gives a network as it is stored, with what it is called, and this host's attachment to it if there is one.
func (o *Overlay) attachmentOn(id string) (Network, *Attachment, error) {
	n, unlock, err := o.lock(id)
	if err != nil {
		return Network{}, nil, err
	}
	defer unlock()
	if ep := n.ownEndpoint(); ep != nil {
		a := n.attachment(ep, o.cluster.Members())
		return n.Network, &a, nil
	}
	return n.Network, nil, nil
}

// ownEndpoint is this host's on a network that is locked; nil: it has none.
func (n *network) ownEndpoint() *endpoint {
	for _, ep := range n.endpoints {
		if ep.Host != nil {
			return ep
		}
	}
	return nil
}

// isAttached is for a network that is not locked.
func (n *network) isAttached() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ownEndpoint() != nil
}

// hasEndpoints is for a network that is not locked.
func (n *network) hasEndpoints() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.endpoints) > 0
}

func (n *network) attachment(ep *endpoint, members []discovery.Member) Attachment {
	a := Attachment{Network: n.Key, Called: n.called, Interface: ep.Host.Name, Addrs: ep.Host.Addrs, MAC: ep.MAC, Names: ep.Names}
	a.Hosts = hostsAt(members, n.remotes.hasVTEP)
	switch err := cmp.Or(ep.retry.err, n.retry.err); {
	case err != nil:
		a.Lacks = err.Error()
	case !ep.announced:
		a.Lacks = "it is not announced yet"
	}
	return a
}

// again answers a wish of a host that is attached already.
func (o *Overlay) again(a *Attachment, spec AttachSpec, wanted []given, err error) (Attachment, error) {
	if err != nil {
		return Attachment{}, err
	}
	has := func(g given) bool {
		return slices.ContainsFunc(a.Addrs, func(p netip.Prefix) bool { return p.Addr() == g.addr && (g.bits < 0 || g.bits == p.Bits()) })
	}
	named := spec.Name == "" || spec.Name == a.Names
	if named && !slices.ContainsFunc(wanted, func(g given) bool { return !has(g) }) {
		return *a, nil
	}
	return Attachment{}, fmt.Errorf("network %s: this host is attached to it already, with %s as %q: run `overlane detach %s` first", a.Network, joinedBy(", ", a.Addrs), a.Names, a.Network)
}

// joinedBy lists values for people.
func joinedBy[T fmt.Stringer](separator string, values []T) string {
	var texts []string
	for _, v := range values {
		texts = append(texts, v.String())
	}
	return strings.Join(texts, separator)
}

// attachWith makes the endpoint, with addresses that are this host's by now.
func (o *Overlay) attachWith(net *Network, addrs []netip.Prefix, mac discovery.MAC, names string) (Attachment, error) {
	if err := o.checkRoutes(addrs); err != nil {
		return Attachment{}, err
	}
	name, err := o.freeInterface(net)
	if err != nil {
		return Attachment{}, err
	}
	ep := &endpoint{changed: time.Now(), Endpoint: Endpoint{
		ID: newID(), NetworkID: net.ID, MAC: mac, State: StateJoined, Trust: TrustNone, Names: names, Host: &HostInterface{name, addrs},
	}}
	for _, p := range addrs {
		ep.Addrs = append(ep.Addrs, p.Addr())
	}
	unreachable := o.unreachableOwners(&ep.Endpoint)
	underlay, err := o.cfg.UnderlayMTU(o.peers())
	if err != nil {
		return Attachment{}, err
	}
	n, unlock, err := o.lock(net.ID)
	if err != nil {
		return Attachment{}, err
	}
	defer unlock()
	for _, other := range n.endpoints {
		if slices.ContainsFunc(ep.Addrs, func(addr netip.Addr) bool { return slices.Contains(other.Addrs, addr) }) {
			return Attachment{}, fmt.Errorf("addresses %v in network %s: endpoint %s on this host has %v: remove its container, or choose another address with --address", ep.Addrs, n.Key, short(other.ID), other.Addrs)
		}
	}
	if err := o.checkConflicts(n, &ep.Endpoint, unreachable); err != nil {
		return Attachment{}, asAddress(err)
	}
	ep.MTU, ep.Seq = o.todaysMTU(n, underlay), o.nextSeq(n, &ep.Endpoint)
	if err := o.create(n, ep); err != nil {
		return Attachment{}, errors.Join(err, o.unshut(ep))
	}
	if err := o.bringUpEndpoint(n, ep); err != nil {
		return Attachment{}, errors.Join(err, o.remove(n, ep))
	}
	o.nameLocal(n, ep)
	n.logOf(ep).WithField("interface", name).Info("this host is attached to the network")
	return n.attachment(ep, o.cluster.Members()), nil
}

// newID is one like Docker's.
func newID() string {
	var id [32]byte
	rand.Read(id[:]) // never fails (crypto/rand)
	return hex.EncodeToString(id[:])
}

var errNoIPv6 = errors.New("IPv6 is off on this host's new interfaces: set net.ipv6.conf.default.disable_ipv6 to 0 first")

// takeAddrs chooses this host's addresses on a network, and leases those that overlane hands out.
func (o *Overlay) takeAddrs(n *Network, chosen []given, mac discovery.MAC) (addrs []netip.Prefix, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, o.giveBack(addrs))
		}
	}()
	six := o.cfg.Host.HasIPv6()
	for _, g := range chosen {
		if g.addr.Is6() && !six {
			return addrs, fmt.Errorf("--address %s: %w", g.addr, errNoIPv6)
		}
		pool, err := poolOf(n, g)
		if err != nil {
			return addrs, err
		}
		addr := netip.PrefixFrom(g.addr, pool.Bits())
		if key := o.addresses.KeyOf(pool); key != "" {
			if addr, err = o.addresses.RequestAddress(ipam.PoolID(key, pool), ipam.Request{Addr: g.addr, MAC: mac.String()}); err != nil {
				return addrs, asAddress(err)
			}
		}
		addrs = append(addrs, addr)
	}
	for _, pool := range n.Pools {
		key := o.addresses.KeyOf(pool)
		if key == "" || pool.Addr().Is6() && !six || slices.ContainsFunc(addrs, func(a netip.Prefix) bool { return a.Addr().Is4() == pool.Addr().Is4() }) {
			continue
		}
		addr, err := o.addresses.RequestAddress(ipam.PoolID(key, pool), ipam.Request{MAC: mac.String()})
		if err != nil {
			return addrs, err
		}
		addrs = append(addrs, addr)
	}
	if len(addrs) == 0 && !six && !slices.ContainsFunc(n.Pools, func(p netip.Prefix) bool { return p.Addr().Is4() }) {
		return nil, fmt.Errorf("network %s: %w", n.Key, errNoIPv6)
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("network %s: its addresses are handed out by Docker, on each host: give --address with one of %s that no container gets, as by --ip-range or --aux-address", n.Key, joinedBy(" or ", n.Pools))
	}
	return addrs, nil
}

// poolOf is the subnet of a network that an address is in.
func poolOf(n *Network, g given) (netip.Prefix, error) {
	if !slices.ContainsFunc(n.Pools, func(p netip.Prefix) bool { return p.Bits() > 0 }) { // Docker's null driver gives 0.0.0.0/0
		if g.bits <= 0 {
			return netip.Prefix{}, fmt.Errorf("--address %s: the subnet of network %s is not known: add its prefix length, as in %s/16", g.addr, n.Key, g.addr)
		}
		return netip.PrefixFrom(g.addr, g.bits).Masked(), nil
	}
	for _, pool := range n.Pools {
		switch {
		case pool.Bits() == 0 || !pool.Contains(g.addr):
		case g.bits >= 0 && g.bits != pool.Bits():
			return pool, fmt.Errorf("--address %s/%d: the subnet of network %s is %s: give --address %s", g.addr, g.bits, n.Key, pool, g.addr)
		case g.addr == pool.Masked().Addr():
			return pool, fmt.Errorf("--address %s: is that of subnet %s itself: give one of its others", g.addr, pool)
		default:
			return pool, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("--address %s: is in no subnet of network %s: those are %s", g.addr, n.Key, joinedBy(" and ", n.Pools))
}

// dockersFlag is that by which Docker is given an address.
var dockersFlag = regexp.MustCompile(`--ip([ ,;:]|$)`)

// asAddress names the flag of `overlane attach` in errors that speak of Docker's.
func asAddress(err error) error {
	return errors.New(dockersFlag.ReplaceAllString(err.Error(), "--address$1"))
}

// checkRoutes refuses subnets of which this host reaches some otherwise: it would not any more.
func (o *Overlay) checkRoutes(addrs []netip.Prefix) error {
	members := o.cluster.Members()
	for _, addr := range addrs {
		for _, m := range members {
			if subnet := addr.Masked(); subnet.Contains(m.VTEP.Addr()) || subnet.Contains(m.Addr.Addr()) {
				return fmt.Errorf("subnet %s: host %s of the cluster is at %s, and would be looked for on the network: make it with another --subnet", subnet, m.Host, m.VTEP.Addr())
			}
		}
		what, err := o.cfg.Host.Uses(addr.Masked())
		if err != nil {
			return err
		}
		if what != "" {
			return fmt.Errorf("subnet %s: this host has %s, and would reach that no more: take it away from the host, or make the network with another --subnet", addr.Masked(), what)
		}
	}
	return nil
}

// freeInterface finds a name for an interface, recognisable and of 15 bytes at most (IFNAMSIZ of linux/if.h).
func (o *Overlay) freeInterface(n *Network) (string, error) {
	const longest = 15
	_, text, _ := strings.Cut(n.Key, "=")
	if called := o.calledOf(n.ID); called != "" {
		text = called
	}
	if p, err := netip.ParsePrefix(text); err == nil {
		text = p.Addr().String()
	}
	text = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, text)
	for try := 1; ; try++ {
		suffix := ""
		if try > 1 {
			suffix = fmt.Sprintf("-%d", try)
		}
		fits := longest - len(hostnet.Prefix) - len(suffix)
		name := hostnet.Prefix + strings.Trim(text[:min(len(text), fits)], "-") + suffix
		taken, err := o.cfg.Host.Has(name)
		if err != nil {
			return "", err
		}
		if !taken && !o.attached.has(name) {
			return name, nil
		}
	}
}

func (o *Overlay) calledOf(id string) string {
	n, unlock, err := o.lock(id)
	if err != nil {
		return ""
	}
	defer unlock()
	return n.called
}

// DetachHost takes this host off a network, and gives back what it had there.
func (o *Overlay) DetachHost(network string) (Attachment, error) {
	o.attached.changing.Lock()
	defer o.attached.changing.Unlock()
	for _, a := range o.listAttachments() {
		if a.Interface == network {
			network = a.Network
		}
	}
	id, err := o.networkOf(network)
	if err != nil {
		return Attachment{}, err
	}
	_, a, err := o.attachmentOn(id)
	if err != nil || a == nil {
		return Attachment{}, fmt.Errorf("network %s: this host is not attached to it: `overlane attach` lists those that it is attached to", network)
	}
	return *a, o.detach(id)
}

// DetachAll takes this host off all networks.
func (o *Overlay) DetachAll() ([]Attachment, error) {
	o.attached.changing.Lock()
	defer o.attached.changing.Unlock()
	all := o.listAttachments()
	var errs []error
	for _, a := range all {
		id, err := o.networkOf(a.Network)
		if err == nil {
			err = o.detach(id)
		}
		errs = append(errs, err)
	}
	return all, errors.Join(errs...)
}

func (o *Overlay) detach(id string) error {
	n, unlock, err := o.lock(id)
	if err != nil {
		return err
	}
	made := n.Made
	var addrs []netip.Prefix
	if ep := n.ownEndpoint(); ep != nil {
		addrs = ep.Host.Addrs
		err = o.remove(n, ep)
	}
	unlock()
	if err != nil {
		return err
	}
	err = o.giveBack(addrs)
	if made {
		err = errors.Join(err, o.unmakeNetwork(id))
	}
	o.refreshNames()
	return err
}

// Attachments lists those of this host, by network.
func (o *Overlay) Attachments() []Attachment {
	all := o.listAttachments()
	o.attached.mu.Lock()
	defer o.attached.mu.Unlock()
	for i := range all {
		all[i].Lacks = cmp.Or(all[i].Lacks, o.attached.failure)
	}
	return all
}

func (o *Overlay) listAttachments() []Attachment {
	members := o.cluster.Members()
	o.mu.RLock()
	defer o.mu.RUnlock()
	all := []Attachment{}
	for _, n := range o.networks {
		n.mu.Lock()
		if ep := n.ownEndpoint(); ep != nil {
			all = append(all, n.attachment(ep, members))
		}
		n.mu.Unlock()
	}
	slices.SortFunc(all, func(a, b Attachment) int { return cmp.Compare(a.Network, b.Network) })
	return all
}
