//go:build lab

package lab

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// registry runs an image registry on this machine until the test ends, and gives its port.
func registry(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", ":0")
	must(t, err)
	port := l.Addr().(*net.TCPAddr).Port
	must(t, l.Close())
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yml")
	must(t, os.WriteFile(config, fmt.Appendf(nil, "version: 0.1\nlog: {level: warn, accesslog: {disabled: true}}\nhttp: {addr: ':%d'}\nstorage: {filesystem: {rootdirectory: %s}}\n", port, dir), 0o600))
	serve := exec.CommandContext(t.Context(), "docker-registry", "serve", config)
	serve.Stdout, serve.Stderr = t.Output(), t.Output()
	must(t, serve.Start())
	t.Cleanup(func() { serve.Wait() }) // the test's context has ended it
	eventually(t, "the registry answers", settled, func() error {
		answer, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/v2/", port))
		if err == nil {
			err = answer.Body.Close()
		}
		return err
	})
	return port
}

// pushPlugin has the managed plugin built and taken to a registry, and gives the name by which the hosts find it there.
func pushPlugin(t *testing.T, c *Cluster) string {
	t.Helper()
	port := registry(t)
	push := exec.CommandContext(t.Context(), "make", "--no-print-directory", "-C", "../..", "plugin-push", fmt.Sprintf("REGISTRY=127.0.0.1:%d", port))
	push.Stdout, push.Stderr = t.Output(), t.Output()
	must(t, push.Run())
	machine := shell(t, c.Hosts[0], "ip -4 route show default | cut -d' ' -f3")
	return fmt.Sprintf("%s:%d/overlane:latest", machine, port)
}
