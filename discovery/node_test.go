package discovery

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
)

// What the tests that run real nodes have in common.

const appKey = "network=app"

var appNet = Network{Key: appKey, VNI: 5000}

// testNode is a node and what its observer has been told.
type testNode struct {
	*Cluster
	t      *testing.T
	listen listener
	cfg    Config
	logged *lockedBuffer

	mu      sync.Mutex
	vteps   map[string]bool // "VNI vtep"
	macs    map[string]string
	addrs   map[string]string
	history []Change
}

type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

func (n *testNode) observe(changes []Change) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, ch := range changes {
		n.history = append(n.history, ch)
		vni := fmt.Sprint(ch.Network.VNI, " ")
		switch ch.Kind {
		case KindVTEP:
			n.vteps[vni+ch.VTEP.String()] = true
			if ch.Gone {
				delete(n.vteps, vni+ch.VTEP.String())
			}
		case KindMAC:
			n.macs[vni+ch.MAC.String()] = ch.VTEP.String()
			if ch.Gone {
				delete(n.macs, vni+ch.MAC.String())
			}
		case KindAddr:
			n.addrs[vni+ch.Addr.String()] = ch.MAC.String()
			if ch.Gone {
				delete(n.addrs, vni+ch.Addr.String())
			}
		}
	}
}

func (n *testNode) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.history = nil
}

func (n *testNode) gone() []Change {
	n.mu.Lock()
	defer n.mu.Unlock()
	var gone []Change
	for _, ch := range n.history {
		if ch.Gone {
			gone = append(gone, ch)
		}
	}
	return gone
}

func (n *testNode) viewSize() (vteps, macs, addrs int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.vteps), len(n.macs), len(n.addrs)
}

func (n *testNode) mac(e Endpoint) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.macs[fmt.Sprint(appNet.VNI, " ", e.MAC)]
}

func (n *testNode) wait(within time.Duration, what string, ok func() bool) time.Duration {
	n.t.Helper()
	start := time.Now()
	for !ok() {
		if time.Since(start) > within {
			n.t.Fatalf("not within %s: %s\nmembers %+v\nrecords %d\nlog:\n%s", within, what, n.Members(), len(n.Records()), n.logged)
		}
		<-time.After(time.Millisecond)
	}
	return time.Since(start)
}

func (n *testNode) waitView(within time.Duration, vteps, macs, addrs int) time.Duration {
	n.t.Helper()
	return n.wait(within, fmt.Sprintf("%d VTEPs, %d MACs, %d addresses", vteps, macs, addrs), func() bool {
		v, m, a := n.viewSize()
		return v == vteps && m == macs && a == addrs
	})
}

func (n *testNode) waitState(within time.Duration, of *testNode, s State) time.Duration {
	n.t.Helper()
	id := of.Self().ID
	return n.wait(within, fmt.Sprintf("%s is %s", of.cfg.Host, s), func() bool {
		return slices.ContainsFunc(n.Members(), func(m Member) bool { return m.ID == id && m.State == s })
	})
}

type nodeOption func(*Config)

func withKey(key string) nodeOption {
	return func(c *Config) { c.Token, c.Insecure = tokenOf(key), false }
}

func tokenOf(key string) Token { return Token{key: []byte(key), made: 1} }

func withJoin(nodes ...*testNode) nodeOption {
	return func(c *Config) {
		for _, n := range nodes {
			c.Join = append(c.Join, n.Self().Addr.String())
		}
	}
}

func startNode(t *testing.T, listen listener, number int, options ...nodeOption) *testNode {
	t.Helper()
	n := &testNode{t: t, listen: listen, logged: &lockedBuffer{}, vteps: map[string]bool{}, macs: map[string]string{}, addrs: map[string]string{}}
	log := logrus.New()
	log.SetOutput(n.logged)
	log.SetLevel(logrus.DebugLevel)
	n.cfg = Config{
		Dir:      t.TempDir(),
		Host:     fmt.Sprint("host", number),
		Bind:     netip.MustParseAddrPort("127.0.0.1:0"),
		VTEP:     netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(number)}), 4789),
		Insecure: true,
		Log:      log,
		Observe:  n.observe,
	}
	for _, o := range options {
		o(&n.cfg)
	}
	n.open()
	return n
}

func (n *testNode) open() {
	n.t.Helper()
	c, err := open(n.cfg, n.listen)
	if err != nil {
		n.t.Fatal(err)
	}
	n.Cluster = c
	n.t.Cleanup(func() { c.Close() })
}

// restart starts the same node again, on the same port and directory, after a
// crash. The observer starts anew, as that of a new process does.
func (n *testNode) restart() {
	n.t.Helper()
	n.restartAt(n.Self().Addr)
}

func (n *testNode) restartAt(bind netip.AddrPort) {
	n.t.Helper()
	n.cfg.Bind = bind
	if err := n.Close(); err != nil {
		n.t.Fatal(err)
	}
	n.mu.Lock()
	clear(n.vteps)
	clear(n.macs)
	clear(n.addrs)
	n.mu.Unlock()
	n.open()
}

func (n *testNode) subscribe(networks ...Network) {
	n.t.Helper()
	for _, network := range networks {
		if err := n.Subscribe(network); err != nil {
			n.t.Fatal(err)
		}
	}
}

// testEndpoint is endpoint i of a host, with an IPv4 and an IPv6 address.
func testEndpoint(host, i int) Endpoint {
	return Endpoint{
		ID:  fmt.Sprintf("%064x", host<<16|i),
		MAC: MAC{2, 0, byte(host), 0, byte(i >> 8), byte(i)},
		Addrs: []netip.Addr{
			netip.AddrFrom4([4]byte{10, byte(host), byte(i >> 8), byte(i)}),
			netip.AddrFrom16([16]byte{0: 0xfd, 13: byte(host), 14: byte(i >> 8), 15: byte(i)}),
		},
	}
}
