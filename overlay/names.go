package overlay

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/names"
)

// What containers are called is heard from Docker's engine, beside its calls, and goes into their records. Records of this host and of
// others make the table by which containers' queries are answered.

// serveInterval is the time between two looks whether all containers are served: one may have closed our sockets, or memory was short.
const serveInterval = 10 * time.Second

// runNames serves the containers that a daemon before this one left, and those that could not be served, until the overlay is closed.
func (o *Overlay) runNames() {
	ticker := time.NewTicker(serveInterval)
	defer ticker.Stop()
	for {
		o.serveAll()
		select {
		case <-o.ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (o *Overlay) serveAll() {
	o.mu.RLock()
	ids := slices.Collect(maps.Keys(o.networks))
	o.mu.RUnlock()
	for _, id := range ids {
		n, unlock, err := o.lock(id)
		if err != nil {
			continue // deleted meanwhile
		}
		endpoints := slices.Collect(maps.Keys(n.endpoints))
		unlock()
		for _, endpointID := range endpoints {
			o.withEndpoint(id, endpointID, func(n *network, ep *endpoint) error {
				if ep.orphanedSince.IsZero() && time.Since(ep.joined) > settleWait { // else settle does it
					o.serveNames(n, ep)
				}
				return nil
			})
		}
	}
}

// serveNames has a container's queries answered, of an endpoint that is locked with its network.
func (o *Overlay) serveNames(n *network, ep *endpoint) {
	if ep.State != StateJoined || ep.Host != nil {
		return
	}
	if err := o.cfg.Names.Serve(ep.Sandbox, n.Key); err != nil {
		n.logOf(ep).WithError(err).Debug("its container finds those of other hosts by address alone: `overlane status` shows it")
	}
}

// nameLocal tells the table of an endpoint that is locked with its network: of a joined one its names, of another that it has none.
func (o *Overlay) nameLocal(n *network, ep *endpoint) {
	id := names.ID{MAC: ep.MAC}
	if ep.State != StateJoined {
		o.cfg.Table.Name(n.Key, id, nil)
		for _, addr := range ep.Addrs {
			o.cfg.Table.NoAddress(n.Key, addr, id)
		}
		return
	}
	o.cfg.Table.Name(n.Key, id, strings.Fields(ep.Names))
	for _, addr := range ep.Addrs {
		o.cfg.Table.Address(n.Key, addr, id)
	}
}

// nameRemote tells the table what discovery sees of another host. What is extra is nobody's by name.
func (o *Overlay) nameRemote(c discovery.Change) {
	id := names.ID{VTEP: c.VTEP, MAC: c.MAC}
	switch {
	case c.Kind == discovery.KindNames && c.Gone:
		o.cfg.Table.Name(c.Network.Key, id, nil)
	case c.Kind == discovery.KindNames:
		o.cfg.Table.Name(c.Network.Key, id, strings.Fields(c.Names))
	case c.Kind == discovery.KindAddr:
		o.cfg.Table.Address(c.Network.Key, c.Addr, id)
		if c.Gone || c.Extra {
			o.cfg.Table.NoAddress(c.Network.Key, c.Addr, id)
		}
	}
}

// Knows says whether a network is one of overlane's, by Docker's NetworkID.
func (o *Overlay) Knows(network string) bool {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.networks[network] != nil
}

// NameNetwork says what Docker calls a network on this host.
func (o *Overlay) NameNetwork(id, name string) {
	n, unlock, err := o.lock(id)
	if err != nil {
		return // deleted meanwhile
	}
	defer unlock()
	if n.called != name {
		n.call(name)
		o.cfg.Table.Call(n.Key, name)
	}
}

// NameContainer says what the container of an endpoint is called, its own name first.
func (o *Overlay) NameContainer(networkID, endpointID string, called []string) {
	o.withEndpoint(networkID, endpointID, func(n *network, ep *endpoint) error {
		text, left := namesThatFit(called)
		if len(left) > 0 {
			n.logOf(ep).WithField("names", left).Warnf("these names are not told of: they are no host names, or with the others longer than %d bytes", discovery.MaxNames)
		}
		if ep.Names == text {
			return nil
		}
		named := ep.Endpoint
		named.Names = text
		if err := o.store.put(bucketEndpoints, ep.ID, named); err != nil {
			n.logOf(ep).WithError(err).Error("what its container is called is not told of")
			return err
		}
		before := ep.container()
		ep.Endpoint = named
		if ep.container() != before {
			n.logOf(ep).Info("container named")
		}
		o.nameLocal(n, ep)
		if ep.announced {
			o.cluster.Put(n.Key, ep.record())
		}
		return nil
	})
}

// askedFor is what the container is called that addresses were asked for. Engines say so from 29 on, also where their socket is not seen.
func (o *Overlay) askedFor(addrs []netip.Addr) string {
	for _, addr := range addrs {
		if name := o.addresses.NameOf(addr); isName(name) && len(name) < discovery.MaxNames {
			return name
		}
	}
	return ""
}

// namesThatFit gives those that a record can carry, and the others.
func namesThatFit(called []string) (text string, left []string) {
	length := 0
	var fit []string
	for _, name := range called {
		if !isName(name) || length+len(name)+1 > discovery.MaxNames {
			left = append(left, name)
			continue
		}
		fit = append(fit, name)
		length += len(name) + 1
	}
	return strings.Join(fit, " "), left
}

// isName says whether a name can be asked for: labels of letters, digits, hyphens and underscores, of 63 bytes at most (RFC 1035 section
// 2.3.4; Docker allows the underscores).
func isName(name string) bool {
	if len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		odd := func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
		}
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, odd) {
			return false
		}
	}
	return true
}

// Resolution is a container that is called so, and whether queries for the name lead to it: the JSON of `overlane resolve -o json`.
type Resolution struct {
	Name     string       `json:"name"`    // the container's own
	Network  string       `json:"network"` // key
	Called   string       `json:"called"`  // what Docker calls the network here; empty: not known
	Addrs    []netip.Addr `json:"addrs"`
	Host     string       `json:"host"`
	Endpoint string       `json:"endpoint"`
	Answers  bool         `json:"answers"`
	Reason   string       `json:"reason"`
}

// Resolve lists the containers that a name or an address leads to, in the networks of this host, or in the one with that key, ID or name
// alone.
func (o *Overlay) Resolve(name, in string) ([]Resolution, error) {
	called, err := o.networksCalled(in)
	if err != nil {
		return nil, err
	}
	byID := map[string]discovery.Member{}
	for _, m := range o.cluster.Members() {
		byID[m.ID] = m
	}
	self := o.cluster.Self()
	all := []Resolution{}
	for _, r := range o.cluster.Records() {
		network, here := called[r.Network.Key]
		if !here || !isCalled(r.Endpoint, strings.TrimSuffix(name, "."), network) {
			continue
		}
		own, _, _ := strings.Cut(r.Endpoint.Names, " ")
		found := Resolution{Name: own, Network: r.Network.Key, Called: network, Addrs: r.Endpoint.Addrs, Host: hostOf(byID[r.Owner], r.Owner), Endpoint: r.Endpoint.ID}
		found.Answers, found.Reason = o.answers(r, r.Owner == self.ID)
		all = append(all, found)
	}
	slices.SortFunc(all, func(a, b Resolution) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(a.Host, b.Host), cmp.Compare(a.Name, b.Name))
	})
	return all, nil
}

// networksCalled gives what Docker calls the networks of this host, by key: all, or the one that somebody named.
func (o *Overlay) networksCalled(in string) (map[string]string, error) {
	id, err := o.networkOf(in)
	if err != nil {
		return nil, err
	}
	if in != "" && id == "" {
		return nil, fmt.Errorf("network %q: overlane has none of that name, key or ID on this host: `overlane status` lists them", in)
	}
	o.mu.RLock()
	defer o.mu.RUnlock()
	called := map[string]string{}
	for _, n := range o.networks {
		n.mu.Lock()
		if id == "" || id == n.ID {
			called[n.Key] = n.called
		}
		n.mu.Unlock()
	}
	return called, nil
}

func isCalled(e discovery.Endpoint, name, network string) bool {
	if addr, err := netip.ParseAddr(name); err == nil {
		return slices.Contains(e.Addrs, addr)
	}
	return slices.ContainsFunc(strings.Fields(e.Names), func(own string) bool {
		return strings.EqualFold(own, name) || network != "" && strings.EqualFold(own+"."+network, name)
	})
}

// answers says whether a record is answered from, and why.
func (o *Overlay) answers(r discovery.Record, own bool) (bool, string) {
	name, _, _ := strings.Cut(r.Endpoint.Names, " ")
	addrs, _, _ := o.cfg.Table.Lookup([]string{r.Network.Key}, name)
	switch {
	case r.Hidden:
		return false, "its host does not answer: it is back with its host"
	case name == "":
		return false, "its host has not told what it is called"
	case !slices.ContainsFunc(r.Endpoint.Addrs, func(a netip.Addr) bool { return slices.Contains(addrs, a) }):
		return false, "its addresses lead to another container: `overlane status` shows the conflict"
	case own:
		return true, "a container of this host"
	}
	return true, "its host told of it"
}
