package connectivity_test

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"

	"github.com/overlane/overlane/connectivity"
	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/hostnet"
	"github.com/overlane/overlane/internal/testns"
	"github.com/overlane/overlane/names"
	"github.com/overlane/overlane/overlay"
)

const (
	appKey = "subnet=10.20.0.0/16"
	mtu    = 1450
)

// fabric is some hosts whose probes are on a bridge of the kernel's, in place of overlane's datapath.
type fabric struct {
	t     *testing.T
	wire  *hostnet.Sandbox // in which the bridge is
	names *names.Table
	hosts []*node
}

// node is one host.
type node struct {
	*connectivity.Manager
	f      *fabric
	member discovery.Member
	server *names.Server
	log    *logrus.Logger

	mu      sync.Mutex
	probes  map[*overlay.Probe]string // the bridge's ports
	has     map[string]string         // networks by name
	counted overlay.ProbeCounts
	sandbox string
	called  string          // its probe
	turns   int             // of CountProbe
	deaf    map[string]bool // members whose messages do not get here
	health  overlay.Health
	noNames string
	unwell  []overlay.Problem
	unnamed string
	// Paths of network namespaces.
	containers []string
	first      []byte // message that got here
	last       []byte
	// Those that are do not reach each other.
	isolated bool
}

func newFabric(t *testing.T, hosts int) *fabric {
	t.Helper()
	f := &fabric{t: t, names: names.NewTable()}
	var err error
	f.wire, err = hostnet.NewSandbox()
	must(t, err)
	t.Cleanup(f.wire.Close)
	f.shell("ip link add br0 type bridge", "ip link set br0 up")
	for i := range hosts {
		f.add(i + 1)
	}
	return f
}

func (f *fabric) add(number int) {
	n := &node{f: f, log: logrus.New(), probes: map[*overlay.Probe]string{}, has: map[string]string{}, deaf: map[string]bool{}}
	n.log.SetOutput(io.Discard)
	n.member = discovery.Member{
		ID: fmt.Sprintf("%032d", number), Host: fmt.Sprint("host", number), State: discovery.StateAlive, Tests: true,
		VTEP: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(number)}), 4789),
	}
	var err error
	n.server, err = names.NewServer(f.names, n.log)
	must(f.t, err)
	f.t.Cleanup(func() { n.server.Close() })
	n.Manager = connectivity.Open(connectivity.Config{
		Overlay: n, Log: n.log,
		Sandbox:   func() (connectivity.Sandbox, error) { return sandboxed(hostnet.NewSandbox()) },
		Container: func(path string) (connectivity.Sandbox, error) { return sandboxed(hostnet.OpenSandbox(path)) },
	})
	f.hosts = append(f.hosts, n)
	n.Attach(cluster{n})
	f.t.Cleanup(n.Close)
}

func sandboxed(s *hostnet.Sandbox, err error) (connectivity.Sandbox, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

// shell runs commands where the bridge is.
func (f *fabric) shell(lines ...string) {
	f.t.Helper()
	f.wire.Do(func() error { testns.Run(f.t, lines...); return nil })
}

// empty waits until nothing is left of a test.
func (f *fabric) empty() {
	f.t.Helper()
	for _, n := range f.hosts {
		wait(f.t, n.member.Host+" has no probe", func() bool {
			n.mu.Lock()
			defer n.mu.Unlock()
			return len(n.probes) == 0
		})
	}
}

// test has a host lead a test.
func (f *fabric) test(leader int, network string) connectivity.Result {
	f.t.Helper()
	for {
		r, err := f.hosts[leader].Test(f.t.Context(), connectivity.Spec{Network: network}, func(string) {})
		if err != nil && strings.Contains(err.Error(), "is under way") { // another host's, which ends
			time.Sleep(time.Millisecond)
			continue
		}
		must(f.t, err)
		return r
	}
}

// cluster is what a host sees of the others.
type cluster struct{ *node }

func (n cluster) Self() discovery.Member { return n.as() }

func (n *node) as() discovery.Member {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.member
}

func (n cluster) Members() (all []discovery.Member) {
	for _, other := range n.f.hosts {
		all = append(all, other.as())
	}
	return all
}

func (n cluster) Resolve(string) uint32 { return 5000 }

func (n cluster) Send(to string, text []byte) error {
	for _, other := range n.f.hosts {
		other.mu.Lock()
		hears := other.member.ID == to && !other.deaf[n.member.ID]
		if hears {
			other.last = slices.Clone(text)
		}
		if hears && other.first == nil {
			other.first = slices.Clone(text)
		}
		other.mu.Unlock()
		if hears {
			other.Receive(n.member.ID, slices.Clone(text))
		}
	}
	return nil
}

// The overlay.

func (n *node) AddProbe(spec overlay.ProbeSpec) (*overlay.Probe, error) {
	p := &overlay.Probe{Network: overlay.OwnKey(spec.Own.Name), Addrs: spec.Own.Addrs, MTU: mtu}
	n.mu.Lock()
	defer n.mu.Unlock()
	if spec.Network != "" {
		if n.has[spec.Network] == "" {
			return nil, fmt.Errorf("network %q: %w", spec.Network, overlay.ErrNotHere)
		}
		p.Network, p.Addrs = spec.Network, []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 20, 0, n.member.VTEP.Addr().As4()[3]}), 16)}
	}
	p.Tap = "ov" + n.member.Host
	port := "br" + n.member.Host
	n.probes[p], n.sandbox, n.called = port, spec.Sandbox.Path(), spec.Name
	return p, n.f.wire.Do(func() error {
		veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: port, MTU: mtu, TxQLen: 1000}, PeerName: p.Tap}
		if err := netlink.LinkAdd(veth); err != nil {
			return err
		}
		testns.Run(n.f.t, fmt.Sprintf("ip link set %s master br0 up", port), fmt.Sprintf("ip link set %s mtu %d alias overlane:%s", p.Tap, mtu, p.Tap))
		if err := spec.Sandbox.Move(hostnet.Interface{Name: p.Tap, Alias: "overlane:" + p.Tap, Addrs: p.Addrs}); err != nil {
			return err
		}
		if n.isolated {
			testns.Run(n.f.t, "bridge link set dev "+port+" isolated on")
		}
		id := names.ID{MAC: discovery.MAC{2, 0, 0, 0, 0, n.member.VTEP.Addr().As4()[3]}}
		n.f.names.Name(p.Network, id, []string{spec.Name})
		for _, a := range p.Addrs {
			n.f.names.Address(p.Network, a.Addr(), id)
		}
		if n.noNames != "" {
			return nil
		}
		return n.server.Serve(spec.Sandbox.Path(), p.Network)
	})
}

func (n *node) RemoveProbe(p *overlay.Probe) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	port := n.probes[p]
	delete(n.probes, p)
	n.server.Release(n.sandbox, p.Network) // its sockets would keep the namespace
	return n.f.wire.Do(func() error {
		link, err := netlink.LinkByName(port)
		if err != nil {
			return err
		}
		return netlink.LinkDel(link)
	})
}

// Announced says what the others have made.
func (n *node) Announced(_ *overlay.Probe, member, name string, addr netip.Addr) bool {
	for _, other := range n.f.hosts {
		other.mu.Lock()
		defer other.mu.Unlock()
		for p := range other.probes {
			if other.member.ID == member && other.called == name && slices.ContainsFunc(p.Addrs, func(a netip.Prefix) bool { return a.Addr() == addr }) {
				return true
			}
		}
	}
	return false
}

// CountProbe counts nothing before a test, and what was set after it.
func (n *node) CountProbe(*overlay.Probe) overlay.ProbeCounts {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.turns++
	if n.turns%2 == 1 {
		return overlay.ProbeCounts{}
	}
	return n.counted
}

func (n *node) Unapplied(*overlay.Probe) []string { return nil }

func (n *node) Otherwise(*overlay.Probe) map[string]overlay.Health { return nil }

func (n *node) Members() (all []overlay.MemberStatus) {
	for _, m := range (cluster{n}).Members() {
		all = append(all, overlay.MemberStatus{ID: m.ID, Host: m.Host, State: m.State, Health: n.health})
	}
	return all
}

func (n *node) Encryption() []overlay.EncryptionStatus { return nil }

func (n *node) Names() overlay.NamesStatus {
	return overlay.NamesStatus{Status: names.Status{Off: n.noNames}}
}

func (n *node) Sandboxes() []string { return n.containers }

func (n *node) Unnamed() string { return n.unnamed }

func (n *node) ContainerProblems() []overlay.Problem { return n.unwell }

func (n *node) NetworkNamed(text string) (string, error) {
	if key := n.has[text]; key != "" {
		return key, nil
	}
	return "", fmt.Errorf("network %q: %w", text, overlay.ErrNotHere)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wait(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not after a minute: %s", what)
		}
	}
}
