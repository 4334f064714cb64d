package lab

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

const (
	// commandTimeout bounds what a command may take: one that hangs must fail with its name and what it has said so far.
	commandTimeout = 2 * time.Minute
	// outputTimeout bounds the wait for the output of a command that has ended: a child that it left may keep it open.
	outputTimeout = 5 * time.Second
)

// CommandError tells which command failed, and what it had to say about it.
type CommandError struct {
	Args   []string
	Stdout string
	Stderr string
	Err    error
}

func (e *CommandError) Error() string {
	return fmt.Sprintf("%s: %v: %s", strings.Join(e.Args, " "), e.Err, strings.TrimSpace(e.Stderr+"\n"+e.Stdout))
}

func (e *CommandError) Unwrap() error { return e.Err }

// run gives what the command wrote to its standard output, without the last newline.
func run(cmd *exec.Cmd) (string, error) { return runWithin(commandTimeout, cmd) }

// runWithin does so within a limit of its own.
func runWithin(limit time.Duration, cmd *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := runGroup(limit, cmd); err != nil {
		return "", &CommandError{Args: cmd.Args, Stdout: stdout.String(), Stderr: stderr.String(), Err: err}
	}
	return strings.TrimSuffix(stdout.String(), "\n"), nil
}

// runGroup runs a command, and kills it with all that it has started when its time is up.
func runGroup(limit time.Duration, cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = outputTimeout
	if err := cmd.Start(); err != nil {
		return err
	}
	deadline := time.AfterFunc(limit, func() { cmd.Cancel() })
	err := cmd.Wait()
	if !deadline.Stop() {
		return fmt.Errorf("not done after %v: %w", limit, err)
	}
	return err
}

func docker(ctx context.Context, args ...string) (string, error) {
	return run(exec.CommandContext(ctx, "docker", args...))
}
