package testbed

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// AddNamespaces makes network namespaces, with lo up. Those of the same names that an earlier run has left are removed first.
func AddNamespaces(ctx context.Context, namespaces ...string) error {
	DelNamespaces(namespaces...)
	for _, ns := range namespaces {
		if err := Script(ctx, "ip netns add "+ns, "ip -n "+ns+" link set lo up"); err != nil {
			return err
		}
	}
	return nil
}

// DelNamespaces takes away what is there of them.
func DelNamespaces(namespaces ...string) {
	for _, ns := range namespaces {
		exec.Command("ip", "netns", "del", ns).Run()
	}
}

// Script runs commands, one a line, until the first that fails.
func Script(ctx context.Context, lines ...string) error {
	for _, line := range lines {
		if out, err := exec.CommandContext(ctx, "sh", "-c", line).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", line, err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}

// Command is a command in a namespace.
func Command(ctx context.Context, ns string, command ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", ns}, command...)...)
}

// Eventually tries until it works, as often as every 10 ms and for 10 s at most.
func Eventually(ctx context.Context, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		err := try()
		if err == nil || ctx.Err() != nil {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}
