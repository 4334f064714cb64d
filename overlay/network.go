package overlay

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/overlane/overlane/discovery"
)

// Network is a Docker network on this host, as it is stored.
type Network struct {
	ID      string            `json:"id"` // Docker's NetworkID, of this host alone
	Key     string            `json:"key"`
	VNI     uint32            `json:"vni"`
	MTU     int               `json:"mtu"`
	Pools   []netip.Prefix    `json:"pools"`            // subnets as Docker gave them, IPv4 before IPv6
	Options map[string]string `json:"options"`          // as Docker gave them
	Space   string            `json:"space,omitempty"`  // the address space that its pools are of; empty: not known
	Trust   Trust             `json:"trust,omitempty"`  // of its endpoints that were given none
	Made    bool              `json:"made,omitempty"`   // for this host's attachment: Docker does not know it here
	Called  string            `json:"called,omitempty"` // of one that Docker does not know; empty: nothing

	Encrypted bool `json:"-"` // its packets go to other hosts in ESP; see storedNetwork
}

// storedNetwork is a Network's JSON. An encrypted one has its VNI in a place where versions before encryption do not look: they would have taken it for
// a plain one, and find one with VNI 0, which they refuse.
type storedNetwork struct {
	plainNetwork
	EncryptedVNI uint32 `json:"encrypted_vni,omitempty"`
}

// plainNetwork has none of Network's methods.
type plainNetwork Network

// MarshalJSON implements json.Marshaler.
func (n Network) MarshalJSON() ([]byte, error) {
	stored := storedNetwork{plainNetwork: plainNetwork(n)}
	if n.Encrypted {
		stored.VNI, stored.EncryptedVNI = 0, n.VNI
	}
	return json.Marshal(stored)
}

// UnmarshalJSON implements json.Unmarshaler.
func (n *Network) UnmarshalJSON(text []byte) error {
	var stored storedNetwork
	if err := json.Unmarshal(text, &stored); err != nil {
		return err
	}
	*n = Network(stored.plainNetwork)
	if stored.EncryptedVNI != 0 {
		n.VNI, n.Encrypted = stored.EncryptedVNI, true
	}
	return nil
}

func (n *Network) identity() discovery.Network {
	return discovery.Network{Key: n.Key, VNI: n.VNI, Encrypted: n.Encrypted}
}

// NetworkSpec is Docker's wish for a network.
type NetworkSpec struct {
	ID      string
	Options map[string]string // of `docker network create -o`
	Pools   []netip.Prefix    // IPv4 before IPv6
	Space   string            // the address space that they are of
	// Its containers have no other network: `docker network create --internal`.
	Internal bool
}

// network is a Network at work.
type network struct {
	Network
	base logrus.FieldLogger
	log  logrus.FieldLogger // with its ID

	remotes remotes
	extras  atomic.Int32 // extra addresses of this host's endpoints, to pass over what is of no account to them
	forTest bool         // made for a test of connectivity alone
	removal error        // of Docker's, which does not ask again, and failed; nil: there was none. Guarded by Overlay.mu

	mu            sync.Mutex // guards all below; held for the length of a call
	inDatapath    bool       // the datapath knows it
	participating bool       // this host takes part in it
	retry         retry      // of these two
	endpoints     map[string]*endpoint
	called        string // by Docker; empty: not known yet
}

func (o *Overlay) newNetwork(n Network) *network {
	made := &network{
		base:      o.log,
		endpoints: map[string]*endpoint{},
		remotes:   remotes{vni: n.VNI, vteps: map[netip.AddrPort]bool{}, pending: map[changeKey]*pendingChange{}},
	}
	made.setNetwork(n)
	return made
}

// setNetwork says what is stored of it.
func (n *network) setNetwork(stored Network) {
	n.Network = stored
	n.call(cmp.Or(stored.Called, n.called))
}

// call says what Docker calls it; empty where that is not known.
func (n *network) call(name string) {
	n.called = name
	n.log = n.base.WithFields(logrus.Fields{"network": cmp.Or(name, short(n.ID)), "network_id": short(n.ID), "key": n.Key, "vni": n.VNI})
	n.remotes.logTo(n.log)
}

// CreateNetwork makes this host take part in a network. The same wish again succeeds.
func (o *Overlay) CreateNetwork(spec NetworkSpec) error {
	o.engine.names(spec.ID)
	freed, err := o.createNetwork(spec)
	if failed := o.giveBack(freed); failed != nil {
		o.log.WithError(failed).Warn("addresses of a removed network stay in use until they are found unused")
	}
	return err
}

// createNetwork says also what addresses, with their subnets' lengths, the endpoints of a network had that gave way.
func (o *Overlay) createNetwork(spec NetworkSpec) (freed []netip.Prefix, err error) {
	pooled := o.keyOfPools(spec.Pools)
	taken := o.checkEgress(spec)
	underlay, unknown := o.cfg.UnderlayMTU(o.peers())
	o.mu.Lock()
	defer o.mu.Unlock()
	o.removeAgain()
	if old := o.networks[spec.ID]; old != nil {
		if old.removal != nil {
			return nil, fmt.Errorf("network %s: was removed before, and that fails yet: %w", short(spec.ID), old.removal)
		}
		if maps.Equal(old.Options, spec.Options) && slices.Equal(old.Pools, spec.Pools) {
			return nil, nil
		}
		return nil, fmt.Errorf("network %s: exists with options %v and subnets %v, asked for again with options %v and subnets %v",
			short(spec.ID), old.Options, old.Pools, spec.Options, spec.Pools)
	}
	if taken != nil {
		return nil, taken
	}
	if unknown != nil {
		return nil, unknown
	}
	net, err := o.plan(spec, pooled, underlay)
	if err != nil {
		return nil, err
	}
	if adopted, err := o.adopt(net); adopted {
		return nil, err
	}
	if freed, err = o.checkKeyAndVNI(net); err != nil {
		return freed, err
	}
	return freed, o.addNetwork(o.newNetwork(net))
}

// plan turns a wish into a network, for an underlay that carries so much. Its key is that of its pools, if they have one.
func (o *Overlay) plan(spec NetworkSpec, pooled string, underlay int) (Network, error) {
	opts, err := networkOptions.parse(spec.Options)
	if err != nil {
		return Network{}, err
	}
	if opts.all {
		if err := o.cfg.Everywhere(); err != nil {
			return Network{}, networkOptions.bad(OptionAll, "true", "%v", err)
		}
	}
	key, err := opts.keyWith(pooled, spec.Pools)
	if err != nil {
		return Network{}, err
	}
	encrypted, err := o.encrypts(opts)
	if err != nil {
		return Network{}, err
	}
	mtu, err := containerMTU(opts.mtu, underlay, o.cfg.VTEP, spec.Pools, encrypted)
	if err != nil {
		return Network{}, err
	}
	vni := opts.vni
	if vni == 0 {
		vni = o.cluster.Resolve(key)
	}
	return Network{ID: spec.ID, Key: key, VNI: vni, MTU: mtu, Pools: spec.Pools, Options: spec.Options, Space: spec.Space, Trust: opts.trust, Encrypted: encrypted}, nil
}

// peers are the VTEPs of the other hosts.
func (o *Overlay) peers() (vteps []netip.Addr) {
	for _, m := range o.cluster.Members() {
		if !m.Self && m.State != discovery.StateLeft {
			vteps = append(vteps, m.VTEP.Addr())
		}
	}
	return vteps
}

// checkKeyAndVNI checks that no other network on this host has the key or the VNI. One that Docker does not know any more gives way, and
// with it the addresses of its endpoints.
func (o *Overlay) checkKeyAndVNI(net Network) (freed []netip.Prefix, err error) {
	for _, other := range o.networks {
		if other.Key != net.Key && other.VNI != net.VNI {
			continue
		}
		if !o.abandoned(other, &net) {
			return freed, refusal(net, other)
		}
		other.log.Warn("network removed: Docker does not know it any more, and gave its subnet away")
		addrs := other.addrs()
		if err := o.removeNetwork(other); err != nil {
			return freed, err
		}
		freed = append(freed, addrs...)
	}
	return freed, nil
}

func refusal(net Network, other *network) error {
	advice := fmt.Sprintf("choose another %s. If `docker network ls` does not list network %s any more: stop the containers that are left on it, restart Docker, and create this one with the same --ipam-driver and --subnet %s",
		keyAdvice(net.Key), short(other.ID), joined(other.Pools))
	if other.isAttached() {
		advice = fmt.Sprintf("this host is attached to it: run `overlane detach %s` and `overlane attach` again after this, or ", other.Key) + advice
	}
	if other.Key == net.Key {
		return fmt.Errorf("network %s is already on this host with key %s: %s", short(other.ID), other.Key, advice)
	}
	return fmt.Errorf("VNI %d of %s is used on this host by network %s (%s): %s", net.VNI, net.Key, short(other.ID), other.Key, advice)
}

func joined(pools []netip.Prefix) string {
	var texts []string
	for _, p := range pools {
		texts = append(texts, p.String())
	}
	return strings.Join(texts, " --subnet ")
}

// addrs lists the addresses of a network's endpoints, with the lengths of their subnets.
func (n *network) addrs() (all []netip.Prefix) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, ep := range n.endpoints {
		for _, addr := range ep.Addrs {
			for _, pool := range n.Pools {
				if pool.Contains(addr) {
					all = append(all, netip.PrefixFrom(addr, pool.Bits()))
				}
			}
		}
	}
	return all
}

// abandoned says that Docker certainly no longer knows the network, since it creates another one with some of its subnets; and that no
// container is left on it, nor is one about to start.
func (o *Overlay) abandoned(n *network, created *Network) bool {
	overlaps := slices.ContainsFunc(created.Pools, func(p netip.Prefix) bool { return slices.ContainsFunc(n.Pools, p.Overlaps) })
	if !overlaps || !o.engine.forgot(&n.Network, created) {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, ep := range n.endpoints {
		if attached, err := o.hasContainer(n, ep); attached || err != nil || time.Since(ep.changed) < garbageAfter {
			return false
		}
	}
	return true
}

// keyAdvice names what to change to get another key.
func keyAdvice(key string) string {
	kind, _, _ := strings.Cut(key, "=")
	if kind == "subnet" {
		return "--subnet, or keep it and give -o vni=NUMBER or -o network=NAME"
	}
	return "-o " + kind
}

func (o *Overlay) addNetwork(n *network) (err error) {
	if err := o.store.put(bucketNetworks, n.ID, n.Network); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, o.store.delete(bucketNetworks, n.ID))
		}
	}()
	if err := o.cfg.Datapath.AddNetwork(n.VNI, n.Encrypted); err != nil {
		return err
	}
	if err := o.cluster.Subscribe(n.identity()); err != nil {
		return errors.Join(err, o.cfg.Datapath.DelNetwork(n.VNI))
	}
	n.inDatapath, n.participating = true, true
	o.networks[n.ID] = n
	o.cfg.Table.Call(n.Key, n.called)
	o.inUseCache.changes.Add(1)
	n.log.WithFields(logrus.Fields{"mtu": n.MTU, "pools": n.Pools}).Info("network created")
	return nil
}

// DeleteNetwork ends this host's part in a network, unless the host is attached to it. One that is not known is no error.
func (o *Overlay) DeleteNetwork(id string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := o.networks[id]
	if n == nil {
		return nil
	}
	o.removeDeleted(n)
	return n.removal
}

// removeDeleted ends what Docker has of a network. It is called with o.mu held to write.
func (o *Overlay) removeDeleted(n *network) {
	if n.isAttached() {
		n.removal = o.disown(n)
	} else {
		n.removal = o.removeNetwork(n)
	}
}

// removeAgain tries the removals that failed. It is called with o.mu held to write.
func (o *Overlay) removeAgain() {
	for _, n := range o.networks {
		if n.removal == nil {
			continue
		}
		if o.removeDeleted(n); n.removal != nil {
			n.log.WithError(n.removal).Error("network not removed, which Docker has removed: overlane tries again")
		}
	}
}

// removeNetwork gives back all that a network holds. It is called with o.mu held to write.
func (o *Overlay) removeNetwork(n *network) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	// Docker removes a network only when it has no endpoints: those left are ones whose removal did not get here.
	for _, ep := range n.endpoints {
		n.logOf(ep).Warn("endpoint removed with its network")
		if err := o.remove(n, ep); err != nil {
			return err
		}
	}
	// First, since it may fail: what would be left is one that looks well and carries nothing.
	if err := o.store.delete(bucketNetworks, n.ID); err != nil {
		return err
	}
	o.cluster.Unsubscribe(n.Key)
	n.participating = false
	if err := o.cfg.Datapath.DelNetwork(n.VNI); err != nil {
		return err
	}
	delete(o.networks, n.ID)
	o.engine.removes(n.ID)
	o.cfg.Table.Clear(n.Key)
	o.inUseCache.changes.Add(1)
	n.log.Info("network deleted")
	return nil
}
