package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/overlane/overlane/internal/lab"
)

const (
	labName    = "bench-node"
	startPairs = 15
)

// starts takes what `docker run --detach` takes with a network of overlane's and with a bridge of the engine's own, in turn.
func starts(ctx context.Context, _ *cluster, taken figures) (err error) {
	defer func() { err = errors.Join(err, lab.Down(context.WithoutCancel(ctx), labName)) }()
	c, err := lab.Up(ctx, lab.Options{Name: labName, Hosts: 2})
	if err != nil {
		return err
	}
	for _, h := range c.Hosts {
		if _, err := h.Docker(ctx, "network", "create", "-d", "overlane", "--ipam-driver", "overlane", "--subnet", "10.20.0.0/24", "app"); err != nil {
			return err
		}
	}
	h := c.Hosts[0]
	if _, err := h.Docker(ctx, "network", "create", "-d", "bridge", "plain"); err != nil {
		return err
	}
	for pair := range startPairs {
		for _, kind := range []struct{ key, network string }{{"bridge_start_ms", "plain"}, {"start_ms", "app"}} {
			took, err := startTime(ctx, h, fmt.Sprint(kind.network, pair), kind.network)
			if err != nil {
				return err
			}
			taken.note(kind.key, milliseconds(took))
		}
	}
	return nil
}

func startTime(ctx context.Context, h *lab.Host, name, network string) (time.Duration, error) {
	began := time.Now()
	container, err := h.Run(ctx, name, "--network", network)
	took := time.Since(began)
	if err != nil {
		return 0, err
	}
	return took, container.Remove(ctx)
}
