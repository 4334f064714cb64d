// Package overlaytest has stand-ins for the cluster and the datapath that overlay works with: they keep what they are
// told, and fail when they are asked to.
package overlaytest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/names"
)

// Self is the node that a Cluster stands for.
var Self = discovery.Member{
	ID: "11111111111111111111111111111111", Host: "host1", Self: true, Cluster: "11111111111111111111111111111111", State: discovery.StateAlive, Incarnation: 1,
	Addr: netip.MustParseAddrPort("192.0.2.1:7950"), VTEP: netip.MustParseAddrPort("192.0.2.1:4789"),
}

// Peer is the other node.
var Peer = discovery.Member{
	ID: "22222222222222222222222222222222", Host: "host2", State: discovery.StateAlive, Incarnation: 1,
	Addr: netip.MustParseAddrPort("192.0.2.2:7950"), VTEP: netip.MustParseAddrPort("192.0.2.2:4789"), MTU: 1400, Whole: true,
}

// Stranger is a node of another cluster, that knocked.
var Stranger = discovery.Stranger{Host: "host9", Addr: netip.MustParseAddrPort("192.0.2.9:7950"), Cluster: "99999999999999999999999999999999"}

// Twin has run on a copy of Self's data directory.
var Twin = discovery.Twin{Host: "host8", Addr: netip.MustParseAddrPort("192.0.2.8:7950")}

// Faults fails calls by the name of their method.
type Faults struct {
	mu    sync.Mutex
	fails map[string]error
}

// Fail makes each further call of a method fail with err; nil lets it succeed again. AddNetwork and AddPort fail for one VNI
// alone as "AddNetwork 5000".
func (f *Faults) Fail(method string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fails == nil {
		f.fails = map[string]error{}
	}
	f.fails[method] = err
}

func (f *Faults) check(method string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fails[method]
}

// Cluster stands for discovery.
type Cluster struct {
	Faults
	mu       sync.Mutex
	networks map[string]discovery.Network
	own      map[string]map[discovery.MAC]discovery.Endpoint
	remote   []discovery.Record
	alone    bool
	self     discovery.Member
	peer     discovery.Member
	send     func(to string, text []byte)
	mtu      int
	seeds    map[netip.Addr]bool
	theirs   []discovery.Subscriber
}

// NewCluster is a cluster of Self and Peer, without records.
func NewCluster() *Cluster {
	return &Cluster{networks: map[string]discovery.Network{}, own: map[string]map[discovery.MAC]discovery.Endpoint{}, self: Self, peer: Peer, seeds: map[netip.Addr]bool{}}
}

// NewClusterOf is one of two other nodes, where send takes the messages of self.
func NewClusterOf(self, peer discovery.Member, send func(to string, text []byte)) *Cluster {
	c := NewCluster()
	c.self, c.peer, c.send = self, peer, send
	c.self.Self, c.peer.Self = true, false
	return c
}

// SetKeys gives Self other gossip keys.
func (c *Cluster) SetKeys(keys ...discovery.Fingerprint) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.self.Keys = keys
}

// Announce makes records known in place of those before: of Peer, unless they name their owner.
func (c *Cluster) Announce(records ...discovery.Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remote = records
	for i := range c.remote {
		c.remote[i].VTEP = Peer.VTEP
		if c.remote[i].Owner == "" {
			c.remote[i].Owner = Peer.ID
		}
	}
}

// Networks lists the keys of the networks that Self subscribes to.
func (c *Cluster) Networks() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.networks))
}

// Network is what Self says of a network that it subscribes to.
func (c *Cluster) Network(key string) discovery.Network {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.networks[key]
}

// Own lists what Self announced in a network.
func (c *Cluster) Own(key string) []discovery.Endpoint {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Values(c.own[key]))
}

func (c *Cluster) Subscribe(n discovery.Network) error {
	if err := c.check("Subscribe"); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.networks[n.Key] = n
	if c.own[n.Key] == nil {
		c.own[n.Key] = map[discovery.MAC]discovery.Endpoint{}
	}
	return nil
}

func (c *Cluster) Unsubscribe(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.networks, key)
	delete(c.own, key)
}

func (c *Cluster) Put(key string, e discovery.Endpoint) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.own[key] == nil {
		panic(fmt.Sprintf("Put in %s, which this node does not subscribe to", key))
	}
	c.own[key][e.MAC] = e
}

func (c *Cluster) Delete(key string, mac discovery.MAC) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.own[key], mac)
}

// Resolve gives each key a VNI of its own.
func (c *Cluster) Resolve(key string) uint32 {
	vni := uint32(5000)
	for _, b := range []byte(key) {
		vni = vni*31%(datapath.MaxVNI-4096) + uint32(b)
	}
	return vni
}

func (c *Cluster) Self() discovery.Member {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.self
}

func (c *Cluster) SetMTU(mtu int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mtu = mtu
}

// MTU is what Self announced.
func (c *Cluster) MTU() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mtu
}

// Subscribers are those that Have was told of.
func (c *Cluster) Subscribers(key string) (all []discovery.Subscriber) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.theirs {
		if s.Network.Key == key {
			all = append(all, s)
		}
	}
	return all
}

// Have says what other hosts have, in place of what they had before.
func (c *Cluster) Have(theirs ...discovery.Subscriber) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.theirs = theirs
}

// Answers is true unless it was made to fail.
func (c *Cluster) Answers(string) bool { return c.check("Answers") == nil }

// CutOff makes Peer one that went down together with many others.
func (c *Cluster) CutOff() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.peer.State, c.peer.Frozen = discovery.StateDead, true
}

// Withdraw hides the records of Peer.
func (c *Cluster) Withdraw(string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.peer.Frozen = false
	for i := range c.remote {
		c.remote[i].Hidden = true
	}
	return nil
}

func (c *Cluster) Members() []discovery.Member {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.alone {
		return []discovery.Member{c.self}
	}
	return []discovery.Member{c.self, c.peer}
}

// Strangers lists one, of another cluster.
func (c *Cluster) Strangers() []discovery.Stranger { return []discovery.Stranger{Stranger} }

// Twin is one that has run on a copy of this node's data directory.
func (c *Cluster) Twin() (discovery.Twin, bool) { return Twin, true }

// Seeds lists the addresses that are to be joined.
func (c *Cluster) Seeds() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	for addr := range c.seeds {
		all = append(all, addr.String())
	}
	slices.Sort(all)
	return all
}

func (c *Cluster) AddSeed(addr netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seeds[addr] = true
}

func (c *Cluster) RemoveSeed(addr netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.seeds, addr)
}

// Forget makes Self the only member: Peer says nothing about addresses.
func (c *Cluster) Forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.alone = true
}

// KillPeer has Peer down.
func (c *Cluster) KillPeer() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.peer.State = discovery.StateDead
}

func (c *Cluster) Records() []discovery.Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := slices.Clone(c.remote)
	for key, endpoints := range c.own {
		for _, e := range endpoints {
			all = append(all, discovery.Record{Owner: Self.ID, VTEP: Self.VTEP, Network: c.networks[key], Endpoint: e})
		}
	}
	return all
}

// Complete is always so: records are there when they are announced.
func (c *Cluster) Complete(string) bool { return true }

// Claims lists those of others.
func (c *Cluster) Claims(key string, mac discovery.MAC, addrs []netip.Addr) []discovery.Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.remote), func(r discovery.Record) bool {
		has := func(addr netip.Addr) bool { return slices.Contains(addrs, addr) }
		return r.Network.Key != key || r.Endpoint.MAC != mac && !slices.ContainsFunc(r.Endpoint.Addrs, has)
	})
}

// Standing is that against Peer's records.
func (c *Cluster) Standing(key string, e discovery.Extra) (s discovery.Standing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.remote {
		if r.Network.Key != key {
			continue
		}
		if r.Endpoint.MAC == e.MAC || slices.Contains(r.Endpoint.Addrs, e.Addr) {
			s.Owned, s.Outranked = true, true
		}
		for _, x := range r.Endpoint.Extras {
			if x.Contends(e) {
				s.Seq = max(s.Seq, x.Seq+1)
				s.Outranked = s.Outranked || x.Seq > e.Seq
			}
		}
	}
	return s
}

func (c *Cluster) Conflicts() []discovery.Conflict {
	return []discovery.Conflict{{
		Member: Peer.ID, Host: Peer.Host,
		Ours:   discovery.Network{Key: "vni=5000", VNI: 5000},
		Theirs: discovery.Network{Key: "network=other", VNI: 5000},
	}}
}

// Send loses everything, unless the Cluster was made with somebody who takes it.
func (c *Cluster) Send(to string, text []byte) error {
	if err := c.check("Send"); err != nil {
		return err
	}
	if c.send != nil {
		c.send(to, text)
	}
	return nil
}

func (c *Cluster) Rejected() map[string]uint64 { return map[string]uint64{"malformed": 2} }

// Names stands for package names' server.
type Names struct {
	Faults
	mu     sync.Mutex
	served map[string][]string
}

// Served gives the keys of the networks for which each sandbox is served.
func (n *Names) Served() map[string][]string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.served)
}

func (n *Names) Serve(sandbox, network string) error {
	if err := n.check("Serve"); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.served == nil {
		n.served = map[string][]string{}
	}
	if !slices.Contains(n.served[sandbox], network) {
		n.served[sandbox] = append(n.served[sandbox], network)
	}
	return nil
}

func (n *Names) Release(sandbox, network string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	left := slices.DeleteFunc(n.served[sandbox], func(key string) bool { return key == network })
	delete(n.served, sandbox)
	if len(left) > 0 {
		n.served[sandbox] = left
	}
}

func (n *Names) Status() names.Status {
	return names.Status{Containers: len(n.Served()), Failed: map[string]string{}, Queries: map[string]uint64{"answered": 3, "busy": 0}}
}

// Datapath stands for the packet pipeline: its tables, and the taps of the host, which outlive it.
type Datapath struct {
	Faults
	Taps *Taps

	mu         sync.Mutex
	next       datapath.PortID
	networks   map[uint32]bool
	encrypted  map[uint32]bool
	ports      map[datapath.PortID]datapath.PortConfig
	vteps      map[string]bool
	macs       map[string]string
	neighbours map[string]string
	extras     map[netip.Addr]Extra
	claims     chan datapath.Claim
	changeTap  func(*datapath.TapState)
	receive    map[netip.AddrPort]int
	takeWhole  map[netip.AddrPort]bool
	sas        sas
}

// Taps are the taps of a host: alias to the path of the namespace that holds each.
type Taps struct {
	mu sync.Mutex
	at map[string]string
}

// NewTaps is a host without taps.
func NewTaps() *Taps { return &Taps{at: map[string]string{}} }

// Move puts a tap into a namespace, as Docker does after Join ("" is the daemon's own).
func (t *Taps) Move(alias, netns string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, there := t.at[alias]; !there {
		panic("no tap with alias " + alias)
	}
	t.at[alias] = netns
}

// InContainer says whether a port's tap is in another namespace than the daemon's own.
func (t *Taps) InContainer(c datapath.PortConfig) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.at[c.Alias] != "", nil
}

// Lose removes a tap, as the end of its namespace does.
func (t *Taps) Lose(alias string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.at, alias)
}

// All gives the aliases of all taps.
func (t *Taps) All() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Sorted(maps.Keys(t.at))
}

// NewDatapath is an empty pipeline on a host.
func NewDatapath(taps *Taps) *Datapath {
	return &Datapath{
		Taps: taps, networks: map[uint32]bool{}, encrypted: map[uint32]bool{}, ports: map[datapath.PortID]datapath.PortConfig{},
		vteps: map[string]bool{}, macs: map[string]string{}, neighbours: map[string]string{},
		extras: map[netip.Addr]Extra{}, claims: make(chan datapath.Claim, 256), sas: newSAs(),
	}
}

// MACs gives the FDB: "VNI MAC" to the name of a local port or the VTEP. Local ports win.
func (d *Datapath) MACs() map[string]string {
	all := clone(d, d.macs)
	for _, c := range d.Ports() {
		all[entry(c.VNI, c.MAC)] = c.Name
	}
	return all
}

// Neighbours gives "VNI ADDRESS" to the MAC. Local ports win.
func (d *Datapath) Neighbours() map[string]string {
	all := clone(d, d.neighbours)
	for _, c := range d.Ports() {
		for _, addr := range c.Addrs {
			all[entry(c.VNI, addr)] = c.MAC.String()
		}
	}
	return all
}

// VTEPs gives the flood lists: "VNI VTEP".
func (d *Datapath) VTEPs() map[string]bool { return clone(d, d.vteps) }

// Networks gives the VNIs.
func (d *Datapath) Networks() map[uint32]bool { return clone(d, d.networks) }

// Encrypted says of each VNI whether its packets are.
func (d *Datapath) Encrypted() map[uint32]bool { return clone(d, d.encrypted) }

// Ports gives the open ports' configurations.
func (d *Datapath) Ports() []datapath.PortConfig {
	return slices.Collect(maps.Values(clone(d, d.ports)))
}

func clone[K comparable, V any](d *Datapath, m map[K]V) map[K]V {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(m)
}

// set runs do under the lock unless the method is to fail.
func (d *Datapath) set(method string, do func()) error {
	if err := d.check(method); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	do()
	return nil
}

func entry(vni uint32, what fmt.Stringer) string { return fmt.Sprintf("%d %s", vni, what) }

func (d *Datapath) AddNetwork(vni uint32, encrypted bool) error {
	if err := d.check(fmt.Sprint("AddNetwork ", vni)); err != nil {
		return err
	}
	return d.set("AddNetwork", func() { d.networks[vni], d.encrypted[vni] = true, encrypted })
}

func (d *Datapath) DelNetwork(vni uint32) error {
	return d.set("DelNetwork", func() {
		delete(d.networks, vni)
		delete(d.encrypted, vni)
		prefix := fmt.Sprintf("%d ", vni)
		maps.DeleteFunc(d.vteps, func(key string, _ bool) bool { return strings.HasPrefix(key, prefix) })
		maps.DeleteFunc(d.macs, func(key, _ string) bool { return strings.HasPrefix(key, prefix) })
		maps.DeleteFunc(d.neighbours, func(key, _ string) bool { return strings.HasPrefix(key, prefix) })
	})
}

func (d *Datapath) AddVTEP(vni uint32, vtep netip.AddrPort) error {
	return d.set("AddVTEP", func() { d.vteps[entry(vni, vtep)] = true })
}

func (d *Datapath) DelVTEP(vni uint32, vtep netip.AddrPort) error {
	return d.set("DelVTEP", func() { delete(d.vteps, entry(vni, vtep)) })
}

func (d *Datapath) SetMAC(vni uint32, mac datapath.MAC, vtep netip.AddrPort) error {
	return d.set("SetMAC", func() { d.macs[entry(vni, mac)] = vtep.String() })
}

func (d *Datapath) DelMAC(vni uint32, mac datapath.MAC) error {
	return d.set("DelMAC", func() { delete(d.macs, entry(vni, mac)) })
}

func (d *Datapath) SetNeighbour(vni uint32, addr netip.Addr, mac datapath.MAC, _ bool) error {
	return d.set("SetNeighbour", func() { d.neighbours[entry(vni, addr)] = mac.String() })
}

func (d *Datapath) DelNeighbour(vni uint32, addr netip.Addr) error {
	return d.set("DelNeighbour", func() { delete(d.neighbours, entry(vni, addr)) })
}

func (d *Datapath) SetExtra(id datapath.PortID, mac datapath.MAC, addr netip.Addr, own bool) error {
	return d.set("SetExtra", func() { d.extras[addr] = Extra{id, mac, own} })
}

func (d *Datapath) DelExtra(id datapath.PortID, addr netip.Addr) error {
	return d.set("DelExtra", func() {
		if d.extras[addr].Port == id {
			delete(d.extras, addr)
		}
	})
}

// AskExtra answers for the container, unless it is to fail.
func (d *Datapath) AskExtra(id datapath.PortID, addr netip.Addr) error {
	if d.check("AskExtra") != nil {
		return nil
	}
	d.Claim(datapath.Claim{Port: id, VNI: clone(d, d.ports)[id].VNI, MAC: clone(d, d.extras)[addr].MAC, Addr: addr})
	return nil
}

// Extra is where an extra address is.
type Extra struct {
	Port datapath.PortID
	MAC  datapath.MAC
	Own  bool
}

// Extras gives the extra addresses.
func (d *Datapath) Extras() map[netip.Addr]Extra { return clone(d, d.extras) }

// Claim has a container claim an address.
func (d *Datapath) Claim(c datapath.Claim) { d.claims <- c }

func (d *Datapath) Claims(ctx context.Context) ([]datapath.Claim, error) {
	select {
	case c := <-d.claims:
		return []datapath.Claim{c}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Tap gives what Docker made of a tap, and then ChangeTaps, once it is in a container.
func (d *Datapath) Tap(c datapath.PortConfig) (datapath.TapState, error) {
	if has, _ := d.Taps.InContainer(c); !has {
		return datapath.TapState{}, datapath.ErrTapGone
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s := datapath.TapState{Name: "eth0", Up: true, MAC: c.MAC, Addrs: slices.Clone(c.Addrs)}
	if d.changeTap != nil {
		d.changeTap(&s)
	}
	return s, nil
}

// ChangeTaps has somebody change all taps in containers; nil: nobody does.
func (d *Datapath) ChangeTaps(change func(*datapath.TapState)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.changeTap = change
}

// SetReceiveMTUs keeps what it was told last, for ReceiveMTUs.
func (d *Datapath) SetReceiveMTUs(mtus map[netip.AddrPort]int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.receive = mtus
}

func (d *Datapath) ReceiveMTUs() map[netip.AddrPort]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.receive
}

// SetTakeWhole keeps what it was told last, for TakeWhole.
func (d *Datapath) SetTakeWhole(takes map[netip.AddrPort]bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.takeWhole = takes
}

func (d *Datapath) TakeWhole() map[netip.AddrPort]bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.takeWhole
}

func (d *Datapath) AddPort(c datapath.PortConfig) (id datapath.PortID, err error) {
	if err := cmp.Or(d.check("AddPort"), d.check(fmt.Sprint("AddPort ", c.VNI))); err != nil {
		return 0, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.networks[c.VNI] {
		return 0, fmt.Errorf("port %s: VNI %d: no such network", c.Name, c.VNI)
	}
	d.Taps.mu.Lock()
	defer d.Taps.mu.Unlock()
	netns := d.Taps.at[c.Alias]
	if c.Netns != "" && netns == "" {
		return 0, fmt.Errorf("port %s: %w", c.Name, datapath.ErrTapGone)
	}
	if c.Netns == "" {
		d.Taps.at[c.Alias] = ""
	}
	d.next++
	d.ports[d.next] = c
	return d.next, nil
}

func (d *Datapath) DelPort(id datapath.PortID) error {
	return d.set("DelPort", func() {
		c, open := d.ports[id]
		if !open {
			return
		}
		delete(d.ports, id)
		maps.DeleteFunc(d.extras, func(_ netip.Addr, x Extra) bool { return x.Port == id })
		d.Taps.Lose(c.Alias)
	})
}

// Stages tells one stage, measured in no time.
func (d *Datapath) Stages(_ context.Context, length time.Duration) (datapath.Stages, error) {
	stage := datapath.Stage{Name: "decap", Help: "headers off", Cycles: 2000, Packets: 10}
	return datapath.Stages{CyclesPerSecond: 1e6, Seconds: length.Seconds(), Stages: []datapath.Stage{stage}}, nil
}

// Stats shows the ports without traffic, and one table that is nearly full.
func (d *Datapath) Stats() datapath.Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := datapath.Stats{Workers: []int{0}, MbufsTotal: 1024, Drops: map[string]uint64{"spoofed_mac": 0, "vtep_unknown": 3}}
	s.Tables = []datapath.TableStats{{Name: "ports", Entries: 1, Capacity: 4096}, {Name: "neighbours", Entries: 99, Capacity: 100, NearlyFull: true}}
	s.Paths = []datapath.PathStats{{VTEP: Peer.VTEP, MTU: 1400, Learned: true, Cut: "wire lacks it"}}
	for _, id := range slices.Sorted(maps.Keys(d.ports)) {
		c := d.ports[id]
		s.Ports = append(s.Ports, datapath.PortStats{ID: id, Name: c.Name, VNI: c.VNI, MAC: c.MAC, Kind: datapath.KindTap})
	}
	return s
}

// Capture fails: a stand-in has no packets.
func (d *Datapath) Capture(datapath.CaptureConfig) (*datapath.Capture, error) {
	return nil, errors.New("no packets are captured here")
}
