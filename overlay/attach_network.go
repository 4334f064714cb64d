package overlay

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/overlane/overlane/networks"
	"github.com/overlane/overlane/overlay/ipam"
)

// Networks for attachments: those that Docker made here, and others, which the host takes part in for its attachment alone. Such a one
// becomes Docker's when Docker makes it here, and is the attachment's again when Docker removes it.

// shortID is the length of an ID as people know it.
const shortID = 12

// networkOf is the ID of the network of this host that somebody named: by what Docker calls it, by its key, a subnet or its ID; empty: there
// is none.
func (o *Overlay) networkOf(text string) (id string, err error) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	ways := []func(*network) bool{
		func(n *network) bool { return n.called == text },
		func(n *network) bool { return n.Key == text },
		func(n *network) bool {
			return slices.ContainsFunc(n.Pools, func(p netip.Prefix) bool { return p.Masked().String() == text })
		},
		func(n *network) bool { return len(text) >= shortID && strings.HasPrefix(n.ID, text) }, // a name may be how an ID begins
	}
	for _, is := range ways {
		var found []string
		for _, n := range o.networks {
			n.mu.Lock()
			if text != "" && is(n) {
				found = append(found, n.ID)
			}
			n.mu.Unlock()
		}
		switch {
		case len(found) == 1:
			return found[0], nil
		case len(found) > 1:
			return "", fmt.Errorf("network %q: is more than one on this host: give the key, as `overlane status` shows it", text)
		}
	}
	return "", nil
}

// keyNamed reads a network's key, as `overlane status` shows it, or its subnet alone. The options are those that lead to the key, the
// subnet is that which it names.
func keyNamed(text string) (opts options, subnet netip.Prefix, err error) {
	kind, value, _ := strings.Cut(text, "=")
	if kind == OptionNetwork || kind == OptionVNI {
		opts, err = networkOptions.parse(map[string]string{kind: value})
		return opts, subnet, err
	}
	if subnet, err = netip.ParsePrefix(strings.TrimPrefix(text, "subnet=")); err == nil && subnet.Bits() > 0 {
		return options{}, subnet.Masked(), nil
	}
	return options{}, netip.Prefix{}, fmt.Errorf("network %q: this host has none of that name, key or ID: `overlane status` lists them. One that Docker has not made here is named by the name that it has on all hosts (`overlane network ls`), or by its key, as `overlane status` shows it on a host that has it: subnet=10.20.0.0/16, %s=app or %s=5000", text, OptionNetwork, OptionVNI)
}

// wanted is a network in which this host is to take part for its attachment.
type wanted struct {
	key     string
	called  string            // empty: nothing
	options map[string]string // of `docker network create -o`
	pools   []netip.Prefix
	shared  []sharedPool
	defined bool // for all hosts
}

// sharedPool is a subnet whose addresses overlane hands out, as the hosts share it.
type sharedPool struct {
	key     string
	subnet  netip.Prefix
	within  netip.Prefix   // that this host hands out; zero: all
	reserve []ipam.Request // addresses that nobody gets
}

// wantedNetwork finds out about a network that Docker has not made here: by the name that it has on all hosts, or by its key.
func (o *Overlay) wantedNetwork(text string, chosen []given) (wanted, error) {
	if o.cfg.Defined != nil {
		if d := o.cfg.Defined(text); d != nil {
			return definedNetwork(d)
		}
	}
	opts, subnet, err := keyNamed(text)
	if err != nil {
		return wanted{}, err
	}
	w := wanted{called: opts.name, options: map[string]string{}}
	switch {
	case opts.name != "":
		w.options[OptionNetwork] = opts.name
	case opts.vni != 0:
		w.options[OptionVNI] = strconv.FormatUint(uint64(opts.vni), 10)
	}
	if w.key, err = opts.key([]netip.Prefix{subnet}); err == nil {
		w.pools, w.shared, err = o.subnetsOf(w.key, subnet, chosen)
	}
	return w, err
}

// definedNetwork is one that is everywhere.
func definedNetwork(d *networks.Definition) (w wanted, err error) {
	spec := d.Network()
	w = wanted{called: d.Name, options: spec.Options, defined: true}
	opts, err := networkOptions.parse(spec.Options)
	if err != nil {
		return w, err
	}
	pooled := ""
	for _, c := range spec.IPAM.Config {
		subnet, err := netip.ParsePrefix(c.Subnet)
		if err != nil {
			return w, err
		}
		w.pools = append(w.pools, subnet)
		if spec.IPAM.Driver != networks.OwnIPAM {
			continue
		}
		s, err := definedPool(subnet, spec.IPAM.Options, c.IPRange, c.Gateway, c.AuxiliaryAddresses)
		if err != nil {
			return w, err
		}
		if s.key != ipam.SubnetKey(subnet) {
			pooled = s.key
		}
		w.shared = append(w.shared, s)
	}
	slices.SortStableFunc(w.pools, func(a, b netip.Prefix) int { return a.Addr().BitLen() - b.Addr().BitLen() })
	w.key, err = opts.keyWith(pooled, w.pools)
	return w, err
}

// definedPool reads what Docker would ask for when it made the network.
func definedPool(subnet netip.Prefix, options map[string]string, within, gateway string, aux map[string]string) (s sharedPool, err error) {
	s.subnet = subnet
	if s.key, err = poolKey(PoolSpec{Subnet: subnet, Options: options}); err != nil {
		return s, err
	}
	if within != "" {
		if s.within, err = netip.ParsePrefix(within); err != nil {
			return s, err
		}
	}
	first := ipam.Request{Gateway: true}
	if gateway != "" {
		if first.Addr, err = netip.ParseAddr(gateway); err != nil {
			return s, err
		}
	}
	s.reserve = append(s.reserve, first)
	for _, text := range aux {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return s, err
		}
		s.reserve = append(s.reserve, ipam.Request{Addr: addr})
	}
	return s, nil
}

// makeNetwork has this host take part in a network that Docker has not made here.
func (o *Overlay) makeNetwork(text string, chosen []given, encrypted bool) (id string, err error) {
	w, err := o.wantedNetwork(text, chosen)
	if err != nil {
		return "", err
	}
	if encrypted {
		w.options = maps.Clone(w.options)
		w.options[OptionEncrypted] = "true"
	}
	if id, err = o.networkOf(w.key); err != nil || id != "" {
		return id, err
	}
	net, err := o.planMade(w)
	if err != nil {
		return "", err
	}
	o.mu.Lock()
	if _, err = o.checkKeyAndVNI(net); err == nil {
		err = o.addNetwork(o.newNetwork(net))
	}
	o.mu.Unlock()
	if err != nil {
		return "", err
	}
	err = o.usePools(w.shared)
	for end := time.Now().Add(completeWait); err == nil && !o.cluster.Complete(w.key) && time.Now().Before(end); {
		time.Sleep(retryPace)
	}
	if err == nil {
		err = o.addSecondSubnet(net.ID)
	}
	if err != nil {
		return "", errors.Join(err, o.unmakeNetwork(net.ID))
	}
	return net.ID, nil
}

// usePools has this host hand out addresses, but for those that nobody gets.
func (o *Overlay) usePools(all []sharedPool) error {
	for _, s := range all {
		pool, _, err := o.addresses.RequestPool(s.key, s.subnet, s.within, s.subnet.Addr().Is6())
		if err != nil {
			return err
		}
		for _, r := range s.reserve {
			_, err := o.addresses.RequestAddress(pool, r)
			if named := r.Addr.IsValid(); err != nil && named { // a network whose addresses are all in use goes on without a gateway
				return err
			}
		}
	}
	return nil
}

// planMade is the network as it is stored.
func (o *Overlay) planMade(w wanted) (Network, error) {
	opts, err := networkOptions.parse(w.options)
	if err != nil {
		return Network{}, err
	}
	underlay, err := o.cfg.UnderlayMTU(o.peers())
	if err != nil {
		return Network{}, err
	}
	encrypted, err := o.encryptsMade(w, opts)
	if err != nil {
		return Network{}, err
	}
	mtu, err := containerMTU(opts.mtu, underlay, o.cfg.VTEP, w.pools, encrypted)
	if err != nil {
		return Network{}, err
	}
	net := Network{ID: newID(), Key: w.key, VNI: opts.vni, MTU: mtu, Pools: w.pools, Options: w.options, Made: true, Called: w.called, Encrypted: encrypted}
	if net.VNI == 0 {
		net.VNI = o.cluster.Resolve(w.key)
	}
	return net, nil
}

// subnetsOf finds a network's subnets, and those among them whose addresses overlane hands out: what other hosts have of it, what its key
// names, or what was given with the addresses.
func (o *Overlay) subnetsOf(key string, named netip.Prefix, chosen []given) (pools []netip.Prefix, shared []sharedPool, err error) {
	if named.IsValid() {
		pools = append(pools, named)
	} else {
		for _, v6 := range []bool{false, true} {
			if shared, err = o.findShared(shared, key, v6); err != nil {
				return nil, nil, err
			}
		}
	}
	for _, s := range shared {
		pools = append(pools, s.subnet)
	}
	for _, g := range chosen {
		if g.bits > 0 && !slices.ContainsFunc(pools, func(p netip.Prefix) bool { return p.Addr().Is4() == g.addr.Is4() }) {
			pools = append(pools, netip.PrefixFrom(g.addr, g.bits).Masked())
		}
	}
	if len(pools) == 0 {
		return nil, nil, fmt.Errorf("network %s: its subnet is not known here: Docker has not made it on this host, and no host hands out its addresses under this key by --ipam-driver overlane: give --address ADDRESS/LENGTH, with the prefix length of its subnet", key)
	}
	for _, pool := range pools {
		if slices.ContainsFunc(shared, func(s sharedPool) bool { return s.subnet == pool }) {
			continue
		}
		if shared, err = o.findShared(shared, ipam.SubnetKey(pool), pool.Addr().Is6()); err != nil {
			return nil, nil, err
		}
	}
	slices.SortStableFunc(pools, func(a, b netip.Prefix) int { return a.Addr().BitLen() - b.Addr().BitLen() })
	return pools, shared, nil
}

// findShared adds the subnet that hosts share under a key, if they do.
func (o *Overlay) findShared(shared []sharedPool, key string, v6 bool) ([]sharedPool, error) {
	subnet, err := o.addresses.Find(key, v6)
	if err != nil {
		return nil, errors.New(strings.ReplaceAll(err.Error(), "give --subnet, or try again", "try again when it does"))
	}
	if subnet.IsValid() {
		shared = append(shared, sharedPool{key: key, subnet: subnet})
	}
	return shared, nil
}

// addSecondSubnet finds the IPv6 subnet of a network that is known by its IPv4 one: from what containers have, and of which subnet that is.
func (o *Overlay) addSecondSubnet(id string) error {
	n, unlock, err := o.lock(id)
	if err != nil {
		return err
	}
	key, pools := n.Key, n.Pools
	unlock()
	if !strings.HasPrefix(key, "subnet=") || len(pools) != 1 || pools[0].Addr().Is6() {
		return nil
	}
	pool := o.secondSubnet(key)
	if !pool.IsValid() {
		return nil
	}
	if _, _, err := o.addresses.RequestPool(ipam.SubnetKey(pool), pool, netip.Prefix{}, true); err != nil {
		return err
	}
	n, unlock, err = o.lock(id)
	if err != nil {
		return err
	}
	defer unlock()
	both := n.Network
	both.Pools = append(slices.Clone(pools), pool)
	if err := o.store.put(bucketNetworks, id, both); err != nil {
		return err
	}
	n.Pools = both.Pools
	o.inUseCache.changes.Add(1)
	return nil
}

func (o *Overlay) secondSubnet(key string) netip.Prefix {
	for _, r := range o.cluster.Records() {
		if r.Network.Key != key {
			continue
		}
		for _, addr := range r.Endpoint.Addrs {
			if subnets := o.addresses.Around(addr); addr.Is6() && len(subnets) == 1 {
				return subnets[0]
			}
		}
	}
	return netip.Prefix{}
}

// unmakeNetwork ends this host's part in a network that Docker has not made here, and in its pools.
func (o *Overlay) unmakeNetwork(id string) error {
	o.mu.Lock()
	n := o.networks[id]
	if n == nil || !n.Made || n.hasEndpoints() {
		o.mu.Unlock()
		return nil
	}
	pools := n.Pools
	err := o.removeNetwork(n)
	o.mu.Unlock()
	if err != nil {
		return err
	}
	var errs []error
	for _, pool := range pools {
		if key := o.addresses.KeyOf(pool); key != "" {
			errs = append(errs, o.addresses.ClosePool(ipam.PoolID(key, pool))) // a daemon may have ended between an address and its endpoint
		}
	}
	return errors.Join(errs...)
}

// unmakeUnused ends this host's part in networks that it is not attached to after all: a daemon ended while it attached the host.
func (o *Overlay) unmakeUnused() {
	if !o.attached.changing.TryLock() { // who attaches this host may take a while: the names are not to wait
		return
	}
	defer o.attached.changing.Unlock()
	o.mu.RLock()
	var unused []string
	for _, n := range o.networks {
		n.mu.Lock()
		if n.Made && len(n.endpoints) == 0 {
			unused = append(unused, n.ID)
		}
		n.mu.Unlock()
	}
	o.mu.RUnlock()
	for _, id := range unused {
		if err := o.unmakeNetwork(id); err != nil {
			o.log.WithError(err).WithField("network", short(id)).Error("a network that this host is not attached to is not removed: overlane tries again")
		}
	}
}

// adopt makes a network Docker's, that was made for this host's attachment, and says whether it was one. It is called with o.mu held to
// write.
func (o *Overlay) adopt(net Network) (adopted bool, err error) {
	for _, n := range o.networks {
		if !n.Made || n.Key != net.Key || n.VNI != net.VNI {
			continue
		}
		if n.Encrypted != net.Encrypted {
			return true, fmt.Errorf("network %s: this host is attached to it, and it is %s: create it %s -o %s, or run `overlane detach %s` first", n.Key, protection(n.Encrypted), withOrWithout(n.Encrypted), OptionEncrypted, n.Key)
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		if ep := n.ownEndpoint(); ep != nil {
			for _, addr := range ep.Host.Addrs {
				if !slices.Contains(net.Pools, addr.Masked()) {
					return true, fmt.Errorf("subnet %s: this host is attached to network %s with address %s: create it with --subnet %s, or run `overlane detach %s` first", joined(net.Pools), net.Key, addr, addr.Masked(), net.Key)
				}
			}
		}
		return true, o.rename(n, net)
	}
	return false, nil
}

// disown makes a network this host's alone again, which Docker removes: this host stays attached to it.
func (o *Overlay) disown(n *network) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, ep := range n.endpoints {
		if ep.Host == nil {
			n.logOf(ep).Warn("endpoint removed with its network")
			if err := o.remove(n, ep); err != nil {
				return err
			}
		}
	}
	own := n.Network
	own.ID, own.Made, own.Space, own.Called = newID(), true, "", n.called
	return o.rename(n, own)
}

// rename gives a network that is locked, with o.mu held to write, another ID and what else is new of it.
func (o *Overlay) rename(n *network, net Network) error {
	var endpoints []Endpoint
	for _, ep := range n.endpoints {
		moved := ep.Endpoint
		moved.NetworkID = net.ID
		endpoints = append(endpoints, moved)
	}
	if err := o.store.rename(n.ID, net, endpoints); err != nil {
		return err
	}
	delete(o.networks, n.ID)
	o.networks[net.ID] = n
	n.setNetwork(net)
	for _, ep := range n.endpoints {
		ep.NetworkID = net.ID
	}
	o.cfg.Table.Call(n.Key, n.called)
	o.inUseCache.changes.Add(1)
	n.log.WithField("made by Docker", !net.Made).Info("this host stays attached to the network")
	return nil
}
