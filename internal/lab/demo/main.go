// Command demo starts two Docker hosts with overlane, shows what a network between them does, and leaves them up.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/overlane/overlane/internal/lab"
)

const cluster = "overlane-demo"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 1 && args[0] == "up":
		return up(ctx)
	case len(args) == 1 && args[0] == "down":
		return lab.Down(ctx, cluster)
	default:
		return fmt.Errorf("arguments %q: want \"up\" or \"down\"", args)
	}
}

func up(ctx context.Context) error {
	fmt.Println("=== three Docker hosts on a wire")
	c, err := lab.Up(ctx, lab.Options{Name: cluster, Hosts: 3})
	if err != nil {
		return err
	}
	for _, h := range c.Hosts {
		fmt.Printf("    %s: %s, %s\n", h.Name, h.Addr, h.Addr6)
	}
	if err := lab.Demo(ctx, c, 10, os.Stdout); err != nil {
		return err
	}
	fmt.Printf(`
=== yours to play with
    docker exec -it %[1]s bash
    docker exec -it %[1]s docker exec -it red sh
    docker exec %[1]s overlane status
and make demo-down removes it all.

DEMO OK
`, c.Hosts[0].Name)
	return nil
}
