package overlay

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/hostnet"
	"github.com/overlane/overlane/overlay/ipam"
)

// A probe is an endpoint like a container's, in a namespace of the daemon's own, from which connectivity is tested: on a network of this host, or on
// one that is there for the test alone. The namespace goes with the daemon. What is stored of a probe is then found to be without a container, and
// removed as that of any container which went while the daemon was down.

// Sandbox is what a probe needs of hostnet.Sandbox.
type Sandbox interface {
	Path() string
	HasIPv6() bool
	Move(hostnet.Interface) error
}

// ProbeSpec says which probe is wanted.
type ProbeSpec struct {
	Network string // name, key, subnet or ID of one that this host has; empty: Own
	Own     OwnNetwork
	Name    string // by which others find it
	Sandbox Sandbox
}

// OwnNetwork is one for a test alone.
type OwnNetwork struct {
	Name      string
	VNI       uint32
	Addrs     []netip.Prefix // of the probe
	Encrypted bool
}

// OwnKey is the key of such a network.
func OwnKey(name string) string { return OptionNetwork + "=" + name }

// Probe is a probe that works.
type Probe struct {
	Network   string // key
	Called    string // what Docker calls the network here; empty: not known
	Addrs     []netip.Prefix
	MTU       int
	Encrypted bool
	Tap       string // its port's name

	networkID, id string
}

// ErrNotHere says that this host has no part in the network.
var ErrNotHere = errors.New("this host has no part in the network")

// AddProbe makes a probe.
func (o *Overlay) AddProbe(spec ProbeSpec) (*Probe, error) {
	o.attached.changing.Lock()
	defer o.attached.changing.Unlock()
	id, err := o.networkForProbe(spec)
	if err != nil {
		return nil, err
	}
	p, err := o.addProbe(id, spec)
	if err != nil {
		return nil, errors.Join(err, o.unmakeNetwork(id))
	}
	return p, nil
}

// networkForProbe is the ID of the network, which is made if it is for the test alone.
func (o *Overlay) networkForProbe(spec ProbeSpec) (id string, err error) {
	if spec.Network == "" {
		return o.makeOwnNetwork(spec.Own)
	}
	id, err = o.networkOf(spec.Network)
	if err == nil && id == "" {
		err = fmt.Errorf("network %q: %w", spec.Network, ErrNotHere)
	}
	return id, err
}

// makeOwnNetwork has this host take part in a network for a test alone.
func (o *Overlay) makeOwnNetwork(own OwnNetwork) (string, error) {
	underlay, err := o.cfg.UnderlayMTU(o.peers())
	if err != nil {
		return "", err
	}
	if own.Encrypted && o.cfg.Insecure {
		return "", errOpenCluster
	}
	net := Network{ID: newID(), Key: OwnKey(own.Name), VNI: own.VNI, Options: map[string]string{OptionNetwork: own.Name}, Made: true, Called: own.Name, Encrypted: own.Encrypted}
	for _, addr := range own.Addrs {
		net.Pools = append(net.Pools, addr.Masked())
	}
	if net.MTU, err = containerMTU(0, underlay, o.cfg.VTEP, net.Pools, own.Encrypted); err != nil {
		return "", err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, other := range o.networks {
		if other.Key == net.Key || other.VNI == net.VNI {
			return "", refusal(net, other)
		}
	}
	made := o.newNetwork(net)
	made.forTest = true
	return net.ID, o.addNetwork(made)
}

// addProbe makes the endpoint on a network of this host.
func (o *Overlay) addProbe(id string, spec ProbeSpec) (*Probe, error) {
	net, _, err := o.attachmentOn(id)
	if err != nil {
		return nil, err
	}
	ep := &endpoint{probe: true, changed: time.Now(), Endpoint: Endpoint{
		ID: newID(), NetworkID: id, MAC: newMAC(nil), State: StateJoined, Sandbox: spec.Sandbox.Path(), Trust: TrustNone, Names: spec.Name,
	}}
	addrs := spec.Own.Addrs
	if spec.Network != "" {
		if addrs, err = o.leaseProbe(&net, ep.MAC, spec.Sandbox.HasIPv6()); err != nil {
			return nil, err
		}
	}
	for _, p := range addrs {
		ep.Addrs = append(ep.Addrs, p.Addr())
	}
	p, err := o.putProbe(ep, addrs, spec.Sandbox)
	if err != nil {
		return nil, errors.Join(err, o.giveBack(addrs))
	}
	return p, nil
}

// leaseProbe gets addresses as an attachment does, of each subnet that overlane hands out.
func (o *Overlay) leaseProbe(n *Network, mac discovery.MAC, six bool) (addrs []netip.Prefix, err error) {
	for _, pool := range n.Pools {
		key := o.addresses.KeyOf(pool)
		if key == "" || pool.Addr().Is6() && !six {
			continue
		}
		addr, err := o.addresses.RequestAddress(ipam.PoolID(key, pool), ipam.Request{MAC: mac.String()})
		if err != nil {
			return nil, errors.Join(err, o.giveBack(addrs))
		}
		addrs = append(addrs, addr)
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("network %s: its addresses are handed out by Docker, on each host for itself, and there is none for a test: test without -n", n.Key)
	}
	return addrs, nil
}

// putProbe stores the endpoint, opens its port, moves that into the sandbox and announces it.
func (o *Overlay) putProbe(ep *endpoint, addrs []netip.Prefix, in Sandbox) (*Probe, error) {
	underlay, err := o.cfg.UnderlayMTU(o.peers())
	if err != nil {
		return nil, err
	}
	unreachable := o.unreachableOwners(&ep.Endpoint)
	n, unlock, err := o.lock(ep.NetworkID)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := o.checkConflicts(n, &ep.Endpoint, unreachable); err != nil {
		return nil, err
	}
	ep.MTU, ep.Seq = o.todaysMTU(n, underlay), o.nextSeq(n, &ep.Endpoint)
	if err := o.create(n, ep); err != nil {
		return nil, err
	}
	err = in.Move(hostnet.Interface{Name: ep.Tap(), Alias: ep.alias(), Addrs: addrs})
	if err == nil {
		o.nameLocal(n, ep)
		o.serveNames(n, ep)
		err = o.bringUpEndpoint(n, ep)
	}
	if err != nil {
		return nil, errors.Join(err, o.remove(n, ep))
	}
	return &Probe{Network: n.Key, Called: n.called, Addrs: addrs, MTU: cmp.Or(ep.MTU, n.MTU), Encrypted: n.Encrypted, Tap: ep.Tap(), networkID: n.ID, id: ep.ID}, nil
}

// RemoveProbe takes a probe away, and its network if that was for the test alone.
func (o *Overlay) RemoveProbe(p *Probe) error {
	o.attached.changing.Lock()
	defer o.attached.changing.Unlock()
	if err := o.DeleteEndpoint(p.networkID, p.id); err != nil {
		return err
	}
	return errors.Join(o.giveBack(p.Addrs), o.unmakeNetwork(p.networkID))
}

// Announced says whether packets from a probe to an address go to the probe that another host has announced by a name, and not to somebody else.
func (o *Overlay) Announced(p *Probe, member, name string, addr netip.Addr) bool {
	n, unlock, err := o.lock(p.networkID)
	if err != nil {
		return false
	}
	here := n.owns(discovery.Extra{Addr: addr})
	unlock()
	claims := o.cluster.Claims(p.Network, discovery.MAC{}, []netip.Addr{addr}) // the one that is in force comes first
	return !here && len(claims) > 0 && !claims[0].Hidden && claims[0].Owner == member && claims[0].Endpoint.Names == name
}

// ProbeCounts is what the datapath has counted.
type ProbeCounts struct {
	Sent  uint64 // packets that the workers have taken from the probe
	Paths []HostTraffic
	Drops map[string]uint64 // by the name of the reason
}

// CountProbe reads the datapath's counters.
func (o *Overlay) CountProbe(p *Probe) ProbeCounts {
	s := o.cfg.Datapath.Stats()
	c := ProbeCounts{Drops: s.Drops}
	for _, port := range s.Ports {
		if port.Name == p.Tap {
			c.Sent = port.RxPackets
		}
	}
	_, c.Paths = o.TrafficOf(s)
	return c
}

// Unapplied says what of a probe's network could not be applied on this host.
func (o *Overlay) Unapplied(p *Probe) (reasons []string) {
	n, unlock, err := o.lock(p.networkID)
	if err != nil {
		return []string{err.Error()}
	}
	defer unlock()
	for _, s := range n.pending() {
		reasons = append(reasons, s.What+": "+s.Reason)
	}
	return reasons
}

// Otherwise says which hosts have a probe's network otherwise than this one, so that neither takes the other's endpoints, and how, by member ID.
func (o *Overlay) Otherwise(p *Probe) map[string]Health {
	all := map[string]Health{}
	self := o.cluster.Self().Host
	for _, c := range o.cluster.Conflicts() {
		if c.Ours.Key != p.Network && c.Theirs.Key != p.Network {
			continue
		}
		reason := fmt.Sprintf("%s has network %s with VNI %d, and %s has %s with VNI %d", self, c.Ours.Key, c.Ours.VNI, c.Host, c.Theirs.Key, c.Theirs.VNI)
		if c.Ours.Encrypted != c.Theirs.Encrypted {
			reason = fmt.Sprintf("the network is %s on %s, and %s on %s", protection(c.Ours.Encrypted), self, protection(c.Theirs.Encrypted), c.Host)
		}
		all[c.Member] = Health{reason, "seen from " + self + ": " + c.Advice()}
	}
	return all
}

// NetworkNamed is the key of the network of this host that somebody named, as with `overlane attach`.
func (o *Overlay) NetworkNamed(text string) (key string, err error) {
	id, err := o.networkOf(text)
	if err == nil && id == "" {
		err = fmt.Errorf("network %q: %w: `overlane status` lists those that it has, by name, key and subnet", text, ErrNotHere)
	}
	if err != nil {
		return "", err
	}
	n, unlock, err := o.lock(id)
	if err != nil {
		return "", err
	}
	defer unlock()
	return n.Key, nil
}
