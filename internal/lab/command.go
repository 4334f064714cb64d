package lab

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// CommandError tells which command failed, and what it had to say about it.
type CommandError struct {
	Args   []string
	Stdout string
	Stderr string
	Err    error
}

func (e *CommandError) Error() string {
	said := e.Stderr
	if said == "" {
		said = e.Stdout
	}
	return fmt.Sprintf("%s: %v: %s", strings.Join(e.Args, " "), e.Err, strings.TrimSpace(said))
}

func (e *CommandError) Unwrap() error { return e.Err }

// run gives what the command wrote to its standard output, without the last newline.
func run(cmd *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", &CommandError{Args: cmd.Args, Stdout: stdout.String(), Stderr: stderr.String(), Err: err}
	}
	return strings.TrimSuffix(stdout.String(), "\n"), nil
}

func docker(ctx context.Context, args ...string) (string, error) {
	return run(exec.CommandContext(ctx, "docker", args...))
}
