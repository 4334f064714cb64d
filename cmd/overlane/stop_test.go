package main

import (
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/names"
	"github.com/overlane/overlane/overlay"
	"github.com/overlane/overlane/overlay/overlaytest"
)

const patience = time.Minute

func quiet() *logrus.Logger {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return log
}

// member is a node of a cluster on the loopback device. Its VTEP is one of documentation's, by number.
func member(t *testing.T, number byte, observe func([]discovery.Change), join ...string) *discovery.Cluster {
	t.Helper()
	c, err := discovery.Open(discovery.Config{
		Token: token,
		Dir:   t.TempDir(), Host: string('a' + rune(number)), Bind: netip.MustParseAddrPort("127.0.0.1:0"), Join: join,
		VTEP: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, number}), 4789), Observe: observe, Log: quiet(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// running is a node with a container's endpoint, but without packets.
// token is that of the hosts that meet.
var token = discovery.NewToken()

func running(t *testing.T, observe func([]discovery.Change)) *node {
	t.Helper()
	taps := overlaytest.NewTaps()
	o, err := overlay.Open(overlay.Config{
		Dir: t.TempDir(), VTEP: overlaytest.Self.VTEP.Addr(), Datapath: overlaytest.NewDatapath(taps), InContainer: taps.InContainer, Log: quiet(),
		Table: names.NewTable(), Names: &overlaytest.Names{}, Engine: func() error { return nil }, Host: overlaytest.NewHost(taps),
		Egress:      func() (overlay.Egress, error) { return overlay.Egress{}, nil },
		UnderlayMTU: func([]netip.Addr) (int, error) { return 1500, nil },
		ReceiveMTU:  func([]netip.Addr) (int, error) { return 1500, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	n := &node{overlay: o, cluster: member(t, 1, observe)}
	o.Attach(n.cluster)
	err = o.CreateNetwork(overlay.NetworkSpec{ID: "net", Options: map[string]string{"vni": "5000"}, Pools: []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16")}})
	if err == nil {
		_, err = o.CreateEndpoint(overlay.EndpointSpec{NetworkID: "net", ID: "endpoint", Addrs: []netip.Addr{netip.MustParseAddr("10.20.0.2")}})
	}
	if err == nil {
		_, err = o.Join("net", "endpoint", "/var/run/docker/netns/0123456789ab")
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// meets is another host, which knows the node's endpoint.
func meets(t *testing.T, n *node) *discovery.Cluster {
	t.Helper()
	other := member(t, 2, nil, n.cluster.Self().Addr.String())
	if err := other.Subscribe(discovery.Network{Key: "vni=5000", VNI: 5000}); err != nil {
		t.Fatal(err)
	}
	within(t, "the other host knows the endpoint", func() bool { return len(other.Records()) == 1 })
	return other
}

func within(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

func stateOf(c *discovery.Cluster, id string) discovery.State {
	for _, m := range c.Members() {
		if m.ID == id {
			return m.State
		}
	}
	return "unknown"
}

// A stop, as an upgrade makes it, withdraws nothing: the others find the host gone, as they do when it crashes, and hide its
// endpoints only then. A host that goes takes everything back.
func TestStop(t *testing.T) {
	for name, tc := range map[string]struct {
		leaves bool
		state  discovery.State
	}{"for a restart": {false, discovery.StateDead}, "for good": {true, discovery.StateLeft}} {
		t.Run(name, func(t *testing.T) {
			n := running(t, nil)
			other, id := meets(t, n), n.cluster.Self().ID
			if err := n.stop(tc.leaves, quiet()); err != nil {
				t.Fatal(err)
			}
			if kept := len(other.Records()) == 1; !tc.leaves && (!kept || other.Records()[0].Hidden) {
				t.Error("a restart would be noticed: the endpoint is withdrawn")
			}
			within(t, "the other host finds it "+string(tc.state), func() bool {
				state := stateOf(other, id)
				if state != discovery.StateAlive && state != discovery.StateSuspect && state != tc.state {
					t.Fatalf("the other host finds it %s", state)
				}
				return state == tc.state
			})
			within(t, "no endpoint is left in use", func() bool {
				records := other.Records()
				return len(records) == 0 && tc.leaves || len(records) == 1 && records[0].Hidden && !tc.leaves
			})
		})
	}
}

// The overlay is closed before the cluster that it uses, which still tells it what other hosts announce.
func TestOverlayIsClosedFirst(t *testing.T) {
	told, observed := make(chan struct{}, 1), make(chan struct{})
	goOn := sync.OnceFunc(func() { close(observed) })
	n := running(t, func([]discovery.Change) {
		select {
		case told <- struct{}{}:
		default:
		}
		<-observed
	})
	meets(t, n)
	defer goOn()
	<-told
	closed := make(chan error, 1)
	go func() { closed <- n.close() }()
	// The cluster's end waits for the observer.
	within(t, "the overlay is closed", func() bool {
		_, err := n.overlay.AllocateNetwork("another", map[string]string{"vni": "6000"})
		return err != nil
	})
	goOn()
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// A host is to be back as long as a container of it is on a network.
func TestLeaves(t *testing.T) {
	n := running(t, nil)
	if n.leaves(nil) || !n.leaves(errLeave) {
		t.Errorf("with a container: leaves %t, by `overlane leave` %t", n.leaves(nil), n.leaves(errLeave))
	}
	if err := n.overlay.Leave("net", "endpoint"); err != nil {
		t.Fatal(err)
	}
	if !n.leaves(nil) {
		t.Error("without a container it does not leave")
	}
}

// The host goes when systemd says so; one without systemd merely stops its daemon.
func TestHostShutsDown(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir+":/bin:/usr/bin")
	for script, want := range map[string]bool{
		"echo stopping; exit 1": true,
		"echo degraded; exit 1": false,
		"echo running":          false,
		"exit 1":                false,
	} {
		if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		if got := hostShutsDown(); got != want {
			t.Errorf("%s: %t, want %t", script, got, want)
		}
	}
	t.Setenv("PATH", t.TempDir())
	if hostShutsDown() {
		t.Error("without systemd the host shuts down")
	}
}
