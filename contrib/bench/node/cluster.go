package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/vishvananda/netns"

	"github.com/overlane/overlane/contrib/bench/testbed"
	"github.com/overlane/overlane/discovery"
)

const (
	wireNS = "bench-node-wire"
	subnet = "10.64.0.0/16"
	vni    = 4098
)

// cluster is three hosts on a wire with one network. The daemon of the first is the one to be measured, the second has
// one container, and the third's is not started.
type cluster struct {
	dir        string
	daemons    [3]testbed.Daemon
	pool       string           // from which the first two have their addresses
	containers []netns.NsHandle // of the first host, a container each
	last       string           // address of the last of them
}

func hostNS(i int) string { return fmt.Sprintf("bench-node-host-%d", i) }

// farNS is the container of the second host.
const farNS = "bench-node-far"

func newCluster(ctx context.Context, binary string) (*cluster, error) {
	c := &cluster{}
	if err := makeWire(ctx, len(c.daemons)); err != nil {
		return c, err
	}
	if err := testbed.AddNamespaces(ctx, farNS); err != nil {
		return c, err
	}
	var err error
	if c.dir, err = os.MkdirTemp("", "overlane-bench"); err != nil {
		return c, err
	}
	token := discovery.NewToken().Text()
	for i := range c.daemons {
		c.daemons[i] = testbed.Daemon{Binary: binary, Namespace: hostNS(i), Dir: filepath.Join(c.dir, fmt.Sprint(i)),
			Host: hostAddress(i), Join: hostAddress(0), CPU: i % runtime.NumCPU(), Token: token}
	}
	for i := range c.daemons[:2] {
		if err := c.daemons[i].Start(ctx); err != nil {
			return c, err
		}
		if c.pool, err = c.daemons[i].Pool(ctx, subnet); err != nil {
			return c, err
		}
		if err := c.network(ctx, i); err != nil {
			return c, err
		}
	}
	_, err = c.container(ctx, 1, 0, "/run/netns/"+farNS)
	return c, err
}

func (c *cluster) network(ctx context.Context, i int) error {
	return c.daemons[i].Network(ctx, testbed.ID(i), subnet, vni)
}

// container gives host i one more, and says at which address.
func (c *cluster) container(ctx context.Context, i, n int, sandbox string) (string, error) {
	address, err := c.daemons[i].Address(ctx, c.pool)
	if err != nil {
		return "", err
	}
	err = c.daemons[i].Attach(ctx, testbed.Endpoint{Network: testbed.ID(i), ID: testbed.ID(n), Address: address.String(), Sandbox: sandbox})
	return address.Addr().String(), err
}

// populate has the first host have so many containers.
func (c *cluster) populate(ctx context.Context, count int) error {
	for n := len(c.containers); n < count; n++ {
		ns, err := newContainerNS()
		if err != nil {
			return err
		}
		c.containers = append(c.containers, ns)
		c.last, err = c.container(ctx, 0, n, fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns))
		if err != nil {
			return err
		}
	}
	return testbed.Eventually(ctx, func() error { return knows(ctx, &c.daemons[1], 2, count) })
}

// knows demands that a daemon knows so many hosts that are up, itself included, and so many endpoints of others.
func knows(ctx context.Context, d *testbed.Daemon, hosts, endpoints int) error {
	s, err := d.Status(ctx)
	if err != nil {
		return err
	}
	up := 0
	for _, m := range s.Members {
		if m.State == "alive" {
			up++
		}
	}
	if up != hosts || len(s.Remote) != endpoints {
		return fmt.Errorf("%s knows %d hosts and %d endpoints of others, not %d and %d", d.Namespace, up, len(s.Remote), hosts, endpoints)
	}
	return nil
}

// remove keeps the daemons' logs unless all is well.
func (c *cluster) remove(well bool) {
	for i := range c.daemons {
		c.daemons[i].End(syscall.SIGTERM)
	}
	for _, ns := range c.containers {
		ns.Close()
	}
	testbed.DelNamespaces(wireNS, farNS, hostNS(0), hostNS(1), hostNS(2))
	if well {
		os.RemoveAll(c.dir)
	}
}
