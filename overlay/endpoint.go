package overlay

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/time/rate"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/discovery"
)

// EndpointState is where an endpoint stands: created by CreateEndpoint, joined by Join, created again by Leave, and
// unknown after DeleteEndpoint.
type EndpointState string

// The states of an endpoint.
const (
	StateCreated EndpointState = "created" // has a port; no container answers, so nothing is announced
	StateJoined  EndpointState = "joined"  // belongs to a sandbox, and is announced as soon as its port works
)

// Endpoint is one container's interface in a network of this host, or the host's own, as it is stored.
type Endpoint struct {
	ID        string        `json:"id"` // Docker's EndpointID
	NetworkID string        `json:"network_id"`
	MAC       discovery.MAC `json:"mac"`
	Addrs     []netip.Addr  `json:"addrs"` // at most one of each family
	State     EndpointState `json:"state"`
	Sandbox   string        `json:"sandbox,omitempty"` // path of the container's network namespace, while joined
	Seq       uint32        `json:"seq"`               // mobility sequence number last announced (RFC 7432 section 15)
	MTU       int           `json:"mtu,omitempty"`     // of its interface; 0: its network's, as older versions have it

	Trust     Trust             `json:"trust,omitempty"`      // empty: none
	Names     string            `json:"names,omitempty"`      // of its container, as discovery.Endpoint has them
	LinkLocal []netip.Addr      `json:"link_local,omitempty"` // of `docker run --link-local-ip`: its own like Addrs
	Extras    []discovery.Extra `json:"extras,omitempty"`     // that its container claimed
	Native    *Native           `json:"native,omitempty"`     // nil: its port is a tap
	Host      *HostInterface    `json:"host,omitempty"`       // nil: it is a container's
}

// Tap is the name of the endpoint's interface until Docker renames it: at most 15 bytes (IFNAMSIZ of linux/if.h).
func (ep *Endpoint) Tap() string {
	if ep.Host != nil {
		return ep.Host.Name
	}
	return "ov" + ep.ID[:min(len(ep.ID), 11)]
}

// Interface is what Docker is to move into the container: the tap, or nothing.
func (ep *Endpoint) Interface() string {
	if ep.Native != nil {
		return ""
	}
	return ep.Tap()
}

// container is what it is called; empty: that is not known.
func (ep *Endpoint) container() string {
	name, _, _ := strings.Cut(ep.Names, " ")
	return name
}

// alias is by what the tap is found again, whatever it is called by then (IFLA_IFALIAS).
func (ep *Endpoint) alias() string { return "overlane:" + ep.ID }

func (ep *Endpoint) record() discovery.Endpoint {
	return discovery.Endpoint{ID: ep.ID, MAC: ep.MAC, Addrs: slices.Concat(ep.Addrs, ep.LinkLocal), Seq: ep.Seq, Extras: ep.Extras, Names: ep.Names}
}

// endpoint is an Endpoint at work.
type endpoint struct {
	Endpoint
	hasPort       bool // false after a start that could not take the tap back
	port          datapath.PortID
	probe         bool // see probe.go
	removed       bool // though that may have failed: its container is gone
	setUp         bool // of an attachment: the interface has all that it is to have
	announced     bool
	was           string          // what its container was called last, now that it has left
	takenBy       string          // the host that has taken over one of its addresses; empty: none has
	retry         retry           // of these
	changed       time.Time       // when it was created, joined, or taken from the store: its container may be about to start
	joined        time.Time       // zero: before this daemon started
	orphanedSince time.Time       // no container has it since then; zero: one has. See garbage.go
	seen, iface   InterfaceStatus // at the last look, and by two. See interfaces.go

	unanswered map[netip.Addr]int // questions for each extra address. See extra.go
	full       bool               // it has been said that it has no room for more
	changes    *rate.Limiter      // of its extra addresses; nil: there were none yet
	hasty      time.Time          // when it was last said that they are too many
}

// EndpointSpec is Docker's wish for an endpoint.
type EndpointSpec struct {
	NetworkID string
	ID        string
	MAC       discovery.MAC // zero: any
	Addrs     []netip.Addr
	Options   map[string]string // of `docker run --network name=NETWORK,driver-opt=OPTION=VALUE`
}

// CreateEndpoint makes an endpoint and its tap in the daemon's namespace. The same wish again succeeds and gives the
// same endpoint.
func (o *Overlay) CreateEndpoint(spec EndpointSpec) (Endpoint, error) {
	if err := spec.check(); err != nil {
		return Endpoint{}, err
	}
	o.engine.names(spec.NetworkID)
	opts, err := endpointOptions.parse(spec.Options)
	if err != nil {
		return Endpoint{}, fmt.Errorf("endpoint %s: %w", short(spec.ID), err)
	}
	native, err := opts.native()
	if err != nil {
		return Endpoint{}, fmt.Errorf("endpoint %s: %w", short(spec.ID), err)
	}
	ep := &endpoint{Endpoint: Endpoint{ID: spec.ID, NetworkID: spec.NetworkID, MAC: spec.MAC, Addrs: spec.Addrs, State: StateCreated, Native: native}, changed: time.Now()}
	if spec.MAC == (discovery.MAC{}) {
		ep.MAC = newMAC(spec.Addrs)
	}
	unreachable := o.unreachableOwners(&ep.Endpoint)
	underlay, err := o.cfg.UnderlayMTU(o.peers()) // which takes its time where there are many peers: nobody is to wait for it
	if err != nil {
		underlay = 0
		o.log.WithError(err).WithField("endpoint", short(ep.ID)).Warn("a container gets the MTU that its network was made with")
	}
	n, unlock, err := o.lock(spec.NetworkID)
	if err != nil {
		return Endpoint{}, err
	}
	defer unlock()
	ep.Trust = cmp.Or(opts.trust, n.Trust)
	if n.Space != dockerSpace {
		ep.Names = o.askedFor(spec.Addrs)
	}
	if old := n.endpoints[spec.ID]; old != nil {
		if slices.Equal(old.Addrs, spec.Addrs) && (old.MAC == spec.MAC || spec.MAC == discovery.MAC{}) {
			return old.Endpoint, nil
		}
		return Endpoint{}, fmt.Errorf("endpoint %s: exists with MAC %s and addresses %v, asked for again with MAC %s and addresses %v",
			short(spec.ID), old.MAC, old.Addrs, spec.MAC, spec.Addrs)
	}
	if err := o.evictStale(n, ep.Addrs); err != nil {
		return Endpoint{}, err
	}
	if err := o.checkConflicts(n, &ep.Endpoint, unreachable); err != nil {
		return Endpoint{}, err
	}
	ep.MTU = o.todaysMTU(n, underlay)
	return ep.Endpoint, o.create(n, ep)
}

func (spec *EndpointSpec) check() error {
	switch {
	case spec.ID == "":
		return errors.New("endpoint ID is empty")
	case spec.MAC[0]&1 != 0:
		return fmt.Errorf("MAC address %s: want a unicast --mac-address, with an even first byte", spec.MAC)
	case len(spec.Addrs) == 0:
		return fmt.Errorf("endpoint %s: has no IP address, by which other hosts would find it: create the network with an --ipam-driver that gives addresses, such as overlane", short(spec.ID))
	}
	return nil
}

// newMAC chooses a MAC as Docker does: 02:42 and the IPv4 address, which makes it unique in the network. Without an
// IPv4 address it is random, of the locally administered kind.
func newMAC(addrs []netip.Addr) discovery.MAC {
	for _, addr := range addrs {
		if addr.Is4() {
			ip := addr.As4()
			return discovery.MAC{0x02, 0x42, ip[0], ip[1], ip[2], ip[3]}
		}
	}
	var mac discovery.MAC
	rand.Read(mac[:]) // never fails (crypto/rand)
	mac[0] = mac[0]&^1 | 2
	return mac
}

// create stores an endpoint before it opens the port, so that no tap is ever left without an owner.
func (o *Overlay) create(n *network, ep *endpoint) error {
	if err := o.store.put(bucketEndpoints, ep.ID, ep.Endpoint); err != nil {
		return err
	}
	n.giveWay(o, ep)
	if err := o.openPort(n, ep, ""); err != nil {
		return errors.Join(err, o.store.delete(bucketEndpoints, ep.ID))
	}
	n.endpoints[ep.ID] = ep
	o.inUseCache.changes.Add(1)
	n.logOf(ep).WithFields(logrus.Fields{"mac": ep.MAC, "addrs": ep.Addrs}).Info("endpoint created")
	return nil
}

func (o *Overlay) openPort(n *network, ep *endpoint, netns string) error {
	if ep.Host != nil {
		if err := o.shut(ep); err != nil {
			return err
		}
	}
	port, err := o.cfg.Datapath.AddPort(n.portConfig(ep, netns))
	if err != nil {
		return err
	}
	ep.port, ep.hasPort = port, true
	o.restoreExtras(n, ep)
	return nil
}

func (n *network) portConfig(ep *endpoint, netns string) datapath.PortConfig {
	return datapath.PortConfig{
		Name:  ep.Tap(),
		Alias: ep.alias(),
		Netns: netns,
		VNI:   n.VNI,
		MAC:   datapath.MAC(ep.MAC),
		Addrs: ep.Addrs,
		MTU:   cmp.Or(ep.MTU, n.MTU),
		Trust: trustLevels[cmp.Or(ep.Trust, TrustNone)],

		Native: ep.Native.config(),
	}
}

// Join gives an endpoint to a sandbox and announces it. Docker joins an endpoint that is joined already when its Leave
// did not get here: the new sandbox replaces the old one.
func (o *Overlay) Join(networkID, id, sandbox string) (Endpoint, error) {
	o.engine.names(networkID)
	var known Endpoint
	o.withEndpoint(networkID, id, func(_ *network, ep *endpoint) error {
		known = ep.Endpoint
		return nil
	})
	unreachable := o.unreachableOwners(&known)
	n, unlock, err := o.lock(networkID)
	if err != nil {
		return Endpoint{}, err
	}
	defer unlock()
	ep := n.endpoints[id]
	if ep == nil {
		return Endpoint{}, fmt.Errorf("endpoint %s: not known in network %s on this host: remove the container and create it again", short(id), short(networkID))
	}
	if err := o.bringUpEndpoint(n, ep); err != nil {
		return Endpoint{}, fmt.Errorf("endpoint %s: its tap can't be opened, remove the container and create it again: %w", short(id), err)
	}
	if !ep.hasPort {
		return Endpoint{}, fmt.Errorf("endpoint %s: its network does not work yet, `overlane status` shows why: %w", short(id), n.retry.err)
	}
	ep.retry = retry{}
	if ep.takenBy != "" {
		return Endpoint{}, o.fenced(n, ep)
	}
	if err := o.checkConflicts(n, &ep.Endpoint, unreachable); err != nil {
		return Endpoint{}, err
	}
	ep.changed = time.Now()
	joined := ep.Endpoint
	joined.State, joined.Sandbox, joined.Seq = StateJoined, sandbox, o.nextSeq(n, &ep.Endpoint)
	if err := o.store.put(bucketEndpoints, id, joined); err != nil {
		return Endpoint{}, err
	}
	if ep.Sandbox != "" && ep.Sandbox != sandbox { // Leave was lost
		o.cfg.Names.Release(ep.Sandbox, n.Key)
	}
	ep.Endpoint = joined
	ep.announced, ep.joined = false, time.Now()
	ep.seen, ep.iface = InterfaceStatus{}, InterfaceStatus{}
	o.nameLocal(n, ep)
	n.logOf(ep).WithField("sandbox", sandbox).Info("endpoint joined")
	if ep.Native == nil {
		port := n.portConfig(ep, sandbox)
		o.running.Go(func() { o.settle(networkID, joined, port) })
	}
	return joined, o.bringUpEndpoint(n, ep)
}

// Joined says whether a container of this host is on a network, or the host itself.
func (o *Overlay) Joined() bool {
	o.mu.RLock()
	defer o.mu.RUnlock()
	for _, n := range o.networks {
		n.mu.Lock()
		joined := slices.ContainsFunc(slices.Collect(maps.Values(n.endpoints)), func(ep *endpoint) bool { return ep.State == StateJoined })
		n.mu.Unlock()
		if joined {
			return true
		}
	}
	return false
}

// Leave takes an endpoint from its sandbox and withdraws what was announced. One that is not known is no error.
func (o *Overlay) Leave(networkID, id string) error {
	return o.withEndpoint(networkID, id, func(n *network, ep *endpoint) error {
		o.withdraw(n, ep)
		if err := o.store.put(bucketEndpoints, id, ep.Endpoint); err != nil {
			return err
		}
		n.logOf(ep).Info("endpoint left")
		return nil
	})
}

// DeleteEndpoint removes an endpoint and its tap, wherever that is. One that is not known is no error.
func (o *Overlay) DeleteEndpoint(networkID, id string) error {
	return o.withEndpoint(networkID, id, o.remove)
}

// withEndpoint calls do with the network locked, or does nothing when the network or the endpoint is not known.
func (o *Overlay) withEndpoint(networkID, id string, do func(*network, *endpoint) error) error {
	n, unlock, err := o.lock(networkID)
	if err != nil {
		return nil
	}
	defer unlock()
	if ep := n.endpoints[id]; ep != nil {
		return do(n, ep)
	}
	return nil
}

// remove gives back all that an endpoint holds. What fails leaves the endpoint in place, to be removed again.
func (o *Overlay) remove(n *network, ep *endpoint) error {
	ep.removed = true
	o.inUseCache.changes.Add(1)
	o.withdraw(n, ep)
	if ep.hasPort {
		if err := o.cfg.Datapath.DelPort(ep.port); err != nil {
			return err
		}
		ep.hasPort = false
	}
	if err := o.store.delete(bucketEndpoints, ep.ID); err != nil {
		return err
	}
	delete(n.endpoints, ep.ID)
	o.inUseCache.changes.Add(1)
	n.logOf(ep).Info("endpoint deleted")
	if ep.Host != nil {
		return o.unshut(ep)
	}
	return nil
}

// lock finds a network and locks it against other calls.
func (o *Overlay) lock(id string) (n *network, unlock func(), err error) {
	o.mu.RLock()
	n = o.networks[id]
	if n == nil {
		o.mu.RUnlock()
		return nil, nil, fmt.Errorf("network %s: not known to overlane on this host: remove it and create it again", short(id))
	}
	n.mu.Lock()
	return n, func() { n.mu.Unlock(); o.mu.RUnlock() }, nil
}

func (n *network) logOf(ep *endpoint) logrus.FieldLogger {
	log := n.log.WithField("endpoint", short(ep.ID))
	if name := ep.container(); name != "" {
		log = log.WithField("container", name)
	}
	return log
}

// container is what its container is called, or was when it left; empty where that is not known.
func (ep *endpoint) container() string { return cmp.Or(ep.Endpoint.container(), ep.was) }
