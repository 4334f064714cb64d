// Command node measures one node of a cluster: what its daemon takes while nothing happens, with and without endpoints, and how
// long Docker, the containers and the other hosts wait for it. Hosts and containers are network namespaces but for the start of
// containers, which takes the lab's Docker engines. It wants root, iproute2, iputils-ping and the lab's image.
//
// It prints a table and a last line that starts with RESULT; every figure is the median of its rounds.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	binary := flag.String("overlane", "bin/overlane", "the `binary` to measure")
	only := flag.String("only", "", "the `stages` to run, by a regular expression: idle, addresses, kill, thousand, join, containers; all by default")
	flag.Parse()
	stages, err := regexp.Compile(*only)
	if err == nil {
		err = measure(ctx, *binary, stages)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "node:", err)
		os.Exit(1)
	}
}

// measure goes from few endpoints to many: the first host's daemon has none, then a hundred, then a thousand.
func measure(ctx context.Context, binary string, only *regexp.Regexp) (err error) {
	taken := figures{}
	c, err := newCluster(ctx, binary)
	defer func() { c.remove(err == nil) }()
	if err != nil {
		return err
	}
	for _, stage := range []struct {
		name string
		run  func(context.Context, *cluster, figures) error
	}{
		{"idle", func(ctx context.Context, c *cluster, f figures) error { return idle(ctx, c, f, 0) }},
		{"addresses", allocate},
		{"kill", kills},
		{"thousand", func(ctx context.Context, c *cluster, f figures) error { return idle(ctx, c, f, 1000) }},
		{"join", joins},
		{"containers", starts},
	} {
		if !only.MatchString(stage.name) {
			continue
		}
		fmt.Fprintln(os.Stderr, stage.name)
		if err := stage.run(ctx, c, taken); err != nil {
			return fmt.Errorf("%s: %w; the daemons' logs are in %s", stage.name, err, c.dir)
		}
	}
	taken.print(os.Stdout)
	return nil
}
