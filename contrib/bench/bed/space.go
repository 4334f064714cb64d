package bed

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// Make makes network namespaces, with lo up. Those of the same names that an earlier run has left are removed first.
func Make(ctx context.Context, spaces ...string) error {
	Remove(spaces...)
	for _, space := range spaces {
		if err := Script(ctx, "ip netns add "+space, "ip -n "+space+" link set lo up"); err != nil {
			return err
		}
	}
	return nil
}

// Remove takes away what is there of them.
func Remove(spaces ...string) {
	for _, space := range spaces {
		exec.Command("ip", "netns", "del", space).Run()
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

// In is a command in a namespace.
func In(ctx context.Context, space string, command ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", space}, command...)...)
}

// Within tries until it works, as often as every 10 ms and for 10 s at most.
func Within(ctx context.Context, try func() error) error {
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
