// Command hosts compares overlane with the plumbing of Docker's own overlay driver: two hosts on a veth wire of MTU 1500,
// traffic from a container on the one to a container on the other, alone and beside a flood between two more. Hosts and
// containers are network namespaces; both contenders stand at the same time and are measured in turn, round by round. It wants
// root, iproute2, iperf3 and sockperf.
//
// It prints a table and a last line that starts with RESULT; every figure is the median of its rounds.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == floodWord {
		fmt.Fprintln(os.Stderr, "hosts: flood:", sendFlood(os.Args[2]))
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	binary := flag.String("overlane", "bin/overlane", "the `binary` to measure")
	seconds := flag.Int("seconds", 4, "length of each measurement")
	rounds := flag.Int("rounds", 3, "rounds, of which the median is taken")
	flag.Parse()
	if *seconds < 1 || *rounds < 1 || flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "hosts: -seconds %d -rounds %d: want 1 or more of each, and no other argument\n", *seconds, *rounds)
		os.Exit(2)
	}
	if err := compare(ctx, *binary, time.Duration(*seconds)*time.Second, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "hosts:", err)
		os.Exit(1)
	}
}

func compare(ctx context.Context, binary string, window time.Duration, rounds int) error {
	theirs, err := kernelOverlay(ctx, "overlay")
	defer theirs.remove()
	if err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	ours, err := overlane(ctx, "overlane", binary, "")
	defer ours.remove()
	if err != nil {
		return fmt.Errorf("overlane: %w", err)
	}
	idle, err := ours.idle(ctx)
	if err != nil {
		return err
	}
	here, err := measureMachine()
	if err != nil {
		return err
	}
	report := newReport(idle, here)
	for round := range rounds {
		for _, side := range []struct {
			pair  *pair
			taken map[string][]float64
		}{{&ours.pair, report.ours}, {theirs, report.theirs}} {
			tell(round, rounds, side.pair)
			if err := measure(ctx, side.pair, window, side.taken); err != nil {
				return fmt.Errorf("%s: %w", side.pair.name, err)
			}
		}
	}
	report.encrypted, err = compareEncrypted(ctx, binary, window, rounds)
	if err != nil {
		return err
	}
	report.print(os.Stdout)
	return nil
}

func tell(round, rounds int, p *pair) {
	fmt.Fprintf(os.Stderr, "round %d of %d: %s\n", round+1, rounds, p.name)
}
