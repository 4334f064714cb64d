package main

import (
	"context"
	"fmt"
	"time"

	"github.com/overlane/overlane/datapath"
)

// encryptedFigures are those of an encrypted network, the kernel's overlay without offloads, and overlane's own plain network by the
// same sockets.
type encryptedFigures struct{ ours, theirs, plain map[string][]float64 }

// compareEncrypted measures these in turn.
func compareEncrypted(ctx context.Context, binary string, window time.Duration, rounds int) (encryptedFigures, error) {
	f := encryptedFigures{map[string][]float64{}, map[string][]float64{}, map[string][]float64{}}
	theirs, err := withoutOffloads(ctx)
	defer theirs.remove()
	if err != nil {
		return f, fmt.Errorf("overlay without offloads: %w", err)
	}
	ours, err := overlane(ctx, "encrypted", binary, "", "encrypted")
	defer ours.remove()
	if err != nil {
		return f, fmt.Errorf("overlane, encrypted: %w", err)
	}
	plain, err := overlane(ctx, "sockets", binary, datapath.UnderlayUDP)
	defer plain.remove()
	if err != nil {
		return f, fmt.Errorf("overlane by sockets: %w", err)
	}
	for round := range rounds {
		for _, side := range []struct {
			pair  *pair
			taken map[string][]float64
		}{{&ours.pair, f.ours}, {theirs, f.theirs}, {&plain.pair, f.plain}} {
			tell(round, rounds, side.pair)
			if err := measureEncrypted(ctx, side.pair, window, side.taken); err != nil {
				return f, fmt.Errorf("%s: %w", side.pair.name, err)
			}
		}
	}
	return f, nil
}

// fullPacket is what fits a packet of an encrypted network, without its headers.
const fullPacket = 1380

func measureEncrypted(ctx context.Context, p *pair, window time.Duration, taken map[string][]float64) error {
	for _, streams := range []int{1, 4} {
		gbps, cpu, err := tcp(ctx, p, onOtherHost, window, streams)
		if err != nil {
			return err
		}
		note(taken, fmt.Sprintf("tcp%d_gbps", streams), gbps)
		if streams == 1 {
			note(taken, "cpu_s_per_gb", cpu)
		}
	}
	kpps, err := udp(ctx, p, onOtherHost, window, fullPacket)
	if err != nil {
		return err
	}
	note(taken, "udp1380_kpps", kpps)
	p50, p99, err := latency(ctx, p, onOtherHost, window)
	note(taken, "p50_us", p50)
	note(taken, "p99_us", p99)
	return err
}

func note(taken map[string][]float64, name string, value float64) {
	taken[name] = append(taken[name], value)
}
