package overlay_test

import (
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/names"
	"github.com/overlane/overlane/networks"
	"github.com/overlane/overlane/overlay"
	"github.com/overlane/overlane/overlay/overlaytest"
)

const (
	netID = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	epID  = "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"
	ep2ID = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
	alias = "overlane:" + epID

	key     = "vni=5000"
	sandbox = "/var/run/docker/netns/0123456789ab"
)

var errFault = errors.New("fault asked for")

// host is one Docker host: what outlives the daemon, and the daemon.
type host struct {
	*overlay.Overlay
	t           *testing.T
	dir         string
	taps        *overlaytest.Taps
	cluster     *overlaytest.Cluster
	datapath    *overlaytest.Datapath
	table       *names.Table
	names       *overlaytest.Names
	own         *overlaytest.Host
	defined     func(string) *networks.Definition
	vtep        netip.Addr
	egress      overlay.Egress
	encrypt     bool
	insecure    bool
	mtu         int
	routes      func()       // looked at meanwhile
	receives    atomic.Int64 // its device's MTU
	inContainer func(datapath.PortConfig) (bool, error)
	newCluster  func() *overlaytest.Cluster
	cipher      int
	opened      func(*overlay.Overlay) // before it is attached
	logTo       io.Writer
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := newHostAs(t)
	h.start()
	t.Cleanup(func() { h.Close() })
	return h
}

// newHostAs is a host whose daemon was not started yet.
func newHostAs(t *testing.T) *host {
	h := &host{t: t, dir: t.TempDir(), taps: overlaytest.NewTaps(), vtep: overlaytest.Self.VTEP.Addr(), mtu: 1500, routes: func() {}}
	h.logTo = io.Discard
	h.defined = func(string) *networks.Definition { return nil }
	h.inContainer, h.own = h.taps.InContainer, overlaytest.NewHost(h.taps)
	h.receives.Store(1500)
	h.newCluster, h.opened = overlaytest.NewCluster, func(*overlay.Overlay) {}
	return h
}

// start starts the daemon; restart kills it before.
func (h *host) start() {
	h.t.Helper()
	h.cluster, h.datapath = h.newCluster(), overlaytest.NewDatapath(h.taps)
	h.open()
	h.opened(h.Overlay)
	h.Attach(h.cluster)
}

func (h *host) open() {
	h.t.Helper()
	log := logrus.New()
	log.SetOutput(h.logTo)
	h.table, h.names = names.NewTable(), &overlaytest.Names{}
	o, err := overlay.Open(overlay.Config{
		Dir: h.dir, VTEP: h.vtep, Datapath: h.datapath, Table: h.table, Names: h.names, Version: "test", Log: log,
		Engine:      func() error { return nil },
		Host:        h.own,
		Defined:     func(name string) *networks.Definition { return h.defined(name) },
		Egress:      func() (overlay.Egress, error) { return h.egress, nil },
		UnderlayMTU: func([]netip.Addr) (int, error) { h.routes(); return h.mtu, nil },
		ReceiveMTU:  func([]netip.Addr) (int, error) { return int(h.receives.Load()), nil },
		InContainer: h.inContainer,
		Cipher:      h.cipher,
		Encrypt:     h.encrypt,
		Insecure:    h.insecure,
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.Overlay = o
}

func (h *host) restart() {
	h.t.Helper()
	if err := h.Close(); err != nil {
		h.t.Fatal(err)
	}
	h.start()
}

func (h *host) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// network creates network netID with VNI 5000.
func (h *host) network() {
	h.t.Helper()
	h.must(h.CreateNetwork(spec("vni", "5000")))
}

// spec is netID with options given as names and values in turn.
func spec(options ...string) overlay.NetworkSpec {
	s := overlay.NetworkSpec{ID: netID, Options: map[string]string{}, Pools: []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16")}}
	for pair := range slices.Chunk(options, 2) {
		s.Options[pair[0]] = pair[1]
	}
	return s
}

func (h *host) create(id, addr string) overlay.Endpoint {
	h.t.Helper()
	ep, err := h.CreateEndpoint(endpointSpec(id, addr))
	h.must(err)
	return ep
}

// run creates and joins an endpoint, and moves its tap as Docker does.
func (h *host) run(id, addr string) overlay.Endpoint {
	h.t.Helper()
	h.create(id, addr)
	ep, err := h.Join(netID, id, sandbox)
	h.must(err)
	h.taps.Move("overlane:"+id, sandbox)
	return ep
}

func endpointSpec(id, addr string) overlay.EndpointSpec {
	return overlay.EndpointSpec{NetworkID: netID, ID: id, Addrs: []netip.Addr{netip.MustParseAddr(addr)}}
}

// empty checks that nothing is left of what was made in network netID.
func (h *host) empty() {
	h.t.Helper()
	if taps := h.taps.All(); len(taps) > 0 {
		h.t.Errorf("taps left: %v", taps)
	}
	if ports := h.datapath.Ports(); len(ports) > 0 {
		h.t.Errorf("ports left: %v", ports)
	}
	if own := h.cluster.Own(key); len(own) > 0 {
		h.t.Errorf("records left: %v", own)
	}
	if eps := h.Status().Endpoints; len(eps) > 0 {
		h.t.Errorf("endpoints left: %v", eps)
	}
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q lacks %q", err, part)
		}
	}
}

// rival is a record of the other host.
func rival(mac, addr string, seq uint32, hidden bool) discovery.Record {
	m, err := discovery.ParseMAC(mac)
	if err != nil {
		panic(err)
	}
	return discovery.Record{
		Network:  discovery.Network{Key: key, VNI: 5000},
		Endpoint: discovery.Endpoint{ID: "dddddddddddddddd", MAC: m, Addrs: []netip.Addr{netip.MustParseAddr(addr)}, Seq: seq},
		Hidden:   hidden,
	}
}

// wait asks until it is so, for twenty seconds at most.
func wait(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
