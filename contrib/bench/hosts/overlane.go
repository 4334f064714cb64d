package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/overlane/overlane/contrib/bench/bed"
)

// idleWindow is how long the daemons are watched while the containers have nothing to say.
const idleWindow = 10 * time.Second

// overlanePair is two daemons, each in its host's namespace with a CPU for its worker, driven as Docker drives them.
type overlanePair struct {
	pair
	dir     string
	daemons [2]bed.Daemon
}

func overlane(ctx context.Context, binary string) (*overlanePair, error) {
	p := &overlanePair{}
	made, err := newPair(ctx, "overlane")
	p.pair = *made
	if err != nil {
		return p, err
	}
	if p.dir, err = os.MkdirTemp("", "overlane-bench"); err != nil {
		return p, err
	}
	for i := range p.daemons {
		p.daemons[i] = bed.Daemon{Binary: binary, Space: p.hosts[i], Dir: filepath.Join(p.dir, fmt.Sprint(i)), Host: wire[i], Join: wire[0], CPU: i}
		if err := p.daemons[i].Start(ctx); err != nil {
			return p, err
		}
	}
	for i := range p.daemons {
		if err := p.daemons[i].Network(ctx, bed.ID(i), "10.62.0.0/24", vni); err != nil {
			return p, err
		}
	}
	for n, box := range p.boxes {
		err := p.daemons[n%2].Attach(ctx, bed.Endpoint{Network: bed.ID(n % 2), ID: bed.ID(n), Address: boxAddr[n] + "/24", MAC: boxMAC[n], Sandbox: "/run/netns/" + box})
		if err != nil {
			return p, err
		}
	}
	return p, bed.Within(ctx, func() error {
		return errors.Join(p.ping(ctx, 0, 1), p.ping(ctx, 2, 3))
	})
}

func (p *overlanePair) ping(ctx context.Context, from, to int) error {
	return bed.In(ctx, p.boxes[from], "ping", "-q", "-c", "1", "-W", "1", boxAddr[to]).Run()
}

// idle is the busier daemon's share of a core while its containers have nothing to say, in per cent.
func (p *overlanePair) idle(ctx context.Context) (float64, error) {
	return bed.Idle(ctx, idleWindow, &p.daemons[0], &p.daemons[1])
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
