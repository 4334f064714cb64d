// Package overlay is overlane's domain: the networks and endpoints that Docker asked for, kept in a store under the
// data directory, and the reconciler that turns what discovery learns from other hosts into datapath entries.
//
// A network has a lock of its own, held for the length of a call, but not while another host is asked for something.
// Nothing here calls Docker: it waits for the answer.
package overlay

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/overlane/overlane/capture"
	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/hostnet"
	"github.com/overlane/overlane/names"
	"github.com/overlane/overlane/networks"
	"github.com/overlane/overlane/overlay/ipam"
	"github.com/overlane/overlane/overlay/ipam/prefix"
)

// Cluster is what overlay needs of discovery.
type Cluster interface {
	Subscribe(discovery.Network) error
	Unsubscribe(key string)
	Put(key string, e discovery.Endpoint)
	Delete(key string, mac discovery.MAC)
	Resolve(key string) uint32
	Subscribers(key string) []discovery.Subscriber
	Self() discovery.Member
	Members() []discovery.Member
	Strangers() []discovery.Stranger
	Twin() (twin discovery.Twin, found bool)
	Records() []discovery.Record
	Complete(key string) bool
	Claims(key string, mac discovery.MAC, addrs []netip.Addr) []discovery.Record
	Standing(key string, e discovery.Extra) discovery.Standing
	Answers(member string) bool
	Withdraw(member string) error
	Conflicts() []discovery.Conflict
	Rejected() map[string]uint64
	Send(member string, text []byte) error
	SetMTU(mtu int)
}

// Datapath is what overlay needs of the packet pipeline. A port's own MAC and addresses win over what SetMAC and
// SetNeighbour say of them; those come into force when the port goes.
type Datapath interface {
	AddNetwork(vni uint32, encrypted bool) error
	DelNetwork(vni uint32) error
	AddPort(datapath.PortConfig) (datapath.PortID, error)
	DelPort(datapath.PortID) error
	AddVTEP(vni uint32, vtep netip.AddrPort) error
	DelVTEP(vni uint32, vtep netip.AddrPort) error
	SetMAC(vni uint32, mac datapath.MAC, vtep netip.AddrPort) error
	DelMAC(vni uint32, mac datapath.MAC) error
	SetNeighbour(vni uint32, addr netip.Addr, mac datapath.MAC, extra bool) error
	DelNeighbour(vni uint32, addr netip.Addr) error
	SetExtra(id datapath.PortID, mac datapath.MAC, addr netip.Addr, own bool) error
	DelExtra(id datapath.PortID, addr netip.Addr) error
	AskExtra(id datapath.PortID, addr netip.Addr) error
	Claims(context.Context) ([]datapath.Claim, error)
	Tap(datapath.PortConfig) (datapath.TapState, error)
	SetReceiveMTUs(map[netip.AddrPort]int)
	SetTakeWhole(map[netip.AddrPort]bool)
	NewSA(datapath.SAConfig) (*datapath.SA, error)
	FreeSA(*datapath.SA) // it is in no VTEP's set
	SetSAs(vtep netip.AddrPort, out *datapath.SA, in []*datapath.SA) error
	Stats() datapath.Stats
	Stages(context.Context, time.Duration) (datapath.Stages, error)
	Capture(datapath.CaptureConfig) (*datapath.Capture, error)
}

// Names is what overlay needs of package names, beside its table.
type Names interface {
	// Serve answers a container's queries, also for a network; the same again changes nothing.
	Serve(sandbox, network string) error
	Release(sandbox, network string)
	Status() names.Status
}

// Config says how to open an Overlay.
type Config struct {
	Dir         string // data directory
	VTEP        netip.Addr
	UnderlayMTU func(peers []netip.Addr) (int, error)   // bytes of IP packet on the paths to other VTEPs
	ReceiveMTU  func(peers []netip.Addr) (int, error)   // bytes of IP packet that the VTEP's device receives; 0: not known
	InContainer func(datapath.PortConfig) (bool, error) // whether a container has a port's tap, or may have it
	Egress      func() (Egress, error)                  // see DockerEgress
	Datapath    Datapath
	Table       *names.Table                           // who is called what
	Names       Names                                  // answers from it
	Host        Host                                   // for attachments, and rules of its firewall
	Engine      func() error                           // why Docker's engine does not tell what containers are called; nil: it does
	Everywhere  func() error                           // why no network is made on all hosts from here; nil: it is. See package networks
	Defined     func(name string) *networks.Definition // one that is on all hosts; nil: none is called so
	Version     string                                 // shown by Status
	Defaults    []prefix.DefaultPool
	Static      []discovery.Static // endpoints of VTEPs that speak no gossip
	Joins       bool               // the daemon was told of hosts to join
	Insecure    bool               // the cluster is open: whoever reaches it would get keys
	Encrypt     bool               // each network that is made here is encrypted
	Cipher      int                // of encrypted networks: bytes of its key, 16 or 32; 0: 16
	Whole       bool               // other hosts may capture whole packets here, not their headers alone
	Log         logrus.FieldLogger
}

// Overlay holds this host's networks and endpoints.
type Overlay struct {
	cfg     Config
	log     logrus.FieldLogger
	store   *store
	cluster Cluster // set by Attach
	started time.Time
	ctx     context.Context // until Close
	cancel  context.CancelFunc
	running sync.WaitGroup
	failure chan struct{} // something is to be tried again

	addresses  *ipam.Manager
	encryption *encryption
	captures   atomic.Pointer[capture.Manager] // nil before Attach
	engine     engine
	inUseCache inUseCache
	attached   attached
	spoofable  atomic.Pointer[string] // why the rules against forged VXLAN are not in force; empty: they are
	mu         sync.RWMutex           // guards networks; held to write while one is made or removed
	networks   map[string]*network    // by Docker's NetworkID
}

// Open reads the store and takes back the networks and endpoints that it holds: their ports work when Open returns.
// Nothing is announced before Attach.
func Open(cfg Config) (*Overlay, error) {
	st, err := openStore(cfg.Dir, cfg.Log)
	if err != nil {
		return nil, err
	}
	o := &Overlay{cfg: cfg, log: cfg.Log, store: st, started: time.Now(), failure: make(chan struct{}, 1), networks: map[string]*network{}, encryption: newEncryption()}
	o.engine.named, o.engine.asked = map[string]bool{}, map[netip.Prefix]int{}
	o.attached.interfaces, o.attached.written = map[string]hostnet.Interface{}, true
	o.ctx, o.cancel = context.WithCancel(context.Background())
	o.addresses, err = ipam.Open(ipam.Config{DB: st.db, Defaults: cfg.Defaults, Seeded: cfg.Joins, Taken: usedSubnets, InUse: o.inUse, Lost: o.fence, Log: cfg.Log})
	if err == nil {
		err = o.restore()
	}
	if err != nil {
		st.close()
		return nil, fmt.Errorf("restore from %s: %w", st.path, err)
	}
	return o, nil
}

// Attach announces the networks and the joined endpoints to the cluster. It is called once, before any other call of
// Docker's is let in. A network that the cluster refuses keeps working on this host alone until it is taken.
func (o *Overlay) Attach(c Cluster) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cluster = c
	o.addresses.Attach(c)
	o.encryption.attach(&o.cfg, c.Self())
	o.captures.Store(capture.NewManager(capture.Config{Capture: o.openCapture, Send: c.Send, Whole: o.cfg.Whole, Called: o.hostCalled, Log: o.log}))
	o.running.Go(o.runGarbage)
	o.running.Go(o.runInterfaces)
	o.running.Go(o.runNames)
	o.running.Go(o.runAntispoof)
	o.running.Go(o.runClaims)
	o.running.Go(o.runExtras)
	o.running.Go(o.runMTU)
	o.running.Go(o.runAttachments)
	for _, n := range o.networks {
		n.mu.Lock()
		o.bringUp(n)
		n.mu.Unlock()
	}
	o.running.Go(o.runReconciler)
	o.running.Go(o.runEncryption)
}

// Used says whether this host has networks, or pools of addresses for them.
func (o *Overlay) Used() bool {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return len(o.networks) > 0 || o.addresses.Used()
}

// Close ends what Attach began, and closes the store. The datapath's taps stay.
func (o *Overlay) Close() error {
	o.cancel()
	o.running.Wait()
	if m := o.captures.Load(); m != nil {
		m.Close()
	}
	o.addresses.Close()
	return o.store.close()
}

// short is a Docker ID as people know it.
func short(id string) string { return id[:min(len(id), shortID)] }
