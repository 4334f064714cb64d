//go:build lab

package lab

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// inspection is what somebody would type on a host after a failure.
const inspection = `exec 2>&1
pid=$(pidof -s overlane || echo 1)
for command in 'overlane status' 'overlane status records' 'overlane ipam' 'overlane token list'; do
	echo "# $command"
	nsenter -t $pid -m $command
done
for command in 'docker ps -a' 'docker network ls' 'docker plugin ls' 'ip address' 'ps -ef'; do
	echo "# $command"
	timeout 10 $command
done
true`

// saveLogs keeps what tells why a test has failed, in a folder for each host.
func saveLogs(t *testing.T, c *Cluster) {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("../../ci-logs", strings.ReplaceAll(t.Name(), "/", "-")))
	must(t, err)
	must(t, os.RemoveAll(dir))
	err = each(c.Hosts, func(h *Host) error { return h.save(lasting(t), filepath.Join(dir, h.Name)) })
	t.Logf("what the hosts have logged, and how things stand there, is in %s", dir)
	if err != nil {
		t.Logf("but for this: %v", err)
	}
}

// save copies the logs of the daemon and the engine, those of a dead host too, what the host itself has said, and how things
// stand on it.
func (h *Host) save(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	_, saidErr := run(exec.CommandContext(ctx, "sh", "-c", `docker logs "$0" >"$1" 2>&1`, h.Name, filepath.Join(dir, "host.log")))
	_, daemonErr := docker(ctx, "cp", h.Name+":/var/log/overlane.log", dir)
	_, engineErr := docker(ctx, "cp", h.Name+":/var/log/dockerd.log", dir)
	state, err := h.Exec(ctx, "sh", "-c", inspection)
	return errors.Join(saidErr, daemonErr, engineErr, err, os.WriteFile(filepath.Join(dir, "state"), []byte(state), 0o644))
}
