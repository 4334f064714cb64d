package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/overlane/overlane/contrib/bench/testbed"
	"github.com/overlane/overlane/discovery"
)

// idleWindow is how long the daemons are watched while the containers have nothing to say.
const idleWindow = 10 * time.Second

// overlanePair is two daemons, each in its host's namespace with a CPU for its worker, driven as Docker drives them.
type overlanePair struct {
	pair
	dir     string
	daemons [2]testbed.Daemon
}

func overlane(ctx context.Context, name, binary, underlay string, options ...string) (*overlanePair, error) {
	p := &overlanePair{}
	made, err := newPair(ctx, name)
	p.pair = *made
	if err != nil {
		return p, err
	}
	if p.dir, err = os.MkdirTemp("", "overlane-bench"); err != nil {
		return p, err
	}
	token := discovery.NewToken().Text()
	for i := range p.daemons {
		p.daemons[i] = testbed.Daemon{Binary: binary, Namespace: p.hosts[i], Dir: filepath.Join(p.dir, fmt.Sprint(i)), Host: wire[i], Join: wire[0], CPU: i, Token: token, Underlay: underlay}
		if err := p.daemons[i].Start(ctx); err != nil {
			return p, err
		}
	}
	for i := range p.daemons {
		if err := p.daemons[i].Network(ctx, testbed.ID(i), "10.62.0.0/24", vni, options...); err != nil {
			return p, err
		}
	}
	for n, container := range p.containers {
		err := p.daemons[n%2].Attach(ctx, testbed.Endpoint{Network: testbed.ID(n % 2), ID: testbed.ID(n), Address: containerAddr[n] + "/24", MAC: containerMAC[n], Sandbox: "/run/netns/" + container})
		if err != nil {
			return p, err
		}
	}
	return p, testbed.Eventually(ctx, func() error {
		return errors.Join(p.ping(ctx, 0, 1), p.ping(ctx, 2, 3))
	})
}

func (p *overlanePair) ping(ctx context.Context, from, to int) error {
	return testbed.Command(ctx, p.containers[from], "ping", "-q", "-c", "1", "-W", "1", containerAddr[to]).Run()
}

// idle is the busier daemon's share of a core while its containers have nothing to say, in per cent.
func (p *overlanePair) idle(ctx context.Context) (float64, error) {
	return testbed.Idle(ctx, idleWindow, &p.daemons[0], &p.daemons[1])
}

func (p *overlanePair) remove() {
	for i := range p.daemons {
		p.daemons[i].End(syscall.SIGTERM)
	}
	p.pair.remove()
	if p.dir != "" {
		os.RemoveAll(p.dir)
	}
}
