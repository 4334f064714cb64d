//go:build lab

package lab

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// pluginTimeout bounds what it takes to build the managed plugin.
const pluginTimeout = 10 * time.Minute

// registry serves the managed plugin to all tests that ask for it.
var registry pluginRegistry

// pluginRegistry is an image registry on this machine.
type pluginRegistry struct {
	mu    sync.Mutex
	serve *exec.Cmd
	dir   string
	port  int // once it has the plugin
}

// plugin gives the name by which the hosts find the managed plugin in the registry. The first call builds it.
func (r *pluginRegistry) plugin(t *testing.T, c *Cluster) string {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.port == 0 {
		must(t, r.close())
		port := r.open(t)
		_, err := runWithin(pluginTimeout, exec.CommandContext(t.Context(),
			"make", "--no-print-directory", "-C", "../..", "plugin-push", fmt.Sprint("REGISTRY=127.0.0.1:", port)))
		must(t, err)
		r.port = port
	}
	machine := shell(t, c.Hosts[0], "ip -4 route show default | cut -d' ' -f3")
	return fmt.Sprintf("%s:%d/overlane:latest", machine, r.port)
}

// open starts an empty registry, and gives its port.
func (r *pluginRegistry) open(t *testing.T) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", ":0")
	must(t, err)
	port = l.Addr().(*net.TCPAddr).Port
	must(t, l.Close())
	r.dir, err = os.MkdirTemp("", "registry")
	must(t, err)
	config := filepath.Join(r.dir, "config.yml")
	must(t, os.WriteFile(config, fmt.Appendf(nil, "version: 0.1\nlog: {level: warn, accesslog: {disabled: true}}\nhttp: {addr: ':%d'}\nstorage: {filesystem: {rootdirectory: %s}}\n", port, r.dir), 0o600))
	serve := exec.Command("docker-registry", "serve", config)
	must(t, serve.Start())
	r.serve = serve
	client := http.Client{Timeout: time.Second}
	eventually(t, "the registry answers", settleTimeout, func() error {
		answer, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/v2/", port))
		if err == nil {
			err = answer.Body.Close()
		}
		return err
	})
	return port
}

// close ends a registry that was opened.
func (r *pluginRegistry) close() error {
	if r.serve == nil {
		return nil
	}
	err := r.serve.Process.Kill()
	r.serve.Wait() // says that it was killed
	err = errors.Join(err, os.RemoveAll(r.dir))
	r.serve, r.port = nil, 0
	return err
}
